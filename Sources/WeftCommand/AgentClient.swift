// The command line's side of the agent's socket.

internal import FoundationEssentials
internal import Glibc
internal import WeftLoop
internal import WeftRender
internal import WeftStatus

/// Asks an agent.
struct AgentClient {
    let path: String

    init(_ path: String) { self.path = path }

    /// The agent's own document, whole.
    func status(patience: Duration = .seconds(20)) throws -> String {
        let answer = try ask("status", patience)
        // An agent that is killed sends a part of it.
        guard answer.hasSuffix("\n}\n") else { throw Self.endedEarly }
        return answer
    }

    /// Has something done.
    func order(_ request: String) throws {
        guard try ask(request) == "ok\n" else { throw Self.endedEarly }
    }

    /// Has it look at everything, and tells what came of that, a line for each topology.
    ///
    /// - Throws: where something was not taken.
    func reload(_ tell: (String) -> Void) throws {
        var isDone = false
        // As long as a change may take.
        try follow("reload", timeout: .seconds(120)) { line in
            if line == "ok" { isDone = true } else { tell(line) }
            return !isDone
        }
        if !isDone { throw Self.endedEarly }
    }

    private func ask(_ request: String, _ patience: Duration = .seconds(20)) throws -> String {
        var answer = ""
        try follow(request, timeout: patience) { line in
            answer += line + "\n"
            return true
        }
        return answer
    }

    private static var endedEarly: Failure {
        Failure("the agent ended before it had answered", remedy: "ask again when it runs")
    }

    /// Calls `take` with each line until it returns false, or the agent ends.
    func follow(_ request: String, timeout: Duration? = nil, _ take: (String) -> Bool) throws {
        var refusal: String?
        do throws(LoopError) {
            let lines = try UnixClient.request(path, request, timeout: timeout)
            while let line = try lines.next() {
                if line.hasPrefix("error: ") { refusal = String(line.dropFirst("error: ".count)) }
                if refusal != nil || !take(line) { break }
            }
        } catch {
            throw failure(error)
        }
        if let refusal { throw Failure(refusal) }
    }

    private func failure(_ error: LoopError) -> Failure {
        switch error.errno {
        case ENOENT:
            Failure(
                "no agent listens on \(path)",
                remedy: "start one with `weft agent run`, or name the socket of one with --socket")
        case ECONNREFUSED:
            Failure(
                "the agent that listened on \(path) has ended",
                remedy: "its tunnels stay up; start it again, and look at its log for why it ended")
        case EACCES:
            Failure(
                "the agent cannot be asked: \(error.description)",
                remedy: "ask as root, or as a member of the group that \(path) belongs to")
        case ETIMEDOUT:
            Failure(
                "the agent on \(path) does not answer", remedy: "look at its log, and at what the machine is busy with")
        default: Failure("the agent cannot be asked: \(error.description)")
        }
    }
}

extension EventDocument {
    /// A line of JSON as a line for people; what cannot be read is shown as it is.
    static func text(ofLine line: String) -> String {
        guard let event = try? JSONDecoder().decode(EventDocument.self, from: Data(line.utf8)) else {
            return line.visible
        }
        let interface = event.interface.map { "\($0.visible): " } ?? ""
        return "\(event.time)  \(event.kind.padded(to: 9))  \(interface)\(event.message.visible)"
    }
}
