// One event as a line of JSON: what `weft events` prints.

/// Something that happened. Field by field in AgentFormat.md. Holds no secret.
package struct EventDocument: Codable, Hashable, Sendable {
    /// The name of the format.
    package static let formatName = "weft.event"
    /// The current version of the format.
    package static let currentVersion = 1

    /// Always `weft.event`.
    package var format = Self.formatName
    /// 1. Raised when a field changes its meaning or goes; new fields do not raise it.
    package var version = Self.currentVersion
    /// RFC 3339, UTC.
    package var time: String
    /// `error`, `warning`, `notice`, `info`, `debug`.
    package var level: String
    /// `agent`, `revision`, `drift`, `apply`, `handshake`, `clock`, `names`, `confirm`.
    package var kind: String
    /// Absent where it is the agent's own.
    package var interface: String?
    /// One sentence.
    package var message: String

    package init(time: String, level: String, kind: String, interface: String?, message: String) {
        self.time = time
        self.level = level
        self.kind = kind
        self.interface = interface
        self.message = message
    }
}
