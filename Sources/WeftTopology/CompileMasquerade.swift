// Masquerading: whose packets leave this host under its own address, by which interfaces, and to where.

import WeftModel

extension Compiler {
    func masquerade(_ masquerade: Masquerade, _ draft: inout FirewallDraft) {
        let sources =
            masquerade.sources.isEmpty ? defaultSources : masquerade.sources.map(\.value)
        for family in IPAddress.Family.allCases where sources.contains(where: { $0.family == family }) {
            var destination: [RulePart] = []
            if !masquerade.destinations.isEmpty {
                let wanted = masquerade.destinations.map(\.value)
                guard let set = draft.addSet("nat-dst", family, of: wanted) else { continue }
                destination = [.destination(in: set, family)]
            } else if masquerade.interfaces.isEmpty {
                // Where nobody says by which interface, what is the mesh's stays as it is.
                let own = topology.mesh.addresses.map(\.value) + node.allowedIPs.map(\.value)
                if let set = draft.addSet("nat-dst", family, of: own) {
                    destination = [.destination(notIn: set, family)]
                }
            }
            guard let set = draft.addSet("nat-src", family, of: sources) else { continue }
            let ways: [RulePart] =
                masquerade.interfaces.isEmpty
                ? [.outputInterface(isNot: interface)]
                : Set(masquerade.interfaces.map(\.value)).sorted().map { .outputInterface(is: $0) }
            for way in ways {
                draft.add(
                    FirewallRule(
                        [way, .family(family), .source(in: set, family)] + destination + [.counted, .masqueraded],
                        comment: "masquerade"), to: .postrouting)
            }
        }
    }

    /// The mesh's ranges, the networks behind this node, and private networks behind nodes that use it as their exit. Of
    /// IPv6 only unique local addresses: all others are valid outside as they are.
    private var defaultSources: [IPPrefix] {
        var sources = topology.mesh.addresses.map(\.value) + node.allowedIPs.map(\.value)
        if node.isExit {
            for (user, other) in topology.nodes.enumerated()
            where other.useExit?.value == node.name && graph.isActive[user] {
                sources += other.allowedIPs.map(\.value).filter(\.isPrivate)
            }
        }
        return sources.filter { $0.family == .v4 || $0.isPrivate }
    }
}

extension IPPrefix {
    /// RFC 1918, RFC 6598 and RFC 4193.
    private static let privateNetworks = [
        IPPrefix(IPAddress(v4: 0x0A00_0000), length: 8), IPPrefix(IPAddress(v4: 0xAC10_0000), length: 12),
        IPPrefix(IPAddress(v4: 0xC0A8_0000), length: 16), IPPrefix(IPAddress(v4: 0x6440_0000), length: 10),
        IPPrefix(IPAddress(v6: 0xFC00 << 48, 0), length: 7),
    ]

    /// Whether nobody outside knows the way to any of its addresses.
    var isPrivate: Bool { Self.privateNetworks.contains { $0.contains(self) } }
}
