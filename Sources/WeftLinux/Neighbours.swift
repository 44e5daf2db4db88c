// Other programs' firewalls that drop what the mesh needs: an accept of ours is not final across tables, a drop of theirs is.

import CLinux
import Glibc
import Netlink
import WeftModel
import WeftPlan

/// Looks through the base chains of all tables but Weft's own.
///
/// A chain that drops by default is said to stand against the mesh for as long as none of its rules, nor of those that it
/// leads to, names the mesh's interface, the port, or `weft` in a comment. What such a rule does is not followed further.
struct Neighbours {
    let channel: Channel
    let interface: String
    let flows: Set<DesiredState.Flow>
    /// The number of our link, 0 where there is none. Asked only where a chain drops.
    let index: () -> UInt32

    func read() throws(DataplaneError) -> [ForeignObject] {
        if flows.isEmpty { return [] }
        do throws(NetlinkError) {
            return try chains()
        } catch {
            // A kernel without nf_tables has no such chains.
            if error.meansNoNfTables { return [] }
            throw DataplaneError(error, Request(.readTable, "read the chains of other tables"))
        }
    }

    private var port: UInt16? {
        for flow in flows { if case .listen(let port) = flow { return port } }
        return nil
    }

    private func chains() throws(NetlinkError) -> [ForeignObject] {
        var reading = NeighbourChainReading()
        try channel.dump(UInt16(nfTables: NFT_MSG_GETCHAIN), into: &reading) {
            $0.putNetfilterHeader(family: UInt8(AF_UNSPEC))
        }
        var found: [ForeignObject] = []
        let own = "weft-\(interface)"
        for chain in reading.chains where !(chain.table == own && chain.family == UInt8(NFPROTO_INET)) {
            guard let base = chain.base, base.kind == .filter, isConcerned(base.hook) else { continue }
            let inTable = reading.chains.filter { $0.family == chain.family && $0.table == chain.table }
            if let object = try examine(chain, base, inTable) { found.append(object) }
        }
        return found
    }

    private func isConcerned(_ hook: FirewallChain.Base.Hook) -> Bool {
        switch hook {
        case .input: port != nil || flows.contains(.deliver)
        case .forward: flows.contains(.forward)
        case .output: true
        case .prerouting, .postrouting: false
        }
    }

    /// Reads a base chain, and where it drops by default what it leads to.
    private func examine(
        _ chain: NeighbourChain, _ base: FirewallChain.Base, _ inTable: [NeighbourChain]
    ) throws(NetlinkError) -> ForeignObject? {
        var search = NeighbourSearch(interface: interface, index: 0, port: port)
        var (namesInterface, namesPort) = (false, false)
        var sets: Set<String> = []
        var seen: Set<String> = [chain.name]
        var waiting = [chain.name]
        if !base.dropsByDefault, try !rules(of: chain.name, in: chain, search).refusesTheRest { return nil }
        search.index = index()
        while let name = waiting.popLast() {
            let rules = try rules(of: name, in: chain, search)
            namesInterface = namesInterface || rules.namesInterface
            namesPort = namesPort || rules.namesPort
            sets.formUnion(rules.sets)
            let next = rules.hasMap ? Set(inTable.lazy.filter { $0.base == nil }.map(\.name)) : rules.next
            for name in next.subtracting(seen).sorted() {
                seen.insert(name)
                waiting.append(name)
            }
        }
        if !(namesInterface && namesPort) {
            for set in sets.sorted() {
                var elements = NeighbourElementReading(search)
                try dump(NFT_MSG_GETSETELEM, of: chain, into: &elements) { encoder in
                    encoder.text(NFTA_SET_ELEM_LIST_TABLE, chain.table)
                    encoder.text(NFTA_SET_ELEM_LIST_SET, set)
                }
                namesInterface = namesInterface || elements.namesInterface
                namesPort = namesPort || elements.namesPort
            }
        }
        let program = Program(chain, base.hook, inTable)
        return object(chain, base.hook, program, lacksInterface: !namesInterface, lacksPort: !namesPort)
    }

    private func rules(
        of name: String, in chain: NeighbourChain, _ search: NeighbourSearch
    ) throws(NetlinkError) -> NeighbourRuleReading {
        var reading = NeighbourRuleReading(search)
        try dump(NFT_MSG_GETRULE, of: chain, into: &reading) { encoder in
            encoder.text(NFTA_RULE_TABLE, chain.table)
            encoder.text(NFTA_RULE_CHAIN, name)
        }
        return reading
    }

    private func dump<Consumer: MessageConsumer>(
        _ message: nf_tables_msg_types, of chain: NeighbourChain, into consumer: inout Consumer,
        _ body: (inout Encoder) -> Void
    ) throws(NetlinkError) {
        do throws(NetlinkError) {
            try channel.dump(UInt16(nfTables: message), into: &consumer) { encoder in
                encoder.putNetfilterHeader(family: chain.family)
                body(&encoder)
            }
        } catch {
            // What has gone meanwhile is in nobody's way.
            if error.errno?.rawValue == ENOENT { return consumer.reset() }
            throw error
        }
    }

    // MARK: What is said

    private func object(
        _ chain: NeighbourChain, _ hook: FirewallChain.Base.Hook, _ program: Program, lacksInterface: Bool,
        lacksPort: Bool
    ) -> ForeignObject? {
        var dropped: [String] = []
        var commands: [String] = []
        switch hook {
        case .forward:
            guard lacksInterface else { return nil }
            dropped.append("what is forwarded from and to \(interface)")
            commands = program.forwardCommands(interface, chain)
        case .input:
            if let port, lacksPort {
                dropped.append("the tunnel's own packets to UDP port \(port)")
                commands += program.listenCommands(port, chain)
            }
            if flows.contains(.deliver), lacksInterface {
                dropped.append("what comes in by \(interface) for this host")
                commands += program.deliverCommands(interface, chain)
            }
        default:
            guard lacksInterface else { return nil }
            dropped.append("what goes out by \(interface)")
            commands = program.outputCommands(interface, chain)
        }
        if dropped.isEmpty { return nil }
        commands += program.lastCommand
        let maker = program.name.map { " (\($0))" } ?? ""
        return ForeignObject(
            kind: "chain",
            description: "\(chain.familyName) \(chain.table) \(chain.name)\(maker) drops "
                + dropped.joined(separator: ", and "),
            relation: .hinders, remedy: "Let it through: `\(commands.joined(separator: "; "))`.")
    }

    /// Who keeps a chain, and how a person tells that program to let something through.
    enum Program {
        case firewalld, docker, ufw, iptables, nft

        init(_ chain: NeighbourChain, _ hook: FirewallChain.Base.Hook, _ inTable: [NeighbourChain]) {
            func has(_ test: (String) -> Bool) -> Bool { inTable.contains { test($0.name) } }
            if chain.table == "firewalld" {
                self = .firewalld
            } else if hook == .forward, has({ $0 == "DOCKER-USER" }) {
                self = .docker
            } else if has({ $0.hasPrefix("ufw-") || $0.hasPrefix("ufw6-") }) {
                self = .ufw
            } else if chain.table == "filter", chain.family != UInt8(NFPROTO_INET),
                ["INPUT", "FORWARD", "OUTPUT"].contains(chain.name)
            {
                self = .iptables
            } else {
                self = .nft
            }
        }

        var name: String? {
            switch self {
            case .firewalld: "firewalld"
            case .docker: "Docker"
            case .ufw: "ufw"
            case .iptables: "iptables"
            case .nft: nil
            }
        }

        var lastCommand: [String] { self == .firewalld ? ["firewall-cmd --reload"] : [] }

        func listenCommands(_ port: UInt16, _ chain: NeighbourChain) -> [String] {
            switch self {
            case .firewalld: ["firewall-cmd --permanent --add-port=\(port)/udp"]
            case .ufw: ["ufw allow \(port)/udp"]
            case .docker, .iptables: ["\(chain.iptables) -I \(chain.name) -p udp --dport \(port) -j ACCEPT"]
            case .nft: ["nft insert rule \(chain.nftName) udp dport \(port) accept"]
            }
        }

        func deliverCommands(_ interface: String, _ chain: NeighbourChain) -> [String] {
            switch self {
            case .firewalld: ["firewall-cmd --permanent --zone=trusted --add-interface=\(interface)"]
            case .ufw: ["ufw allow in on \(interface)"]
            case .docker, .iptables: ["\(chain.iptables) -I \(chain.name) -i \(interface) -j ACCEPT"]
            case .nft: ["nft insert rule \(chain.nftName) iifname \(interface) accept"]
            }
        }

        func forwardCommands(_ interface: String, _ chain: NeighbourChain) -> [String] {
            switch self {
            case .firewalld:
                // The zone lets out of the mesh, the policy into it. A call does one thing only, and the name of a policy
                // has at most 11 characters: one for all meshes.
                [
                    "--zone=trusted --add-interface=\(interface)", "--new-policy=weft",
                    "--policy=weft --add-ingress-zone=ANY", "--policy=weft --add-egress-zone=trusted",
                    "--policy=weft --set-target=ACCEPT",
                ].map { "firewall-cmd --permanent \($0)" }
            case .ufw: ["ufw route allow in on \(interface)", "ufw route allow out on \(interface)"]
            case .docker:
                ["i", "o"].map { "\(chain.iptables) -I DOCKER-USER -\($0) \(interface) -j ACCEPT" }
            case .iptables:
                ["i", "o"].map { "\(chain.iptables) -I \(chain.name) -\($0) \(interface) -j ACCEPT" }
            case .nft:
                ["iifname", "oifname"].map { "nft insert rule \(chain.nftName) \($0) \(interface) accept" }
            }
        }

        func outputCommands(_ interface: String, _ chain: NeighbourChain) -> [String] {
            switch self {
            case .firewalld: ["firewall-cmd --permanent --zone=trusted --add-interface=\(interface)"]
            case .ufw: ["ufw allow out on \(interface)"]
            case .docker, .iptables: ["\(chain.iptables) -I \(chain.name) -o \(interface) -j ACCEPT"]
            case .nft: ["nft insert rule \(chain.nftName) oifname \(interface) accept"]
            }
        }
    }
}

extension NeighbourChain {
    /// As `nft` says it.
    fileprivate var familyName: String {
        switch UInt32(family) {
        case UInt32(NFPROTO_IPV4): "ip"
        case UInt32(NFPROTO_IPV6): "ip6"
        default: "inet"
        }
    }

    fileprivate var nftName: String { "\(familyName) \(table) \(name)" }

    fileprivate var iptables: String { UInt32(family) == UInt32(NFPROTO_IPV6) ? "ip6tables" : "iptables" }
}
