// Whether what a node says of its MTU fits the host's ways out.

import WeftDiagnostics
import WeftModel

extension Compiler {
    /// The tunnel's packets are larger than what they carry, and must still fit the path to each endpoint. Linux sends those
    /// that do not in fragments, which many networks drop.
    mutating func warnAboutMTU(_ peers: [Peer]) {
        guard let mtu = node.mtu, let found = facts.linkMTU else { return }
        // What was found has room for an IPv6 header: one of IPv4 takes 20 bytes less.
        let hasIPv6 = peers.contains { $0.endpoint?.address.family == .v6 }
        let largest = hasIPv6 ? found : found + 20
        if mtu <= largest { return }
        diagnostics.append(
            Diagnostic(
                "host.mtu-too-large", .warning,
                "`mtu: \(mtu)` of \(node.name) is more than the path to its endpoints carries: \(largest) at most, and packets "
                    + "that are larger are sent in fragments, which many networks drop",
                at: node.place,
                notes: [Diagnostic.Note("write `mtu: \(found)`, or take `mtu` out: weft then asks the paths itself")]))
    }
}
