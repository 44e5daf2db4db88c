// When an endpoint is set. A peer's endpoint is where to dial first, not state to enforce: peers roam, and setting the
// address of one that has roamed cuts it off until it speaks again.

package import WeftModel

/// Decides which live peers get their endpoint set. New peers get theirs with the rest of them.
package struct EndpointPolicy: Sendable {
    /// What was last applied, by public key; a peer without an entry has no memory.
    package var remembered: EndpointMemory
    /// The endpoint as written in the topology, for peers whose endpoint is a name; all others' is the address.
    package var written: [PublicKey: String]
    package var now: UnixTime

    package init(remembered: EndpointMemory, written: [PublicKey: String], now: UnixTime) {
        self.remembered = remembered
        self.written = written
        self.now = now
    }

    /// How a peer's endpoint is written down after it was applied.
    package func applied(_ key: PublicKey, _ endpoint: SocketAddress) -> AppliedEndpoint {
        AppliedEndpoint(written: written[key] ?? endpoint.description, address: endpoint)
    }

    /// Whether the topology's text is the one that was last applied.
    private func isWrittenAlike(_ memory: AppliedEndpoint, _ key: PublicKey, _ endpoint: SocketAddress) -> Bool {
        if let name = written[key] { return memory.written == name }
        return memory.isLiteral && memory.address == endpoint
    }

    /// What is to be done about the endpoints of peers that stay.
    struct Decisions {
        var toSet: [(peer: Peer, endpoint: SocketAddress)] = []
        /// What is live as the topology has it, although nothing is sent for it: remembered, so that a later change of
        /// the topology can be told from a peer that roamed.
        var toRemember: [PublicKey: AppliedEndpoint] = [:]
    }

    /// An endpoint is set where the topology's text differs from what was last applied, where a name has another
    /// address and the session is stale, and, without memory, where the session is stale. One that is already there
    /// is left alone, and one taken out of the topology is no change.
    ///
    /// - Parameter inStep: at how many places, from the first on, both have the same peer.
    func decide(desired: [Peer], live: [Peer], inStep: Int, statistics: [PeerStatistics]) -> Decisions {
        var result = Decisions()
        var liveIndices: [PublicKey: Int]?
        // Spans lend elements where arrays copy them, and a copy of a peer counts references.
        let desired = desired.span
        let live = live.span
        // Where the next one is remembered.
        var place = 0
        for position in desired.indices {
            guard let endpoint = desired[position].endpoint else { continue }
            var index = position
            if position >= inStep {
                if liveIndices == nil {
                    liveIndices = [:]
                    for index in inStep..<live.count { liveIndices?[live[index].publicKey] = index }
                }
                guard let found = liveIndices?[desired[position].publicKey] else { continue }
                index = found
            }
            let key = desired[position].publicKey
            let memory = remembered.find(key, near: &place)
            if live[index].endpoint == endpoint {
                let isRemembered =
                    memory.map { $0.address == endpoint && isWrittenAlike($0, key, endpoint) } ?? false
                if !isRemembered { result.toRemember[key] = applied(key, endpoint) }
                continue
            }
            if let memory {
                if isWrittenAlike(memory, key, endpoint) {
                    if memory.address == endpoint || !isStale(statistics[index]) { continue }
                }
            } else if !isStale(statistics[index]) {
                continue
            }
            result.toSet.append((live[index], endpoint))
        }
        return result
    }

    private func isStale(_ statistics: PeerStatistics) -> Bool {
        guard let handshake = statistics.lastHandshake else { return true }
        return now.seconds(since: handshake) > PeerStatistics.staleAfter
    }
}
