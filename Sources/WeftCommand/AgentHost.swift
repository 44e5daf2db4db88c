// One topology on this machine, as an agent's controller sees it.

internal import Glibc
internal import WeftAgent
internal import WeftDiagnostics
internal import WeftFiles
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftRender
internal import WeftTopology

/// Which topology of one agent has an interface.
final class InterfaceRegister {
    fileprivate var topologies: [String: String] = [:]
}

/// Reads, compiles and remembers for one mesh, by the same code as the commands.
final class AgentHost: MeshHost {
    typealias Source = LoadedTopology

    let path: String
    private let options: HostOptions
    private let socket: String
    let machine: Machine
    private var lock: FileLock?
    private var claim = InterfaceClaim()
    private let register: InterfaceRegister
    /// With the names of the topology before: a peer that is on its way out is still known by its own.
    private(set) var labels = PlanLabels()
    /// What was compiled last, and the names of what was compiled before that.
    private var compiled: (id: String, names: [PublicKey: String], former: [PublicKey: String])?
    /// Why what was kept of the topology is of no use.
    private var keptProblem: String?
    /// Which keys revisions were compiled with, those of late: an operation of one reads them again, and takes no others.
    private var keys: [(id: String, own: OwnKey, preshared: [String: SecretTag])] = []
    /// The revision whose operations are done.
    private var used: String?
    private var mesh: MeshIdentity?
    /// Who is logged in, where that is one; nil: all that are.
    var sessions: [TCPConnection]?
    /// Where the topology is fetched from.
    var gitRemotes: [SocketAddress] = []
    /// Whether nothing has been fetched yet.
    var isAwaited = false
    /// Reads the folder where nobody is in the midst of writing it; nil where somebody may be.
    var readsSteadily: (() -> TopologyReading<LoadedTopology>) -> TopologyReading<LoadedTopology>? = { $0() }
    /// Reads what the kernel has told by now.
    var onHearing: () -> Void = {}
    /// What is to be tried instead of what the folder holds, and what was in force before it.
    private var given: (candidate: LoadedTopology, previous: Revision<LoadedTopology>?)?
    /// What was read last without an error, and when: the folder is looked at every minute.
    private var last: (revision: Revision<LoadedTopology>, time: UnixTime)?

    /// What had errors when it was read last. Time alone may mend it, because a node expires; but a large one is not read
    /// every minute for that.
    private var broken: (id: String, problem: AgentProblem, until: ContinuousClock.Instant)?

    init(
        path: String, options: HostOptions, socket: String, calendar: ClockFloor? = nil,
        register: InterfaceRegister = InterfaceRegister()
    ) throws {
        self.path = path
        self.register = register
        self.options = options
        self.socket = socket
        machine = try Machine(stateDirectory: options.stateDir, calendar: calendar)
    }

    /// Makes the socket's own folder; systemd has made it already.
    static func makeFolder(of socket: String) throws {
        guard let slash = socket.lastIndex(of: "/"), slash != socket.startIndex else { return }
        let folder = String(socket[..<slash])
        if mkdir(folder, 0o755) == 0 || errno == EEXIST { return }
        throw Failure(
            "\(folder) cannot be made: \(String(cString: strerror(errno)))", remedy: "name another socket with --socket"
        )
    }

    // MARK: The topology

    /// From now on this is what the folder holds, by a lock that is held already.
    func give(
        _ candidate: LoadedTopology, previous: Revision<LoadedTopology>?, of mesh: MeshIdentity,
        lock: consuming FileLock
    ) {
        given = (candidate, previous)
        self.mesh = mesh
        self.lock = consume lock
    }

    /// What a kept topology is; nil where it can no longer be read.
    static func revision(_ files: SourceFiles, below root: String, at time: UnixTime) -> Revision<LoadedTopology>? {
        let (topology, diagnostics) = TopologyReader.read(files, at: time)
        guard let topology else { return nil }
        let loaded = LoadedTopology(topology: topology, files: files, diagnostics: diagnostics)
        return Revision(id: files.revision(below: root), origin: .kept, source: loaded)
    }

    func read() -> TopologyReading<LoadedTopology> {
        if let candidate = given?.candidate {
            return .good(Revision(id: candidate.files.revision(below: path), origin: .folder, source: candidate))
        }
        return isAwaited ? .awaited : readsSteadily(readFolder) ?? .awaited
    }

    private func readFolder() -> TopologyReading<LoadedTopology> {
        let (files, problems) = TopologyFolder(path).read()
        if !problems.isEmpty { return .broken(Self.problem(problems, files, of: path)) }
        let id = files.revision(below: path)
        let now = machine.calendar.now()
        let begun = ContinuousClock.now
        if let broken, broken.id == id, begun < broken.until { return .broken(broken.problem) }
        if let last, last.revision.id == id, last.revision.source.topology.isSame(at: last.time, and: now) {
            return .good(last.revision)
        }
        let (topology, diagnostics) = TopologyReader.read(files, at: now)
        guard let topology else {
            let problem = Self.problem(diagnostics, files, of: path)
            broken = (id, problem, .now + (.now - begun) * 50)
            return .broken(problem)
        }
        broken = nil
        let loaded = LoadedTopology(topology: topology, files: files, diagnostics: diagnostics)
        let revision = Revision(id: id, origin: .folder, source: loaded)
        last = (revision, now)
        return .good(revision)
    }

    /// Whether what the folder holds now lacks nodes that were there before; nil where it cannot be read, and where nothing was.
    ///
    /// - Parameter force: what is in force; nil: what was kept.
    func lacksNodes(of force: Revision<LoadedTopology>?) -> Bool? {
        guard case .good(let found) = readFolder() else { return nil }
        guard let other = force ?? kept() ?? keptOfAnyPath(for: found.source.topology) else { return nil }
        if found.id == other.id { return false }
        let names = Set(found.source.topology.nodes.map(\.name))
        return other.source.topology.nodes.contains { !names.contains($0.name) }
    }

    func kept() -> Revision<LoadedTopology>? {
        if let given { return given.previous }
        keptProblem = nil
        do throws(DataplaneError) {
            // Before this agent, a command may have put one of another folder in force.
            var kept = try mesh.map { mesh throws(DataplaneError) in try machine.topologyInForce(mesh) } ?? nil
            if kept == nil { kept = try machine.keptTopology(of: path) }
            guard let kept else { return nil }
            return Self.revision(kept.files, below: kept.root, at: machine.calendar.now())
        } catch {
            keptProblem = error.description
            return nil
        }
    }

    /// What a command may have put in force from another folder, on an interface of this one's.
    private func keptOfAnyPath(for topology: Topology) -> Revision<LoadedTopology>? {
        for interface in topology.interfaces {
            let mesh = MeshIdentity(mesh: topology.mesh.name.value, interface: interface)
            guard let kept = (try? machine.topologyInForce(mesh)).flatMap({ $0 }) else { continue }
            return Self.revision(kept.files, below: kept.root, at: machine.calendar.now())
        }
        return nil
    }

    func keep(_ revision: Revision<LoadedTopology>) throws(AgentProblem) {
        // What is kept already needs no keeping.
        guard let mesh, revision.origin == .folder else { return }
        do throws(DataplaneError) {
            try machine.keep(revision.source.files, of: path, for: mesh)
        } catch {
            throw AgentProblem(error.description)
        }
    }

    func compile(
        _ revision: Revision<LoadedTopology>, names: [String: [IPAddress]], leavesOut: (String) -> Bool
    ) throws(AgentProblem) -> Compilation {
        let context: HostContext
        do {
            context = try HostContext(
                revision.source, options: options, machine: machine, names: names, leavesOut: leavesOut)
        } catch {
            throw Self.problem(error)
        }
        let refusals = context.compilation.refusals
        if !refusals.isEmpty {
            var problem = Self.problem(refusals, revision.source.files, of: path)
            problem.summary =
                "this host cannot be what the topology wants of \(context.desired.node): \(problem.summary)"
            throw problem
        }
        note(context.own, context.presharedTags, of: revision)
        labels = context.labels
        let former = compiled.map { $0.id == revision.id ? $0.former : $0.names } ?? [:]
        compiled = (revision.id, labels.peers, former)
        labels.peers.merge(former) { name, _ in name }
        var compilation = context.compilation
        if revision.origin == .nothing { compilation.desired.state = HostState() }
        return compilation
    }

    func use(_ revision: Revision<LoadedTopology>) { used = revision.id }

    private func note(_ own: OwnKey, _ preshared: [String: SecretTag], of revision: Revision<LoadedTopology>) {
        keys.removeAll { $0.id == revision.id }
        keys.append((revision.id, own, preshared))
        if keys.count > 3, let old = keys.firstIndex(where: { $0.id != used }) { keys.remove(at: old) }
    }

    func compileWithoutKeys(
        _ revision: Revision<LoadedTopology>, because problem: AgentProblem
    ) -> Compilation? {
        let compilation = revision.source.compileWithoutKeys(because: problem.summary, on: machine)
        if let compilation {
            labels = PlanLabels(node: compilation.desired.node, peers: revision.source.topology.names)
        }
        return compilation
    }

    func endpointNames(_ revision: Revision<LoadedTopology>) -> [String] {
        guard let own = keys.last?.own, let node = revision.source.topology.index(ofKey: own.publicKey) else {
            return []
        }
        return revision.source.topology.endpointNames(dialledFrom: node, at: machine.calendar.now())
    }

    func address(ofNode name: String, in revision: Revision<LoadedTopology>) -> IPAddress? {
        let topology = revision.source.topology
        guard let index = topology.index(ofNode: name) else { return nil }
        let own =
            keys.last.flatMap { topology.index(ofKey: $0.own.publicKey) }.map { topology.nodes[$0].addresses } ?? []
        let families = Set(own.map { $0.value.family })
        let addresses = topology.nodes[index].addresses.map(\.value)
        return addresses.first { families.contains($0.family) } ?? addresses.first
    }

    private static func problem(_ diagnostics: [Diagnostic], _ files: SourceFiles, of path: String) -> AgentProblem {
        let errors = diagnostics.filter { $0.severity == .error }
        let text = DiagnosticText(usesColour: false).render(errors, in: files)
        let first = errors.first?.message ?? "it could not be read"
        let one = first.hasPrefix(path) ? first : "\(path): \(first)"
        return AgentProblem(
            errors.count > 1 ? "\(path) has \(errors.count) errors; the first: \(first)" : one,
            details: text)
    }

    private static func problem(_ error: any Error) -> AgentProblem {
        AgentProblem(Failure.sentence(of: error))
    }

    // MARK: The interface

    func takeCharge(of mesh: MeshIdentity) throws(AgentProblem) {
        if let other = register.topologies[mesh.interface], other != path {
            throw AgentProblem(
                "\(path) and \(other) both want interface \(mesh.interface), which \(other) has: give one of the two meshes "
                    + "another `interface` name, or leave one of them out of this agent's arguments")
        }
        if self.mesh != mesh { lock = nil }
        self.mesh = mesh
        do throws(DataplaneError) {
            if lock?.isStanding != true { lock = try machine.lock(mesh, agent: socket) }
            try claim.take(mesh.interface)
            register.topologies[mesh.interface] = path
        } catch {
            throw AgentProblem(error.description, isFatal: error.code == .inCharge)
        }
    }

    func openDataplane() throws(DataplaneError) -> HookedDataplane<KernelDataplane> {
        let files = options.keyFiles
        do {
            return try machine.dataplane { [weak self] () throws(DataplaneError) in
                guard let keys = self?.keys.last(where: { $0.id == self?.used }) ?? self?.keys.last else {
                    throw DataplaneError(.key, "no key has been read yet")
                }
                do throws(KeyError) {
                    return try files.arena(own: keys.own, preshared: keys.preshared) { _ in true }
                } catch {
                    throw DataplaneError(.key, "\(error.place): \(error.message)")
                }
            }
        } catch let error as DataplaneError {
            throw error
        } catch {
            throw DataplaneError(.other, "\(error)")
        }
    }

    // MARK: Memory

    func memory(of mesh: MeshIdentity) throws(DataplaneError) -> MeshMemory { try machine.memory(of: mesh) }

    func remember(_ memory: MeshMemory, of mesh: MeshIdentity) throws(DataplaneError) {
        try machine.remember(memory, of: mesh)
    }

    var memoryProblems: [String] { machine.memoryProblems + [keptProblem, claim.problem].compactMap(\.self) }

    func trial(of mesh: MeshIdentity) -> TrialRecord? { machine.trial(of: mesh) }

    func store(_ trial: TrialRecord?, of mesh: MeshIdentity) throws(AgentProblem) {
        do throws(DataplaneError) {
            try machine.store(trial, of: mesh)
        } catch {
            throw AgentProblem(error.description)
        }
    }

    func now() -> UnixTime { machine.now() }

    func guarded(_ desired: DesiredState, mark: UInt32) -> [Guarded] {
        machine.guarded(
            sessions ?? machine.sessions, git: gitRemotes, desired.state, of: desired.identity, mark: mark)
    }

    func hearKernel() { onHearing() }
    func phrase(_ operation: Operation) -> String { operation.phrase(labels) }
}

extension Topology {
    /// Whether no node comes or goes between two points in time: the same bytes mean the same then.
    fileprivate func isSame(at first: UnixTime, and second: UnixTime) -> Bool {
        nodes.allSatisfy { $0.isActive(at: first) == $0.isActive(at: second) }
    }
}
