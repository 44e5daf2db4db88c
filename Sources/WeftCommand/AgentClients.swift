// Who asks the agent, on its socket: for its state, for events as they come, to read everything again, for a trial's end.

internal import Glibc
internal import WeftAgent
internal import WeftLoop
internal import WeftModel
internal import WeftRender
internal import WeftStatus

/// The agent's local clients, and what each of them waits for.
final class AgentClients {
    private let server: LineServer
    /// Who is told of each event.
    private var subscribers: [LineServer.Client] = []
    /// Who is told what came of reading everything again.
    private var reloaders: [LineServer.Client] = []
    /// Why nobody can ask.
    private var deafness: String?

    /// - Parameter group: nil: `weft`, where there is such a group; else nobody but root.
    init(socket: String, group: String?) throws {
        try AgentHost.makeFolder(of: socket)
        server = try LineServer(path: socket, mode: 0o660, group: group ?? (getgrnam("weft") == nil ? nil : "weft"))
    }

    /// Serves them in `loop`.
    ///
    /// - Parameters:
    ///   - document: the agent's state.
    ///   - reload: reads everything again; `tellReloaders` says when that is done.
    ///   - order: carries one out, in the name of somebody, and says what came of it.
    func attach(
        to loop: EventLoop, document: @escaping () -> AgentDocument, reload: @escaping () -> Void,
        order: @escaping (TrialOrder, String) -> String
    ) throws(LoopError) {
        try server.attach(to: loop) { [unowned self] client, request in
            switch request {
            case "status":
                client.send(Array(((try? encodeJSON(document())) ?? "{}").utf8) + [UInt8(ascii: "\n")])
                client.finish()
            case "reload":
                reloaders.removeAll { !$0.isOpen }
                reloaders.append(client)
                reload()
            case "events":
                subscribers.removeAll { !$0.isOpen }
                subscribers.append(client)
            default:
                let answer =
                    TrialOrder(request).map { order($0, client.peer.map { "by user \($0.user)" } ?? "by somebody") }
                    ?? "error: no such request; there are status, reload, confirm, revert and events\n"
                client.send(Array(answer.utf8))
                client.finish()
            }
        }
    }

    func close() { server.close() }

    /// Listens again where whoever cleans up in /run took the socket away too.
    ///
    /// - Returns: what is new about that.
    func stayReachable() -> AgentEvent? {
        do throws(LoopError) {
            guard try server.standAgain() else { return nil }
            deafness = nil
            return AgentEvent(.warning, .agent, interface: nil, "the socket was removed, and is there again")
        } catch {
            defer { deafness = error.description }
            if deafness == error.description { return nil }
            return AgentEvent(
                .error, .agent, interface: nil,
                "the socket was removed, and cannot be made again: \(error.description)")
        }
    }

    func tell(_ event: AgentEvent) {
        subscribers.removeAll { !$0.isOpen }
        if subscribers.isEmpty { return }
        let line = Array(((try? encodeLine(EventDocument(event))) ?? "{}").utf8) + [UInt8(ascii: "\n")]
        for subscriber in subscribers { subscriber.send(line) }
    }

    // MARK: Reloading

    /// Whether somebody waits to hear what came of it.
    var isReloadAwaited: Bool { !reloaders.isEmpty }

    /// A line for each mesh that is as it should be, and one that begins with `ok` or `error: `.
    ///
    /// - Parameter repository: what is wrong with it.
    func tellReloaders(of meshes: [AgentMesh], repository: String?) {
        var lines: [String] = []
        var problems = repository.map { [$0] } ?? []
        for mesh in meshes {
            let controller = mesh.controller
            let revision = controller.force?.revision.id
            let name = controller.force?.mesh.interface ?? controller.host.path
            if let delay = mesh.watch?.delay {
                problems.append("\(name): \(mesh.path) is read once it is quiet: \(delay)")
            } else if let problem = controller.problem?.summary ?? controller.failure {
                problems.append("\(name): \(problem)\(revision.map { "; \($0) stays in force" } ?? "")")
            } else if let trial = controller.onTrial {
                lines.append("\(name): topology \(trial) is on trial")
            } else if let revision {
                lines.append("\(name): topology \(revision) is in force (\(controller.stage.rawValue))")
            }
        }
        lines.append(problems.isEmpty ? "ok" : "error: \(problems.joined(separator: "; "))")
        let answer = Array(lines.map { $0.visible + "\n" }.joined().utf8)
        for client in reloaders {
            client.send(answer)
            client.finish()
        }
        reloaders = []
    }
}
