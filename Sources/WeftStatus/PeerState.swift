// Whether a peer is up, by the protocol's own timers.

import WeftModel

/// A peer's state, which only its last handshake decides: WireGuard knows no other sign of life. A peer that had nothing
/// to say for three minutes and has no keepalive is `down` too, and comes up with the next packet.
package enum PeerState: String, Codable, Hashable, Sendable, CaseIterable {
    /// The last handshake is at most 135 s old.
    case up
    /// 136…180 s: it should have been renewed.
    case stale
    /// Older than 180 s: the session's keys are dead.
    case down
    /// There was no handshake since the peer was made.
    case never

    /// - Parameter age: whole seconds since the last handshake; nil where there was none. A negative age, from a clock
    ///   that was set back, counts as 0.
    package init(handshakeAge age: Int64?) {
        switch age {
        case nil: self = .never
        case let age? where age <= PeerStatistics.staleAfter: self = .up
        case let age? where age <= PeerStatistics.deadAfter: self = .stale
        default: self = .down
        }
    }
}
