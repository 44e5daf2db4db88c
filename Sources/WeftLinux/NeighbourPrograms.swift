// Who keeps a chain that drops the mesh's packets, and how a person tells that program to let them through.

import CLinux
import Netlink
import WeftModel
import WeftPlan

enum NeighbourProgram: Hashable {
    case firewalld, docker, ufw, iptables, nft
    /// The table of another mesh on this host, by its interface.
    case weft(String)

    init(_ chain: NeighbourChain, _ hook: NeighbourHook, _ inTable: [NeighbourChain]) {
        func has(_ test: (String) -> Bool) -> Bool { inTable.contains { test($0.name) } }
        let isIptables =
            chain.family != UInt8(NFPROTO_INET) && ["filter", "nat", "raw", "mangle", "security"].contains(chain.table)
            && ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"].contains(chain.name)
        if let interface = chain.weftInterface {
            self = .weft(interface)
        } else if chain.table == "firewalld" {
            self = .firewalld
        } else if hook == .forward, has({ $0 == "DOCKER-USER" }) {
            self = .docker
        } else if [.input, .forward, .output].contains(hook), has({ $0.hasPrefix("ufw-") || $0.hasPrefix("ufw6-") }) {
            self = .ufw
        } else {
            self = isIptables ? .iptables : .nft
        }
    }

    var name: String? {
        switch self {
        case .firewalld: "firewalld"
        case .docker: "Docker"
        case .ufw: "ufw"
        case .iptables: "iptables"
        case .nft: nil
        case .weft(let interface): "the mesh on \(interface)"
        }
    }
}

/// What is said about one chain, and what to type against it.
struct NeighbourRemedies {
    typealias Kind = NeighbourTraffic.Kind

    let program: NeighbourProgram
    let chain: NeighbourChain
    let base: NeighbourBase
    let harm: NeighbourHarm
    let interface: String
    let traffic: MeshTraffic

    /// Nil where all packets pass.
    func object(_ fates: [Kind: NeighbourWalk.Fate]) -> ForeignObject? {
        func kinds(_ fate: NeighbourWalk.Fate) -> [Kind] { Kind.allCases.filter { fates[$0] == fate } }
        let (dropped, open) = (kinds(.dropped), kinds(.mayBeDropped))
        var phrases: [String] = []
        if !dropped.isEmpty { phrases.append(harm.phrase(words(dropped), isCertain: true)) }
        if !open.isEmpty { phrases.append(harm.phrase(words(open), isCertain: false)) }
        if phrases.isEmpty { return nil }
        var maker = program.name.map { " (\($0))" } ?? ""
        // Which interface it is matters where it is for some only.
        if !base.devices.isEmpty { maker += " (on \(base.devices.joined(separator: ", ")))" }
        var object = ForeignObject(
            kind: "chain",
            description: "\(chain.nftName)\(maker) \(phrases.joined(separator: ", and "))",
            relation: .hinders, remedy: remedy((dropped + open).sorted()))
        object.stopsTunnel = (dropped + open).contains { $0 == .tunnelIn || $0 == .tunnelOut }
        return object
    }

    // MARK: What is dropped

    private func words(_ kinds: [Kind]) -> String {
        var phrases: [String] = []
        for kind in kinds {
            switch kind {
            case .tunnelIn:
                phrases.append(
                    traffic.listenPort.map { "the tunnel's own packets to UDP port \($0)" }
                        ?? "answers to the tunnel's own packets")
            case .tunnelOut:
                if case .weft(let other) = program {
                    phrases.append("the tunnel's own packets that do not go out by \(other)")
                } else {
                    phrases.append(
                        traffic.listenPort.map { "the tunnel's own packets from UDP port \($0)" }
                            ?? "the tunnel's own packets to UDP port \(endpointPorts.joined(separator: ", "))")
                }
            case .deliver: phrases.append("what comes in by \(interface) for this host")
            case .send: phrases.append("what goes out by \(interface)")
            case .forwardFrom where kinds.contains(.forwardTo):
                phrases.append("what is forwarded from and to \(interface)")
            case .forwardFrom: phrases.append("what is forwarded from \(interface)")
            case .forwardTo where kinds.contains(.forwardFrom): break
            case .forwardTo: phrases.append("what is forwarded to \(interface)")
            }
        }
        return phrases.joined(separator: ", and ")
    }

    private var endpointPorts: [String] { Set(traffic.endpoints.map(\.port)).sorted().map { "\($0)" } }

    // MARK: What to do

    private func remedy(_ kinds: [Kind]) -> String {
        if case .weft(let other) = program { return remedy(kinds, against: other) }
        var commands: [String] = []
        for command in kinds.flatMap({ self.commands($0) }) where !commands.contains(command) {
            commands.append(command)
        }
        if program == .firewalld { commands.append("firewall-cmd --reload") }
        return "\(harm.opening): `\(commands.joined(separator: "; "))`."
    }

    /// Its kill switch refuses what has another way out: only what it allows may take that.
    private func remedy(_ kinds: [Kind], against other: String) -> String {
        var targets: [IPPrefix] = []
        for kind in kinds {
            switch kind {
            case .tunnelOut: targets += traffic.endpoints.map { IPPrefix(host: $0.address) }
            case .send, .forwardTo: targets += traffic.reached ?? []
            case .forwardFrom: for case .reach(let networks) in traffic.flows { targets += networks }
            case .tunnelIn, .deliver: break
            }
        }
        if targets.contains(where: \.isDefault) {
            return
                "The kill switch of \(other) refuses this mesh's full tunnel: take `useExit` or `killSwitch` out of this node in "
                + "one of the two meshes."
        }
        var names: [String] = []
        for target in targets.sorted().map({ $0.isHost ? "\($0.address)" : "\($0)" }) where !names.contains(target) {
            names.append(target)
        }
        let shown = names.prefix(8).joined(separator: ", ") + (names.count > 8 ? ", …" : "")
        let list = names.isEmpty ? "the networks and endpoints of this one" : "\(shown)"
        return "The kill switch of \(other) refuses what does not go through it: put \(list) into `killSwitch: "
            + "{allow: […]}` of this node in that mesh, if this mesh may be reached beside it."
    }

    private func commands(_ kind: Kind) -> [String] {
        switch program {
        case .nft: matches(kind).map { "nft insert rule \(chain.nftName) \($0.nft) accept" }
        case .iptables: matches(kind).map { "\(iptables) -I \(chain.name) \($0.iptables) -j ACCEPT" }
        case .docker: matches(kind).map { "\(iptables) -I DOCKER-USER \($0.iptables) -j ACCEPT" }
        case .ufw: ufw(kind)
        case .firewalld: firewalld(kind).map { "firewall-cmd --permanent \($0)" }
        case .weft: []
        }
    }

    private var iptables: String {
        chain.iptables + (chain.table == "filter" ? "" : " -t \(chain.table)")
    }

    /// Conditions that these packets meet, in the words of nft and of iptables; each of them lets some through.
    private func matches(_ kind: Kind) -> [(nft: String, iptables: String)] {
        switch kind {
        case .tunnelIn:
            if let port = traffic.listenPort { return [("udp dport \(port)", "-p udp --dport \(port)")] }
            return [("ct state established,related", "-m conntrack --ctstate ESTABLISHED,RELATED")]
        case .tunnelOut:
            if let port = traffic.listenPort { return [("udp sport \(port)", "-p udp --sport \(port)")] }
            if traffic.mark != 0 {
                let mark = "0x\(String(traffic.mark, radix: 16))"
                return [("meta mark \(mark)", "-m mark --mark \(mark)")]
            }
            return endpointPorts.map { ("udp dport \($0)", "-p udp --dport \($0)") }
        case .deliver: return [("iifname \(interface)", "-i \(interface)")]
        case .send: return [("oifname \(interface)", "-o \(interface)")]
        case .forwardFrom:
            // Where packets leave, iptables does not know any more where they came in.
            if base.hook == .postrouting || base.hook == .egress { return addresses("saddr", "-s", traffic.reached) }
            return [("iifname \(interface)", "-i \(interface)")]
        case .forwardTo:
            // Where packets come in, nobody knows yet where they will leave.
            if base.hook == .prerouting || base.hook == .ingress { return addresses("daddr", "-d", traffic.reached) }
            return [("oifname \(interface)", "-o \(interface)")]
        }
    }

    private func addresses(
        _ nft: String, _ iptables: String, _ prefixes: [IPPrefix]?
    ) -> [(nft: String, iptables: String)] {
        (prefixes ?? []).filter { chain.family != UInt8(NFPROTO_IPV4) || $0.family == .v4 }
            .filter { chain.family != UInt8(NFPROTO_IPV6) || $0.family == .v6 }
            .map { ("\($0.family == .v4 ? "ip" : "ip6") \(nft) \($0)", "\(iptables) \($0)") }
    }

    private func ufw(_ kind: Kind) -> [String] {
        switch kind {
        case .tunnelIn:
            // What is answered comes in by ufw's own rules.
            if let port = traffic.listenPort { return ["ufw allow \(port)/udp"] }
            return ["ufw reload"]
        case .tunnelOut:
            if let port = traffic.listenPort { return ["ufw allow out proto udp from any port \(port)"] }
            return endpointPorts.map { "ufw allow out \($0)/udp" }
        case .deliver: return ["ufw allow in on \(interface)"]
        case .send: return ["ufw allow out on \(interface)"]
        case .forwardFrom: return ["ufw route allow in on \(interface)"]
        case .forwardTo: return ["ufw route allow out on \(interface)"]
        }
    }

    /// A call does one thing only, and the name of a policy has at most 11 characters: one for all meshes.
    private func firewalld(_ kind: Kind) -> [String] {
        let trusts = "--zone=trusted --add-interface=\(interface)"
        func policy(_ name: String, from: String, to: String, _ more: [String]) -> [String] {
            ["--new-policy=\(name)"]
                + (["--add-ingress-zone=\(from)", "--add-egress-zone=\(to)"] + more).map { "--policy=\(name) \($0)" }
        }
        switch kind {
        case .tunnelIn: return traffic.listenPort.map { ["--add-port=\($0)/udp"] } ?? []
        case .tunnelOut:
            let ports =
                traffic.listenPort.map { ["--add-source-port=\($0)/udp"] }
                ?? endpointPorts.map { "--add-port=\($0)/udp" }
            return policy("weft-tunnel", from: "HOST", to: "ANY", ports)
        case .deliver: return [trusts]
        case .send: return [trusts] + policy("weft-out", from: "HOST", to: "trusted", ["--set-target=ACCEPT"])
        // The zone lets out of the mesh, the policy into it.
        case .forwardFrom, .forwardTo:
            return [trusts] + policy("weft", from: "ANY", to: "trusted", ["--set-target=ACCEPT"])
        }
    }
}

extension NeighbourChain {
    /// As `nft` says it.
    fileprivate var familyName: String {
        switch UInt32(family) {
        case UInt32(NFPROTO_IPV4): "ip"
        case UInt32(NFPROTO_IPV6): "ip6"
        case UInt32(NFPROTO_NETDEV): "netdev"
        default: "inet"
        }
    }

    fileprivate var nftName: String { "\(familyName) \(table) \(name)" }

    fileprivate var iptables: String { UInt32(family) == UInt32(NFPROTO_IPV6) ? "ip6tables" : "iptables" }
}
