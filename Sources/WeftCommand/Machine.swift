// The composition root: the real kernel, the real state folder and the real clock behind the commands.

internal import Glibc
internal import Netlink
internal import WeftDiagnostics
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan

/// This machine, in this network namespace.
struct Machine {
    private let state: StateFolder
    private let seams = Seams.current
    /// What `expires` is measured against.
    let calendar: ClockFloor

    /// - Parameter calendar: one that others have too; nil: one of its own.
    init(stateDirectory: String, calendar: ClockFloor? = nil) throws {
        state = StateFolder(path: stateDirectory)
        self.calendar = calendar ?? Self.calendar(of: stateDirectory)
    }

    static func calendar(of stateDirectory: String) -> ClockFloor {
        ClockFloor(StateFolder(path: stateDirectory), wall: clock)
    }

    // MARK: Clock

    static func clock() -> UnixTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return UnixTime(seconds: Int64(time.tv_sec), nanoseconds: Int32(time.tv_nsec))
    }

    func now() -> UnixTime { Self.clock() }

    // MARK: Kernel

    /// - Parameters:
    ///   - looksForDetours: whether the plan is to name what of others takes the mesh's packets.
    ///   - secrets: called only when an operation needs a secret.
    func dataplane(
        looksForDetours: Bool = false, secrets: @escaping () throws(DataplaneError) -> SecretArena
    ) throws -> HookedDataplane<KernelDataplane> {
        var parts = KernelDataplane.Parts(
            userspace: userspace(secrets),
            sysctls: StateSysctls(state), secrets: secrets, resolver: resolver)
        parts.looksForDetours = looksForDetours
        return HookedDataplane(
            base: try KernelDataplane(parts, transports: transports), beforeOperation: seams.beforeOperation)
    }

    private func userspace(_ secrets: @escaping () throws(DataplaneError) -> SecretArena) -> UserspacePrograms {
        UserspacePrograms(state, secrets: secrets, environment: Self.environment())
    }

    /// What a mesh needs of this machine.
    var support: [Support] {
        let programs = userspace { () throws(DataplaneError) in throw DataplaneError(.key, "no key is needed") }
        return [wireGuardSupport(programs, transports: transports)]
    }

    private var resolver: ResolverPrograms { ResolverPrograms(state, environment: Self.environment()) }

    /// What programs are looked up with.
    static func environment(
        _ names: [String] = ["PATH", "WG_QUICK_USERSPACE_IMPLEMENTATION"]
    ) -> [String: String] {
        var values: [String: String] = [:]
        for name in names {
            if let value = getenv(name) { values[name] = String(cString: value) }
        }
        return values
    }

    private var transports: TransportFactory {
        let wrap = seams.wrapTransport
        return { (bus) throws(Errno) in
            let socket: any Transport = try Socket(bus)
            return wrap?(socket, bus) ?? socket
        }
    }

    /// The meshes that weft has made here.
    func ownMeshes() throws(DataplaneError) -> [MeshIdentity] { try WeftLinux.ownMeshes(transports: transports) }

    /// The mesh that has an interface here.
    func mesh(onInterface interface: String) throws -> MeshIdentity {
        if let mesh = try ownMeshes().first(where: { $0.interface == interface }) { return mesh }
        let (mesh, observation) = try look(at: interface)
        if Self.isRemnant(observation) { return mesh }
        throw Failure(
            "\(interface) is not an interface of weft's: nothing was changed",
            remedy: "`weft status` lists the interfaces that are")
    }

    /// The same for a mesh that is to go. It may have gone: where nothing at all has the name, there is nothing to remove.
    func meshToTakeDown(onInterface interface: String) throws -> MeshIdentity {
        do {
            return try mesh(onInterface: interface)
        } catch  where Self.canName(interface) {
            let (mesh, observation) = try look(at: interface)
            if observation.foreign.contains(where: { $0.kind == "interface" }) { throw error }
            return mesh
        }
    }

    /// Whether Linux lets an interface have a name: no other becomes part of a path.
    private static func canName(_ interface: String) -> Bool {
        (1..<Int(IFNAMSIZ)).contains(interface.utf8.count) && interface != "." && interface != ".."
            && !interface.contains { $0 == "/" || $0 == ":" || $0.isWhitespace }
    }

    /// What goes by an interface's name, which stands for that of the mesh: there is none to be read.
    private func look(at interface: String) throws -> (MeshIdentity, Observation) {
        let mesh = MeshIdentity(mesh: interface, interface: interface)
        var dataplane = try dataplane { () throws(DataplaneError) in
            throw DataplaneError(.key, "to look needs no key")
        }
        return (mesh, try dataplane.observe(mesh, Interests()))
    }

    /// Whether a mesh's link is gone while what does not hang on it stands: its firewall, perhaps with a kill switch, and its
    /// policy rules.
    private static func isRemnant(_ observation: Observation) -> Bool {
        let state = observation.state
        return state.link == nil && (state.firewall != nil || !state.rules.isEmpty)
    }

    /// Those of the interfaces that weft has worked on here.
    func remnants() throws -> [MeshIdentity] {
        let live = Set(try ownMeshes().map(\.interface))
        return try state.interfaces.filter { !live.contains($0) }.compactMap {
            let (mesh, observation) = try look(at: $0)
            return Self.isRemnant(observation) ? mesh : nil
        }
    }

    /// A mesh has one interface on a host. Where it is on another one than is asked for, that one still holds its port and
    /// its addresses, and must go first.
    func refuseAnotherInterface(_ mesh: MeshIdentity) throws {
        guard let other = try otherInterface(of: mesh) else { return }
        throw Failure(
            "the mesh \(mesh.mesh) is on the interface \(other) here, and the topology wants it on \(mesh.interface)",
            remedy: try remedy(for: mesh, on: other))
    }

    /// Where the mesh is instead; nil where it is nowhere, or where it belongs.
    func otherInterface(of mesh: MeshIdentity) throws(DataplaneError) -> String? {
        try ownMeshes().first { $0.mesh == mesh.mesh && $0.interface != mesh.interface }?.interface
    }

    private func remedy(for mesh: MeshIdentity, on other: String) throws -> String {
        // What weft has named is on record under that name.
        if state.remembers(mesh.interface), !state.remembers(other) {
            // A program knows its device by the name that it was started with: nobody finds its socket by another one.
            let isProgram = try state.programToken(of: mesh.interface) != nil
            let way =
                isProgram
                ? "ip link delete \(other)"
                : "ip link set dev \(other) down; ip link set dev \(other) name \(mesh.interface)"
            return "somebody renamed it: `\(way)`, then run this again"
        }
        let opens = try hasKillSwitch(MeshIdentity(mesh: mesh.mesh, interface: other))
        return "sessions cannot move to another interface: `weft down --interface \(other)`, then apply"
            + (opens
                ? ". Its kill switch is open from the one to the other: take the host off the network for as long" : "")
    }

    /// Whether what this host sends is refused where it does not go by an interface of weft's.
    private func hasKillSwitch(_ mesh: MeshIdentity) throws -> Bool {
        var dataplane = try dataplane { () throws(DataplaneError) in
            throw DataplaneError(.key, "to look needs no key")
        }
        return try dataplane.observe(mesh, Interests(sysctls: [])).state.firewall?.hasKillSwitch == true
    }

    // MARK: Facts

    /// Addresses of host names, in the resolver's order.
    func lookUp(names: [String]) -> [String: [IPAddress]] { WeftLinux.lookUp(names: names).addresses }

    /// What this host adds to a topology.
    ///
    /// - Parameters:
    ///   - names: addresses of endpoints' names.
    ///   - draft: what is wanted as far as it hangs on no fact: its own interface does not count, and the paths to its
    ///     endpoints are looked up as its own packets will go.
    func facts(_ names: [String: [IPAddress]], for draft: DesiredState) throws -> HostFacts {
        let own = Set(try ownMeshes().map(\.interface) + [draft.interface])
        let features = try HostFeatures(transports: transports)
        var endpoints = Set(draft.state.peers.compactMap { $0.endpoint?.address })
        endpoints.formUnion(names.values.compactMap(\.first))
        var facts = HostFacts(
            resolvedNames: names,
            linkMTU: try PathMTU(for: draft.identity, transports: transports).linkMTU(
                to: endpoints, mark: draft.state.device?.fwMark ?? 0,
                hasIPv6: draft.state.addresses.contains { $0.address.family == .v6 }),
            connectedNetworks: connectedNetworks { own.contains($0) },
            acceptingRouterAdvertisements: interfacesAcceptingRouterAdvertisements { own.contains($0) },
            didResolve: true)
        facts.interfaces = try features.interfaces()
        facts.families = try features.families()
        facts.ipv6Switch = features.ipv6Switch(on: draft.interface)
        if draft.state.firewall != nil { facts.hasFirewall = features.hasFirewall() }
        facts.hasStrictReversePath = features.hasStrictReversePath(on: draft.interface)
        facts.hasForwardingOff = features.hasForwardingOff(on: draft.interface)
        if !draft.state.rules.isEmpty { facts.otherTunnels = try features.otherTunnels(than: draft.interface) }
        if draft.state.resolver != nil { facts.resolvers = resolver.available() }
        return facts
    }

    /// The endpoints that packets of the tunnel's have no route to. A peer's live endpoint counts before the wanted one.
    func endpointsWithoutRoute(_ desired: DesiredState, _ live: HostState) throws(DataplaneError) -> Set<IPAddress> {
        let endpoints = (desired.state.peers + live.peers).compactMap { $0.endpoint?.address }
        return try addressesWithoutRoute(
            among: Set(endpoints), mark: desired.state.device?.fwMark ?? 0, of: desired.identity, transports: transports
        )
    }

    // MARK: Memory

    func memory(of mesh: MeshIdentity) throws(DataplaneError) -> MeshMemory {
        try state.meshMemory(of: mesh.interface)
    }

    /// The same for a command, which says what of it could not be used.
    func memorySayingProblems(of mesh: MeshIdentity) throws(DataplaneError) -> MeshMemory {
        let memory = try memory(of: mesh)
        for problem in memoryProblems { Terminal.standard.write("warning: \(problem)", to: .error) }
        return memory
    }

    /// What of the state folder could not be used so far.
    var memoryProblems: [String] { (calendar.stateProblems + state.problems).map(\.description) }

    func remember(_ memory: MeshMemory, of mesh: MeshIdentity) throws(DataplaneError) {
        try state.store(memory, of: mesh.interface)
    }

    /// Forgets a mesh that is gone, and what a program of its that was killed has left behind.
    func forget(_ mesh: MeshIdentity) throws {
        var programs = UserspacePrograms(state, environment: [:])
        try programs.clear(interface: mesh.interface)
        try state.forget(mesh.interface)
        try StateSysctls(state).removeIfEmpty()
    }

    /// Whether what was done for a mesh is on record.
    func remembers(_ mesh: MeshIdentity) -> Bool { state.remembers(mesh.interface) }

    /// Files of a mesh that could not be used, and were kept.
    func keptAside(of mesh: MeshIdentity) -> [String] { state.keptAside(of: mesh.interface) }

    /// Takes an interface for an agent, for as long as the lock lives.
    func lock(_ mesh: MeshIdentity, agent socket: String) throws(DataplaneError) -> FileLock {
        try state.lock(mesh.interface, timeout: .zero, as: .agent(socket), readingOnly: true)
    }

    /// Takes over an interface's lock from who started this process.
    func inheritLock(_ mesh: MeshIdentity) throws(DataplaneError) -> FileLock { try state.inheritLock(mesh.interface) }

    /// Where who watches over a trial answers.
    func trialSocket(of mesh: MeshIdentity) -> String { state.trialSocket(of: mesh.interface) }

    /// The sockets of agents, and of those that watch over trials.
    var holders: [String] { state.holders }

    /// Whether an agent, or who watches over a trial, holds an interface.
    func isHeld(_ interface: String) -> Bool { state.isHeld(interface) }

    /// Keeps the last good topology for the next start, and as what a later change is taken back to.
    func keep(_ files: SourceFiles, of path: String, for mesh: MeshIdentity) throws(DataplaneError) {
        try state.keep(files, of: path, for: mesh.interface)
    }

    /// The topology that was in force last, with its path; nil where none was kept.
    func topologyInForce(_ mesh: MeshIdentity) throws(DataplaneError) -> (files: SourceFiles, root: String)? {
        try state.topology(inForceOn: mesh.interface)
    }

    /// Whether a mesh was applied to its end, and not taken down since.
    func wasInForce(_ mesh: MeshIdentity) -> Bool { state.wasInForce(on: mesh.interface) }

    /// Interfaces of which a trial is remembered.
    var interfacesWithTrials: [String] { state.interfacesWithTrials }

    /// What was kept of the topology at a path, with the path that its files have there; nil where nothing was.
    func keptTopology(of path: String) throws(DataplaneError) -> (files: SourceFiles, root: String)? {
        try state.keptTopology(of: path)
    }

    func trial(of mesh: MeshIdentity) -> TrialRecord? { trial(on: mesh.interface) }

    func trial(on interface: String) -> TrialRecord? { try? state.trial(of: interface) }

    func store(_ trial: TrialRecord?, of mesh: MeshIdentity) throws(DataplaneError) {
        try state.store(trial, of: mesh.interface)
    }

    /// Takes an interface for a command.
    func lock(_ mesh: MeshIdentity) throws(DataplaneError) -> FileLock {
        let lock = try state.lock(mesh.interface, onWait: { Self.tellOfWaiting(for: $0, mesh) })
        try InterfaceClaim.refuse(mesh.interface)
        return lock
    }

    /// The same for a mesh that is to go: nobody stays behind a kill switch because a disk is full. Nil where the state
    /// folder takes no lock, which is said.
    func lockToTakeDown(_ mesh: MeshIdentity) throws(DataplaneError) -> FileLock? {
        do throws(DataplaneError) {
            let lock = try state.lock(mesh.interface, readingOnly: true, onWait: { Self.tellOfWaiting(for: $0, mesh) })
            try InterfaceClaim.refuse(mesh.interface)
            return lock
        } catch {
            guard [EROFS, ENOSPC, EDQUOT].contains(error.errno) else { throw error }
            try InterfaceClaim.refuse(mesh.interface)
            Terminal.standard.write(
                "warning: \(error.description): no other run of weft is kept from changing \(mesh.interface) now",
                to: .error)
            return nil
        }
    }

    private static func tellOfWaiting(for holder: String, _ mesh: MeshIdentity) {
        Terminal.standard.write("waiting for \(holder), which changes \(mesh.interface)", to: .error)
    }
}
