// The agent's log: one line an event, on standard error.

internal import Glibc
internal import WeftAgent
internal import WeftModel
internal import WeftRender
internal import WeftStatus

/// Writes lines for people and for journald, which takes the level from a prefix; see sd-daemon(3).
///
/// Nothing waits for who reads it: while there is no room, lines are left out, and the next one that fits says how many.
final class AgentLog {
    private let least: AgentEvent.Level
    private let terminal: Terminal
    /// Whether standard error is the journal: it knows the time itself.
    private let isJournal = AgentLog.isJournal()
    private var leftOut = 0

    init(least: AgentEvent.Level, on terminal: Terminal = .standard) { (self.least, self.terminal) = (least, terminal) }

    /// Whether standard error is still the stream that systemd has named by device and inode; see systemd.exec(5).
    private static func isJournal() -> Bool {
        guard let words = getenv("JOURNAL_STREAM").map({ String(cString: $0) }) else { return false }
        var status = stat()
        return fstat(STDERR_FILENO, &status) == 0 && words == "\(status.st_dev):\(status.st_ino)"
    }

    func write(_ event: AgentEvent) {
        if event.level < least { return }
        if leftOut > 0 {
            let words = leftOut == 1 ? "1 line was" : "\(leftOut) lines were"
            var gap = AgentEvent(
                .warning, .agent, interface: nil, "\(words) left out here: whoever reads the log did not keep up")
            gap.time = event.time
            // What was cut off ends here.
            if terminal.offer("\n\(line(gap))", to: .error) { leftOut = 0 }
        }
        if leftOut > 0 || !terminal.offer(line(event), to: .error) { leftOut += 1 }
    }

    private func line(_ event: AgentEvent) -> String {
        let text = (event.interface.map { "\($0.visible): " } ?? "") + event.message.visible
        if isJournal { return "<\(event.level.rawValue)>\(text)" }
        return "\(event.time?.description ?? "") \(event.level.name.padded(to: 7)) \(text)"
    }
}

extension EventDocument {
    init(_ event: AgentEvent) {
        self.init(
            time: event.time?.description ?? "", level: event.level.name, kind: event.kind.rawValue,
            interface: event.interface, message: event.message)
    }
}
