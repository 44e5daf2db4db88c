// Takeovers: allowed IPs that come to a peer while another one carries their packets.

package import WeftModel

/// Whose packets an allowed IP takes over that comes to another peer.
package struct Takeover: Hashable, Sendable {
    package var from: PublicKey
    /// The allowed IP that carries them now: the same one where it moves, a larger one where its peer keeps the rest.
    package var within: IPPrefix

    package init(from: PublicKey, within: IPPrefix) {
        self.from = from
        self.within = within
    }
}

/// Of the allowed IPs that come to peers, those whose packets other peers carry now. The longest prefix decides.
///
/// - Parameters:
///   - takers: who gets which.
///   - losers: the peers that lose some, each with all that it loses.
func findTakeovers(
    by takers: [IPPrefix: PublicKey], from live: HostState, losers: [(PublicKey, [IPPrefix])]
) -> [IPPrefix: Takeover] {
    if takers.isEmpty || live.peers.isEmpty { return [:] }
    var carriers: [IPPrefix: PublicKey] = [:]
    // A single address holds no other: ten thousand of them are passed over, but for those that move.
    for peer in live.peers {
        for prefix in peer.allowedIPs where !prefix.isHost { carriers[prefix] = peer.publicKey }
    }
    for (key, lost) in losers {
        for prefix in lost where takers[prefix] != nil { carriers[prefix] = key }
    }
    let lengths = Set(carriers.keys.map(\.length)).sorted(by: >)
    // What no node has is unreachable in the mesh's ranges: it never went to an exit.
    let ranges = lengths.last == 0 ? live.routes.filter { $0.target == .unreachable && !$0.prefix.isDefault } : []
    var result: [IPPrefix: Takeover] = [:]
    for (prefix, taker) in takers {
        for length in lengths where length <= prefix.length {
            let around = IPPrefix(prefix.address, length: Int(length))
            guard let carrier = carriers[around] else { continue }
            let isRefused = around.isDefault && ranges.contains { $0.prefix.contains(prefix) }
            if carrier != taker, !isRefused { result[prefix] = Takeover(from: carrier, within: around) }
            break
        }
    }
    return result
}
