// The mesh's table in nf_tables: the full tunnel's guards, what is forwarded, what is refused.

import WeftModel

extension Compiler {
    /// Nil where the host needs no table: it only sends and receives for itself, and nothing is refused.
    mutating func firewall(listenPort: UInt16?) -> Firewall? {
        let access = AccessCompiler(
            topology: topology, host: index, isActive: graph.isActive, forwards: !forwarded.isEmpty
        ).compile()
        guard tunnel != nil || node.masquerade != nil || access != nil || !forwarded.isEmpty else { return nil }
        var draft = FirewallDraft()
        if let listenPort {
            draft.add(
                FirewallRule(
                    .transport(.udp), .destinationPort(is: listenPort), .accepted, comment: "the tunnel's own packets"),
                to: .input)
        }
        if let tunnel {
            guardAddresses(&draft)
            keepMark(tunnel.numbers.mark, &draft)
        }
        if !forwarded.isEmpty { clampSegments(&draft) }
        if let access {
            counterNames = access.counters.map(\.name)
            enforce(access, &draft)
        } else if !forwarded.isEmpty {
            draft.add(
                FirewallRule(.inputInterface(is: interface), .accepted, comment: "out of the mesh"), to: .forward)
            draft.add(
                FirewallRule(.outputInterface(is: interface), .accepted, comment: "into the mesh"), to: .forward)
        }
        // Behind the access rules: what it lets through is not asked by others any more.
        if let tunnel, let killSwitch = node.killSwitch { shut(killSwitch, mark: tunnel.numbers.mark, &draft) }
        if let masquerade = node.masquerade { self.masquerade(masquerade, &draft) }
        return draft.firewall
    }

    // MARK: Full tunnel

    /// Nobody on the local network reaches the tunnel's addresses past the tunnel (CVE-2019-14899).
    private func guardAddresses(_ draft: inout FirewallDraft) {
        for address in node.addresses.map(\.value).sorted() {
            draft.add(
                FirewallRule(
                    .inputInterface(isNot: interface), .family(address.family), .destination(is: address),
                    .sourceIsNotLocal, .counted, .dropped, comment: "only the mesh reaches its addresses"),
                to: .guard)
        }
    }

    /// Answers to the tunnel's own packets carry its mark, so that they are routed, and checked against routes, as those are.
    private func keepMark(_ mark: UInt32, _ draft: inout FirewallDraft) {
        draft.add(
            FirewallRule(
                .transport(.udp), .connectionMark(is: mark), .markedAsConnection,
                comment: "answers to the tunnel's own packets"), to: .restore)
        draft.add(
            FirewallRule(.transport(.udp), .mark(is: mark), .connectionMarked, comment: "the tunnel's own packets"),
            to: .save)
    }

    /// Refuses all that is neither tunnelled, nor the tunnel's own, nor to this host itself, nor to what is allowed; of both
    /// families, whatever addresses the host has. The interface is told by its name: the rules hold before it is there
    /// and after it has gone. What is to this host goes by `lo`; its address alone says nothing, because a socket that is
    /// bound to another interface sends there what is to the host's own address.
    ///
    /// A service here is open to who is allowed: its answers go there. So is one in a container whose port this host
    /// publishes: what its NAT leads there, and only from who is allowed.
    private func shut(_ killSwitch: KillSwitch, mark: UInt32, _ draft: inout FirewallDraft) {
        // To where a server answers who has no address yet. No router passes either on.
        let links = [IPPrefix(host: IPAddress(v4: .max)), IPPrefix(IPAddress(v6: 0xFE80 << 48, 0), length: 10)]
        for (client, server, link) in [(68, 67, links[0]), (546, 547, links[1])] as [(UInt16, UInt16, IPPrefix)] {
            let datagram: [RulePart] = [.family(link.family), .transport(.udp)]
            let name = link.family == .v4 ? "DHCP" : "DHCPv6"
            draft.add(
                FirewallRule(
                    datagram + [.sourcePort(is: client), .destinationPort(is: server), .accepted], comment: name),
                to: .output)
            draft.add(
                FirewallRule(
                    datagram + [
                        .sourcePort(is: server), .destinationPort(is: client), .destination(within: link), .accepted,
                    ], comment: "\(name) server"), to: .output)
        }
        // Router and neighbour solicitations and advertisements; reports of both multicast listener versions.
        for type in [133, 134, 135, 136, 143, 131, 132] as [UInt8] {
            draft.add(
                FirewallRule(
                    .family(.v6), .transport(.icmpv6), .messageType(is: type), .accepted,
                    comment: type < 133 || type > 136 ? "multicast listeners" : "neighbour discovery"), to: .output)
        }
        for family in IPAddress.Family.allCases {
            let allow = draft.addSet("allow", family, of: killSwitch.allow.map(\.value))
            let allowed = allow.map { [RulePart.destination(notIn: $0, family)] } ?? []
            draft.add(
                FirewallRule(
                    [
                        .family(family), .outputInterface(isNot: interface), .outputInterface(isNot: "lo"),
                        .mark(isNot: mark),
                    ] + allowed + [.counted, .refused], comment: "kill switch"), to: .output)
            let beside: [RulePart] = [
                .family(family), .inputInterface(isNot: interface), .outputInterface(isNot: interface),
            ]
            if let allow {
                draft.add(
                    FirewallRule(
                        beside + [.source(in: allow, family), .originalDirection, .destinationIsTranslated, .accepted],
                        comment: "to ports that this host publishes"), to: .forward)
            }
            draft.add(
                FirewallRule(beside + allowed + [.counted, .refused], comment: "kill switch"), to: .forward)
        }
    }

    // MARK: Forwarding

    private func clampSegments(_ draft: inout FirewallDraft) {
        draft.add(
            FirewallRule(
                .outputInterface(is: interface), .transport(.tcp), .opensConnection, .segmentsClamped,
                comment: "segments that fit into the tunnel"), to: .clamp)
    }

    /// Leads what the mesh carries into the chain of access rules: what is delivered here, what is passed on, and what is
    /// sent to hosts that enforce nothing themselves.
    private func enforce(_ access: AccessPolicy, _ draft: inout FirewallDraft) {
        for set in access.sets { draft.add(set) }
        draft.add(access.counters)
        let jump = RulePart.jump(to: AccessPolicy.chainName)
        draft.add(
            FirewallRule(
                .originalDirection, .inputInterface(is: interface), .jump(to: AccessPolicy.inChainName),
                comment: "to this host"), to: .input)
        // Permitted or not: whoever refuses it tells so.
        for address in node.addresses.map(\.value).sorted() {
            draft.add(
                FirewallRule(
                    .inputInterface(is: interface), .isRelated, .family(address.family),
                    .transport(address.family == .v4 ? .icmp : .icmpv6), .opener(is: address), .accepted,
                    comment: "errors about what this host asks"), to: .input)
        }
        draft.add(
            FirewallRule(.inputInterface(is: interface), jump, comment: "answers to this host"), to: .input)
        // Rules trust a source because WireGuard lets no other peer have it. What comes in elsewhere is not asked by
        // WireGuard: a source of the mesh's is a forged one there.
        let refused: [RulePart] = [.counted(by: AccessPolicy.refusedCounter), .refused]
        var known: [IPAddress.Family: [String]] = [:]
        for family in IPAddress.Family.allCases {
            guard let bound = draft.addSet("bound", family, of: boundSources(family)) else { continue }
            known[family] = [bound]
            let hasStrangers = access.lookups.contains { $0.family == family && $0.source == .node }
            if hasStrangers, let behind = draft.addSet("behind", family, of: node.allowedIPs.map(\.value)) {
                known[family] = [bound, behind]
            }
            let forged: [RulePart] = [.family(family), .source(in: bound, family)]
            let elsewhere: [RulePart] = [.inputInterface(isNot: interface), .inputInterface(isNot: "lo")]
            if let nodes = draft.addSet("nodes", family, of: nodeAddresses(family)) {
                // Wherever they are going. Of the networks behind nodes that is not so: this host may be in one of them.
                for chain in [FirewallDraft.Chain.input, .forward] {
                    draft.add(
                        FirewallRule(
                            elsewhere + [.family(family), .source(in: nodes, family)] + refused,
                            comment: "forged sources"), to: chain)
                }
            }
            for address in node.addresses.map(\.value).sorted() where address.family == family {
                draft.add(
                    FirewallRule(
                        elsewhere + forged + [.destination(is: address)] + refused, comment: "forged sources"),
                    to: .input)
                draft.add(
                    FirewallRule(
                        elsewhere + [.replyDirection, .family(family), .destination(is: address), .accepted],
                        comment: "answers that came by another way"), to: .input)
                draft.add(
                    FirewallRule(
                        elsewhere + [.family(family), .destination(is: address), jump],
                        comment: "to its address in the mesh, by another way"), to: .input)
            }
            draft.add(
                FirewallRule(
                    [.inputInterface(isNot: interface), .outputInterface(is: interface)] + forged + refused,
                    comment: "forged sources"), to: .forward)
            if hasStrangers { verifySources(known[family] ?? [], family, &draft) }
        }
        for chain in access.chains(interface: interface, known: known) { draft.add(chain) }
        draft.add(FirewallRule(.inputInterface(is: interface), jump, comment: "out of the mesh"), to: .forward)
        draft.add(FirewallRule(.outputInterface(is: interface), jump, comment: "into the mesh"), to: .forward)
        for family in IPAddress.Family.allCases {
            guard let set = access.unmanaged[family] else { continue }
            draft.add(
                FirewallRule(
                    .outputInterface(is: interface), .originalDirection, .family(family),
                    .destination(in: set, family), jump, comment: "to hosts that enforce nothing"), to: .output)
        }
    }

    /// Whom rules took for this node because it would be masqueraded, and who has not been, goes no farther: a host without
    /// a controller may take any source from here. Only who uses this exit is sent others' packets as they are.
    private func verifySources(_ known: [String], _ family: IPAddress.Family, _ draft: inout FirewallDraft) {
        let users = topology.nodes.enumerated().filter {
            graph.isActive[$0.offset] && $0.element.useExit?.value == node.name
        }
        let exempt = draft.addSet("users", family, of: Ranges(users.flatMap { $0.element.ranges(family) }))
        draft.add(
            FirewallRule(
                [.outputInterface(is: interface), .originalDirection, .family(family)]
                    + known.map { .source(notIn: $0, family) }
                    + (exempt.map { [.destination(notIn: $0, family)] } ?? [])
                    + [.sourceIsNotLocal, .counted(by: AccessPolicy.refusedCounter), .dropped],
                comment: "neither known nor masqueraded"), to: .source)
    }

    /// Of all nodes, this one too.
    private func nodeAddresses(_ family: IPAddress.Family) -> Ranges<UInt128> {
        Ranges(
            topology.nodes.flatMap(\.addresses).map(\.value).filter { $0.family == family }
                .map { $0.number...$0.number })
    }

    /// Addresses that only this mesh's WireGuard may bring to this host: the mesh's own, and the networks behind other nodes.
    private func boundSources(_ family: IPAddress.Family) -> Ranges<UInt128> {
        func ranges(_ prefixes: [IPPrefix]) -> Ranges<UInt128> {
            Ranges(prefixes.filter { $0.family == family }.map(\.range))
        }
        let others = topology.nodes.enumerated().filter { $0.offset != index }.flatMap {
            $0.element.allowedIPs.map(\.value)
        }
        return ranges(topology.mesh.addresses.map(\.value) + others).subtracting(ranges(node.allowedIPs.map(\.value)))
    }
}
