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

    private struct Entry {
        var key: PublicKey
        var isUp = false
        /// Its last handshake is older than 135 s, or it never had one.
        var isSilent = true
    }

    /// In the order in which they were told: the kernel's is the same each time, and then no key is hashed.
    private var entries: [Entry] = []
    private var isFirst = true

    /// Peers whose last handshake is older than 135 s, or that never had one.
    var silent: Set<PublicKey> { Set(entries.lazy.filter(\.isSilent).map(\.key)) }

    /// What has changed since the last look; the first one only looks.
    mutating func changes(in observation: Observation) -> [Change] {
        var changes: [Change] = []
        var now: [Entry] = []
        // Spans lend elements where arrays copy them, and a copy of a peer counts references.
        let peers = observation.state.peers.span
        let count = min(peers.count, observation.statistics.count)
        now.reserveCapacity(count)
        var up: Set<PublicKey>?
        for index in 0..<count {
            var entry = Entry(key: peers[index].publicKey)
            let wasUp: Bool
            if index < entries.count, entries[index].key == entry.key {
                wasUp = entries[index].isUp
            } else {
                if up == nil { up = Set(entries.lazy.filter(\.isUp).map(\.key)) }
                wasUp = up?.contains(entry.key) ?? false
            }
            let handshake = observation.statistics[index].lastHandshake
            let state = PeerState(handshakeAge: handshake.map { max(0, observation.time.seconds(since: $0)) })
            entry.isSilent = state != .up
            switch state {
            case .up:
                if !wasUp { changes.append(Change(key: entry.key, isUp: true)) }
                entry.isUp = true
            // Up to now it was up, and it may be renewed yet.
            case .stale: entry.isUp = wasUp
            case .down, .never: if wasUp { changes.append(Change(key: entry.key, isUp: false)) }
            }
            now.append(entry)
        }
        // A peer that was removed is no peer that went down.
        entries = now
        defer { isFirst = false }
        return isFirst ? [] : changes
    }
}
