// What happened to a mesh under an agent's care, as a value: a line of the log, and a line of `weft events`.

package import WeftModel

/// Something that happened. Holds no secret.
package struct AgentEvent: Hashable, Sendable {
    /// As syslog(3) has them, in falling order of weight.
    package enum Level: Int, Hashable, Comparable, Sendable, CaseIterable {
        case error = 3
        case warning = 4
        case notice = 5
        case info = 6
        case debug = 7

        /// By weight: an error is more than a notice.
        package static func < (left: Self, right: Self) -> Bool { left.rawValue > right.rawValue }

        package var name: String { "\(self)" }
    }

    package enum Kind: String, Hashable, Sendable, CaseIterable {
        /// The agent itself: it starts, stops, cannot do something.
        case agent
        /// A topology was taken into force, refused, or could not be read.
        case revision
        /// Something was changed from outside.
        case drift
        /// Operations were applied.
        case apply
        /// A peer came up or went down.
        case handshake
        /// The wall clock was set.
        case clock
        /// Endpoints' names were resolved anew.
        case names
        /// A change waits for its confirmation, was confirmed, or was taken back.
        case confirm
    }

    package var level: Level
    package var kind: Kind
    /// The mesh's interface; nil for the agent's own.
    package var interface: String?
    /// One sentence; control characters are the writer's to make visible.
    package var message: String
    /// By the wall clock; set by whoever writes it down.
    package var time: UnixTime?

    package init(_ level: Level, _ kind: Kind, interface: String?, _ message: String) {
        self.level = level
        self.kind = kind
        self.interface = interface
        self.message = message
    }
}
