// Access rules in a host's table: the chains that packets are led into, and how a flow is looked up in the maps.

import WeftModel

/// What access rules become in a host's table. Packets come into `chainName` from the host's own base chains.
struct AccessPolicy {
    /// What a map's keys end with.
    enum MapKind: String, CaseIterable {
        /// A protocol and its port.
        case ports
        /// Nothing: it is of ICMP alone.
        case icmp
        /// Nothing: it is of all protocols.
        case pairs

        init(_ transport: RulePart.Transport?) {
            switch transport {
            case .tcp, .udp: self = .ports
            case .icmp, .icmpv6: self = .icmp
            case nil: self = .pairs
            }
        }
    }

    /// A map from flows to counters, and which flows are looked up in it.
    struct Lookup: Hashable {
        enum Source { case address, node }

        var map: String
        var family: IPAddress.Family
        /// Whether the map has a source, or what this node itself may reach.
        var source: Source
        /// The protocol of the flows; nil: of all.
        var transport: RulePart.Transport?

        init(map: String, _ family: IPAddress.Family, from source: Source, transport: RulePart.Transport? = nil) {
            self.map = map
            self.family = family
            self.source = source
            self.transport = transport
        }
    }

    var lookups: [Lookup]
    var sets: [FirewallSet]
    /// In the order of the rules.
    var counters: [FirewallCounter]
    /// Sets of the addresses of hosts that enforce nothing themselves, by family: whoever sends to them asks the policy.
    var unmanaged: [IPAddress.Family: String]

    static let chainName = "access"
    static let refusedCounter = "access-refused"
}

extension AccessPolicy {
    /// What only leaves the mesh at this host.
    private static let outChainName = "access-out"

    /// The chains that look into the maps.
    ///
    /// Rules speak of addresses in the mesh. Where a host's own NAT (Docker's, say) gives a flow others on its way into the
    /// mesh or out of it, it is judged by those that it has in the mesh:
    ///
    ///     out of the mesh   ana → gate:8080, led on to 172.17.0.2:80       as it was sent: ana → gate:8080
    ///     into the mesh     192.0.2.9 → gate:8080, led on to bob:80        as it goes on: 192.0.2.9 → bob:80
    ///                       172.17.0.2 → bob:80, masqueraded               gate → bob:80, by what gate itself may reach
    ///
    /// How a source is masqueraded is not decided yet where flows are forwarded. But of what is neither of the mesh nor
    /// behind a node, nothing comes out at the other end except in this node's own name: WireGuard takes it for no source of
    /// this node's.
    ///
    /// Every packet of a flow is looked up, not only the first one: a flow that is no longer permitted ends at once. Both
    /// directions are looked up alike, by what connection tracking knows of the flow.
    ///
    /// - Parameter known: by family, sets that between them hold the mesh's addresses and those behind its nodes.
    func chains(interface: String, known: [IPAddress.Family: [String]]) -> [FirewallChain] {
        let related = [RulePart.Transport.icmp, .icmpv6].map {
            FirewallRule(.isRelated, .transport($0), .accepted, comment: "errors about permitted flows")
        }
        let out = RulePart.goto(chain: Self.outChainName)
        let leaves = [
            FirewallRule(
                .originalDirection, .inputInterface(is: interface), .outputInterface(isNot: interface), out,
                comment: "only out of the mesh"),
            FirewallRule(
                .replyDirection, .outputInterface(is: interface), .inputInterface(isNot: interface), out,
                comment: "only out of the mesh"),
        ]
        let into = lookups.compactMap { lookup -> FirewallRule? in
            guard lookup.source == .node else {
                return FirewallRule(lookup.parts(.reply) + [.accepted], comment: "permitted flows")
            }
            // Where nothing is known of the family, nobody is told from the mesh's own.
            guard let known = known[lookup.family] else { return nil }
            let strangers = known.map { RulePart.opener(notIn: $0, lookup.family) }
            return FirewallRule(
                strangers + lookup.parts(.reply) + [.accepted], comment: "masqueraded as this node")
        }
        let sent = lookups.filter { $0.source == .address }.map { lookup in
            FirewallRule(lookup.parts(.original) + [.accepted], comment: "permitted flows")
        }
        let refused = FirewallRule(.counted(by: Self.refusedCounter), .refused, comment: "all else is refused")
        return [
            FirewallChain(Self.chainName, rules: related + leaves + into + [refused]),
            FirewallChain(Self.outChainName, rules: sent + [refused]),
        ]
    }
}

extension AccessPolicy.Lookup {
    /// Looks a flow up, and counts it. A flow that the map does not have ends the rule.
    ///
    /// - Parameter view: whether the destination is the one that the opener sent to, or the one that answers.
    fileprivate func parts(_ view: FirewallExpression.TupleDirection) -> [RulePart] {
        var register: FirewallExpression.Register = 0
        let registers = UInt8(family.bitWidth / 32)
        var lookup = RulePart()
        if source == .address {
            lookup.expressions.append(.tuple(.original, family == .v4 ? .source4 : .source6))
            register += registers
        }
        let answers = view == .reply
        let destination: FirewallExpression.TupleField =
            switch family {
            case .v4: answers ? .source4 : .destination4
            case .v6: answers ? .source6 : .destination6
            }
        lookup.expressions.append(.tuple(view, destination, into: register))
        register += registers
        // nft reads a flow's port only where the rule has named a protocol that has ports.
        if AccessPolicy.MapKind(transport) == .ports {
            lookup.expressions += [
                .meta(.transport, into: register),
                .tuple(view, answers ? .sourcePort : .destinationPort, into: register + 1),
            ]
        }
        lookup.expressions.append(.countByMap(set: map))
        return [.family(family)] + (transport.map { [.transport($0)] } ?? []) + [lookup]
    }
}
