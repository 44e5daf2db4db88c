// An agent's mesh on the model kernel, with a clock that only the test moves.

import Testing
import WeftModel
import WeftPlan
import WeftTestSupport

@testable import WeftAgent
@testable import WeftTopology

let mesh = MeshIdentity(mesh: "corp", interface: "wg0")

/// The model kernel, which a test changes behind the agent's back.
final class SharedKernel: Dataplane {
    var kernel = ModelKernel()

    func observe(_ mesh: MeshIdentity, _ interests: Interests) throws(DataplaneError) -> Observation {
        try kernel.observe(mesh, interests)
    }

    func foreignRoutes(at keys: [Route.Key], of mesh: MeshIdentity) throws(DataplaneError) -> [ForeignObject] {
        try kernel.foreignRoutes(at: keys, of: mesh)
    }

    func holder(ofPort port: UInt16) -> ForeignObject? { kernel.holder(ofPort: port) }

    func perform(_ operations: [Operation], for mesh: MeshIdentity) -> [Outcome] {
        kernel.perform(operations, for: mesh)
    }
}

/// A topology is a number here: the seed of a state.
final class FakeHost: MeshHost {
    let kernel = SharedKernel()
    var folder: TopologyReading<Int> = .broken(AgentProblem("there is no topology"))
    var keptRevision: Revision<Int>?
    var keepFailure: AgentProblem?
    /// Topologies that this host cannot be.
    var impossible: Set<Int> = []
    /// Topologies with a kill switch.
    var shut: Set<Int> = []
    var other: MeshIdentity?
    var lockFailure: AgentProblem?
    var memory = MeshMemory()
    var compiled = 0
    var namesSeen: [String: [IPAddress]] = [:]
    /// Nodes that have expired by now.
    var expired: [String: UnixTime] = [:]
    var record: TrialRecord?
    var recordFailure: AgentProblem?
    var clock = UnixTime(seconds: 1_800_000_000)

    func trial(of mesh: MeshIdentity) -> TrialRecord? { record }

    func store(_ trial: TrialRecord?, of mesh: MeshIdentity) throws(AgentProblem) {
        if let recordFailure { throw recordFailure }
        record = trial
    }

    func now() -> UnixTime { clock }

    /// What must not be cut.
    var outside: [Guarded] = []
    func guarded(_ desired: DesiredState, mark: UInt32) -> [Guarded] { outside }

    func put(_ seed: Int) { folder = .good(Revision(id: "\(seed)", origin: .folder, source: seed)) }

    func read() -> TopologyReading<Int> { folder }
    func kept() -> Revision<Int>? { keptRevision }

    func keep(_ revision: Revision<Int>) throws(AgentProblem) {
        if let keepFailure { throw keepFailure }
        keptRevision = Revision(id: revision.id, origin: .kept, source: revision.source)
    }

    /// The revision whose operations are done.
    var used: String?
    func use(_ revision: Revision<Int>) { used = revision.id }

    /// Nodes whose preshared keys are gone, by topology.
    var lost: [Int: Set<String>] = [:]

    func compile(
        _ revision: Revision<Int>, names: [String: [IPAddress]], leavesOut: (String) -> Bool
    ) throws(AgentProblem) -> Compilation {
        if let lost = lost[revision.source], !lost.allSatisfy(leavesOut) { throw AgentProblem("a key is gone") }
        compiled += 1
        namesSeen = names
        if impossible.contains(revision.source) { throw AgentProblem("this host cannot be \(revision.source)") }
        if revision.origin == .nothing {
            var nothing = state(revision.source, other ?? mesh)
            nothing.state = HostState()
            return Compilation(desired: nothing, diagnostics: [], refusals: [], nextChange: nil)
        }
        if keyless.contains(revision.source) { throw AgentProblem("there is no key") }
        return compilation(of: revision.source)
    }

    /// The MTU that the host has for its mesh, where it is not the topology's.
    var variant: UInt32?

    private func compilation(of seed: Int) -> Compilation {
        var desired = state(seed, other ?? mesh)
        if let variant { desired.state.link?.mtu = variant }
        if shut.contains(seed) {
            desired.state.firewall = Firewall(chains: [
                FirewallChain(
                    "output", base: .init(.filter, .output, priority: 0),
                    rules: [FirewallRule([.reject(.prohibited)], comment: "kill switch")])
            ])
        }
        return Compilation(
            desired: desired, diagnostics: [], refusals: [], nextChange: nil, expired: expired)
    }

    /// Topologies that this host cannot be for want of a key.
    var keyless: Set<Int> = []
    func compileWithoutKeys(_ revision: Revision<Int>, because problem: AgentProblem) -> Compilation? {
        guard keyless.contains(revision.source), memory.hasKillSwitch else { return nil }
        var compilation = compilation(of: revision.source)
        compilation.desired.keyProblem = problem.summary
        return compilation
    }

    func endpointNames(_ revision: Revision<Int>) -> [String] { ["fra.example.net"] }

    func address(ofNode name: String, in revision: Revision<Int>) -> IPAddress? {
        let desired = state(revision.source)
        guard let key = desired.peerNames.first(where: { $0.value == name })?.key else { return nil }
        return desired.state.peers.first { $0.publicKey == key }?.allowedIPs.first { $0.isHost }?.address
    }

    func takeCharge(of mesh: MeshIdentity) throws(AgentProblem) { if let lockFailure { throw lockFailure } }

    func openDataplane() throws(DataplaneError) -> SharedKernel { kernel }
    func memory(of mesh: MeshIdentity) throws(DataplaneError) -> MeshMemory { memory }
    func remember(_ memory: MeshMemory, of mesh: MeshIdentity) throws(DataplaneError) { self.memory = memory }
    var memoryProblems: [String] { [] }
    var onHearing: () -> Void = {}
    func hearKernel() { onHearing() }
    func phrase(_ operation: Operation) -> String { "\(operation.kind)" }
}

func state(_ seed: Int, _ identity: MeshIdentity = mesh) -> DesiredState {
    var generator = SeededGenerator(seed: UInt64(seed))
    var desired = randomDesiredState(&generator, mesh: identity)
    // The node of a key has one name in all topologies.
    for peer in desired.state.peers { desired.peerNames[peer.publicKey] = "node-\(peer.publicKey.base64.prefix(8))" }
    return desired
}

/// An agent with a clock that only the test moves.
final class Agent {
    let host: FakeHost
    let controller: MeshController<FakeHost>
    /// Whether an address answers, while it is asked.
    var answers: (IPAddress) -> Bool = { _ in false }
    /// Whether what is no echo request is answered.
    var others: (Probe) -> Bool = { _ in false }
    private func proves(_ probe: Probe) -> Bool { probe.echoed.map(answers) ?? others(probe) }
    private(set) var events: [AgentEvent] = []
    var now = ContinuousClock.now

    init(
        host: FakeHost = FakeHost(), drift: MeshController<FakeHost>.Settings.Drift = .repair,
        confirm: ConfirmSettings? = nil, peers: [String] = [], guardsItself: Bool = true
    ) {
        self.host = host
        var settings = MeshController<FakeHost>.Settings()
        settings.drift = drift
        settings.confirm = confirm
        settings.confirmPeers = peers
        settings.guardsItself = guardsItself
        let box = EventBox()
        controller = MeshController(host: host, settings: settings) { box.events.append($0) }
        self.box = box
    }

    /// One that is started on the same host at this moment.
    func successor(confirm: ConfirmSettings? = nil) -> Agent {
        let next = Agent(host: host, confirm: confirm)
        next.now = now
        return next
    }

    private final class EventBox { var events: [AgentEvent] = [] }
    private let box: EventBox
    var kernel: ModelKernel {
        get { host.kernel.kernel }
        set { host.kernel.kernel = newValue }
    }

    /// Steps until there is nothing to do at this moment.
    @discardableResult
    func settle() throws -> Duration {
        for _ in 0..<200 {
            let next = controller.step(at: now)
            for probe in controller.takeProbes() where proves(probe) { controller.note(answerTo: probe) }
            if next > now { return next - now }
        }
        Issue.record("it never came to rest")
        return .zero
    }

    /// Goes to when it wants to be called again.
    func sleep() throws {
        let pause = try settle()
        now += pause
        host.clock.seconds += max(1, pause.components.seconds)
    }

    func said(_ kind: AgentEvent.Kind) -> [String] { box.events.filter { $0.kind == kind }.map(\.message) }
    func forget() { box.events = [] }

    /// Whether the host is as a topology wants it, by a fresh look.
    func isAsWanted(_ seed: Int) throws -> Bool {
        let desired = state(seed)
        let seen = try host.kernel.observe(mesh, Interests(desired))
        return Plan(mesh: mesh, desired: desired, observed: seen, memory: host.memory).isEmpty
    }
}
