// The command line's side of the agent's socket.

internal import FoundationEssentials
internal import WeftLoop
internal import WeftRender
internal import WeftStatus

/// Asks an agent.
struct AgentClient {
    let path: String

    init(_ path: String) { self.path = path }

    /// The whole answer.
    func ask(_ request: String) throws -> String {
        var answer = ""
        try follow(request, timeout: .seconds(20)) { line in
            answer += line + "\n"
            return true
        }
        return answer
    }

    /// Has something done.
    func order(_ request: String) throws {
        guard try ask(request) == "ok\n" else { throw Failure("the agent did not answer") }
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
            throw Failure("the agent cannot be asked: \(error.description)")
        }
        if let refusal { throw Failure(refusal) }
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
