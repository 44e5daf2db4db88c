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
        enum Source {
            /// In the map, as is the destination.
            case address
            /// In the map; destinations are the internet, which begins beyond this host.
            case internetUser
            /// This node itself: the map has what it may reach.
            case node
        }

        var map: String
        var family: IPAddress.Family
        var source: Source
        /// The protocol of the packets; nil: of all.
        var transport: RulePart.Transport?
        /// What the keys end with. Packets of ICMP are looked up by ports where they are errors: by those of the flow.
        var kind: MapKind

        init(
            _ kind: MapKind, of map: String, _ family: IPAddress.Family, from source: Source,
            transport: RulePart.Transport? = nil
        ) {
            self.kind = kind
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
    /// What comes to this host.
    static let inChainName = "access-in"
    /// What only leaves the mesh at this host.
    static let outChainName = "access-out"

    /// The chains that look into the maps.
    ///
    /// Rules speak of addresses in the mesh. Where a host's own NAT (Docker's, say) gives a flow others on its way into the
    /// mesh or out of it, it is judged by those that it has in the mesh:
    ///
    ///     out of the mesh   ana → gate:8080, led on to 172.17.0.2:80       as it was sent: ana → gate:8080
    ///     into the mesh     192.0.2.9 → gate:8080, led on to bob:80        as it goes on: 192.0.2.9 → bob:80
    ///                       172.17.0.2 → bob:80, masqueraded               gate → bob:80, by what gate itself may reach
    ///
    /// The internet lies beyond a host. What comes to one of its own addresses is not on the way there, nor is what its NAT
    /// leads elsewhere: a port, say, that it publishes at all of its addresses.
    ///
    /// How a source is masqueraded is not decided yet where flows are forwarded. But of what is neither of the mesh nor
    /// behind a node, nothing comes out at the other end except in this node's own name: WireGuard takes it for no source of
    /// this node's.
    ///
    /// Every packet of a flow is looked up, not only the first one: a flow that is no longer permitted ends at once. Both
    /// directions are looked up alike, by what connection tracking knows of the flow. So is an ICMP error: connection
    /// tracking has it with the flow that it is about, and one about no flow is refused.
    ///
    /// - Parameter known: by family, sets that between them hold the mesh's addresses and those behind its nodes.
    func chains(interface: String, known: [IPAddress.Family: [String]]) -> [FirewallChain] {
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
            guard lookup.source == .node else { return lookup.permits(.reply) }
            // Where nothing is known of the family, nobody is told from the mesh's own.
            guard let known = known[lookup.family] else { return nil }
            let strangers = known.map { RulePart.opener(notIn: $0, lookup.family) }
            return FirewallRule(
                strangers + lookup.parts(.reply) + [.accepted], comment: "masqueraded as this node")
        }
        let sent = lookups.filter { $0.source == .address }.map { $0.permits(.original) }
        let beyond = lookups.filter { $0.source == .internetUser }.map {
            $0.permits(.original, [.destinationIsNotTranslated])
        }
        let refused = FirewallRule(.counted(by: Self.refusedCounter), .refused, comment: "all else is refused")
        return [
            FirewallChain(Self.chainName, rules: leaves + into + [refused]),
            FirewallChain(Self.inChainName, rules: sent + [refused]),
            FirewallChain(Self.outChainName, rules: sent + beyond + [refused]),
        ]
    }
}

extension AccessPolicy.Lookup {
    /// Lets a flow through that the map has.
    fileprivate func permits(
        _ view: FirewallExpression.TupleDirection, _ conditions: [RulePart] = []
    ) -> FirewallRule {
        FirewallRule(conditions + parts(view) + [.accepted], comment: "permitted flows")
    }

    /// Looks a flow up, and counts it. A flow that the map does not have ends the rule.
    ///
    /// - Parameter view: whether the destination is the one that the opener sent to, or the one that answers.
    fileprivate func parts(_ view: FirewallExpression.TupleDirection) -> [RulePart] {
        var register: FirewallExpression.Register = 0
        let registers = UInt8(family.bitWidth / 32)
        var lookup = RulePart()
        if source != .node {
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
        // nft reads a flow's port only where the rule has named the packet's protocol.
        if kind == .ports {
            lookup.expressions += [
                .conntrack(.transport, into: register),
                .tuple(view, answers ? .sourcePort : .destinationPort, into: register + 1),
            ]
        }
        lookup.expressions.append(.countByMap(set: map))
        return [.family(family)] + (transport.map { [.transport($0)] } ?? []) + [lookup]
    }
}
