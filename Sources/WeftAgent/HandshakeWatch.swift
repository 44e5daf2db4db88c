// Notices when a peer comes up and when it goes down.

import WeftModel
import WeftPlan
import WeftStatus

/// Remembers which peers were up when they were last looked at.
struct HandshakeWatch {
    struct Change: Hashable {
        var key: PublicKey
        var isUp: Bool
    }

    private var up: Set<PublicKey> = []
    private var isFirst = true
    /// Peers whose last handshake is older than 135 s, or that never had one.
    private(set) var silent: Set<PublicKey> = []

    /// What has changed since the last look; the first one only looks.
    mutating func changes(in observation: Observation) -> [Change] {
        var changes: [Change] = []
        var (now, quiet): (Set<PublicKey>, Set<PublicKey>) = ([], [])
        for (index, peer) in observation.state.peers.enumerated() where index < observation.statistics.count {
            let age = observation.statistics[index].lastHandshake.map { max(0, observation.time.seconds(since: $0)) }
            let state = PeerState(handshakeAge: age)
            let wasUp = up.contains(peer.publicKey)
            if state != .up { quiet.insert(peer.publicKey) }
            switch state {
            case .up:
                if !wasUp { changes.append(Change(key: peer.publicKey, isUp: true)) }
                now.insert(peer.publicKey)
            // Up to now it was up, and it may be renewed yet.
            case .stale: if wasUp { now.insert(peer.publicKey) }
            case .down, .never: if wasUp { changes.append(Change(key: peer.publicKey, isUp: false)) }
            }
        }
        // A peer that was removed is no peer that went down.
        (up, silent) = (now, quiet)
        defer { isFirst = false }
        return isFirst ? [] : changes
    }
}
