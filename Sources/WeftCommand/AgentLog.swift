// The agent's log: one line an event, on standard error.

internal import Glibc
internal import WeftAgent
internal import WeftModel
internal import WeftRender
internal import WeftStatus

/// Writes lines for people and for journald, which takes the level from a prefix; see sd-daemon(3).
struct AgentLog {
    let least: AgentEvent.Level
    /// Whether standard error is the journal: it knows the time itself.
    private let isJournal = getenv("JOURNAL_STREAM") != nil

    init(least: AgentEvent.Level) { self.least = least }

    func write(_ event: AgentEvent) {
        if event.level < least { return }
        Terminal.standard.write(line(event), to: .error)
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
