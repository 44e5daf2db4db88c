// weft status: each peer by name, and whether it is up.

internal import ArgumentParser
internal import FoundationEssentials
internal import Glibc
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftRender
internal import WeftStatus
internal import WeftTopology

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the mesh on this host: each peer by name, and whether it is up.",
        discussion: """
            Without a readable topology, the meshes that weft has made on this host are shown by the names of the topology \
            that was in force last. Who may not read the kernel asks the agent, where one runs and lets them.

            --format json prints one document for one mesh, and a list of them for several; with --watch it is a line for \
            each document.
            """)

    @OptionGroup var source: TopologyArgument
    @OptionGroup var host: HostOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var socket: SocketOption
    @Option(name: .shortAndLong, help: ArgumentHelp("Only this interface.", valueName: "name"))
    var interface: String?
    @Flag(help: "Go on until interrupted.")
    var watch = false
    @Option(help: ArgumentHelp("Seconds between two looks with --watch.", valueName: "seconds"))
    var interval = 2

    func validate() throws {
        if interval < 1 || interval > 3600 { throw ValidationError("--interval takes 1 to 3600 seconds") }
    }

    func run() throws {
        try reportingFailures {
            ProcessHardening.apply()
            let redraws = watch && output.format == .text && Terminal.standard.isTerminal()
            if (try? requireNetworkRights(for: "read the host")) == nil {
                var isTold = false
                return try repeatedly(redraws) { try agentsDocuments(&isTold) }
            }
            let machine = try Machine(stateDirectory: host.stateDir)
            try sayWhatCannotBeUsed()
            for name in machine.interfacesWithTrials where interface == nil || name == interface {
                guard let trial = machine.unwatchedTrial(on: name) else { continue }
                warn("\(name): \(trial.message): \(trial.remedy)")
            }
            var dataplane = try machine.dataplane(secrets: { () throws(DataplaneError) in
                throw DataplaneError(.key, "status needs no key")
            })
            try repeatedly(redraws) {
                // The topology is read anew each time: a new peer gets its name.
                let subjects = try subjects(machine)
                let problems = machine.problemsOfAgents
                let (meshes, desired) = (subjects.meshes, subjects.desired)
                var documents: [StatusDocument] = []
                for mesh in meshes {
                    do {
                        let observation = try dataplane.observe(mesh, Interests(sysctls: []))
                        let keys = observation.state.peers.lazy.map(\.publicKey)
                        let names =
                            desired[mesh] == nil
                            ? machine.names(otherThan: subjects.names, of: keys, on: mesh, given: subjects.mesh)
                            : machine.names(subjects.names, of: keys, on: mesh)
                        var document = StatusDocument(
                            observation, of: mesh, wasInForce: machine.wasInForce(mesh), desired: desired[mesh],
                            names: names)
                        document.trial = machine.trial(of: mesh).flatMap {
                            StatusDocument.Trial($0, at: machine.now(), folder: subjects.revision)
                        }
                        document.problem = problems[mesh.interface]
                        if !document.present { document.elsewhere = try machine.otherInterface(of: mesh) }
                        documents.append(document)
                    } catch {
                        // The others are shown all the same.
                        guard meshes.count > 1, let failure = Failure(any: error) else { throw error }
                        warn(failure.message)
                    }
                }
                return documents
            }
        }
    }

    /// Shows documents, once or until interrupted. What was there at first may go and come back: an agent that is started
    /// again, a mesh that is taken down.
    private func repeatedly(_ redraws: Bool, _ documents: () throws -> [StatusDocument]) throws {
        var isFirst = true
        repeat {
            do {
                let documents = try documents()
                if redraws { redraw(documents) } else { try show(documents) }
            } catch  where !isFirst {
                try? reportingFailures { throw error }
            }
            isFirst = false
            if Terminal.standard.hasNoReader || Terminal.standard.failure != nil { break }
            if watch { sleep(UInt32(interval)) }
        } while watch
    }

    /// What is shown all the same without the topology, the node or the key that it was told of.
    private func sayWhatCannotBeUsed() throws {
        let isNamed = source.topology != TopologyArgument.defaultPath
        let (topology, files, diagnostics) = LoadedTopology.read(source.topology)
        guard let topology else {
            if isNamed || host.node != nil {
                warn("\(source.topology) cannot be used: `weft check \(source.topology)` says why")
            }
            return
        }
        if let node = host.node {
            _ = try LoadedTopology(topology: topology, files: files, diagnostics: diagnostics).index(ofNode: node)
        } else if isNamed || host.privateKey != KeyFiles.defaultPrivateKey {
            do throws(KeyError) {
                let key = try host.keyFiles.ownKey().publicKey
                if topology.index(ofKey: key) == nil {
                    warn("the key in \(host.privateKey) belongs to no node of \(source.topology)")
                }
            } catch {
                warn("\(error.place): \(error.message): this host's node in \(source.topology) is not known")
            }
        }
    }

    private func warn(_ message: String) { Terminal.standard.write("warning: \(message.visible)", to: .error) }

    /// What an agent tells of its meshes.
    ///
    /// - Parameter isTold: whether it was said that the agent does not use the topology that the command was given.
    private func agentsDocuments(_ isTold: inout Bool) throws -> [StatusDocument] {
        let text: String
        do {
            text = try AgentClient(socket.socket).status()
        } catch let failure as Failure {
            throw Failure(
                "status must be run as root, or by a member of the group weft where an agent runs: \(failure.message)",
                remedy: "`sudo weft status`; or let root start an agent (`weft agent run`), and join that group")
        }
        let meshes = try JSONDecoder().decode(AgentDocument.self, from: Data(text.utf8)).meshes
        if !isTold {
            sayWhatIsWatched(meshes.map(\.topology))
            isTold = true
        }
        let documents = meshes.compactMap(\.status).filter { interface == nil || $0.interface == interface }
        guard !documents.isEmpty else {
            throw Failure(
                "the agent has looked at no mesh yet",
                remedy: meshes.compactMap { $0.problem?.summary }.joined(separator: "; "))
        }
        return documents
    }

    /// The agent has names and what is wanted from its own topologies, and from no other.
    private func sayWhatIsWatched(_ topologies: [String]) {
        func resolved(_ path: String) -> String {
            guard let found = realpath(path, nil) else { return path }
            defer { free(found) }
            return String(cString: found)
        }
        guard source.topology != TopologyArgument.defaultPath,
            !topologies.contains(where: { resolved($0) == resolved(source.topology) })
        else { return }
        let watched = topologies.joined(separator: " and ")
        warn("\(source.topology) is not used: this is of the agent, which watches \(watched)")
    }

    /// Shows documents in place of what is on the terminal, and no more than it has room for: what scrolls away floods it.
    private func redraw(_ documents: [StatusDocument]) {
        let terminal = Terminal.standard
        // The last line stays free: the end of one before it would scroll.
        let rows = max(1, (terminal.height ?? 24) - 1)
        let columns = terminal.width ?? 80
        var lines: [String] = []
        for (index, document) in documents.enumerated() {
            let share = (rows - lines.count) / (documents.count - index)
            if share < 1 { break }
            lines += StatusText(document, options: output.text()).screen(rows: share, columns: columns)
        }
        // In one piece, each line to its end: a screen that is cleared first flickers.
        terminal.write("\u{1B}[H" + lines.map { $0 + "\u{1B}[K\n" }.joined() + "\u{1B}[J", terminator: "")
    }

    private func show(_ documents: [StatusDocument]) throws {
        switch output.format {
        case .json where watch:
            for document in documents { Terminal.standard.write(try encodeLine(document)) }
        case .json:
            Terminal.standard.write(
                try documents.count == 1 ? encodeJSON(documents[0]) : encodeJSON(documents))
        case .text:
            for document in documents {
                Terminal.standard.write(StatusText(document, options: output.text()).text, terminator: "")
            }
        }
    }

    /// What is shown, and what the topology says of it.
    private struct Subjects {
        var meshes: [MeshIdentity]
        /// What is wanted of those that are the topology's.
        var desired: [MeshIdentity: DesiredState]
        /// The topology's mesh; nil where none could be read.
        var mesh: String?
        /// The names of its nodes.
        var names: [PublicKey: String]
        /// Its digest.
        var revision: String?
    }

    private func subjects(_ machine: Machine) throws -> Subjects {
        let (topology, files, diagnostics) = LoadedTopology.read(source.topology)
        var desired: [MeshIdentity: DesiredState] = [:]
        var subjects = try machine.ownMeshes()
        if let topology {
            let loaded = LoadedTopology(topology: topology, files: files, diagnostics: diagnostics)
            let index =
                try? host.node.map { try loaded.index(ofNode: $0) }
                ?? loaded.topology.index(ofKey: host.keyFiles.ownKey().publicKey)
            if let index {
                let state = topology.compile(for: index, facts: HostFacts(), at: machine.calendar.now()).desired
                desired[state.identity] = state
                if !subjects.contains(state.identity) { subjects.append(state.identity) }
            }
        }
        for mesh in try machine.remnants() where !subjects.contains(where: { $0.interface == mesh.interface }) {
            subjects.append(mesh)
        }
        if let interface { subjects.removeAll { $0.interface != interface } }
        guard !subjects.isEmpty else {
            throw Failure(
                interface.map { "\($0) is not an interface of weft's" } ?? "weft has made no mesh on this host",
                remedy: topology == nil ? "and \(source.topology) could not be read: see `weft check`" : "")
        }
        return Subjects(
            meshes: subjects, desired: desired, mesh: topology?.mesh.name.value, names: topology?.names ?? [:],
            revision: topology.map { _ in files.revision(below: source.topology) })
    }
}
