// Asks the questions of trials, each on a thread of its own.

internal import WeftAgent
internal import WeftLinux
internal import WeftLoop
internal import WeftModel

/// Finds out whether a change has left the host in touch. Only answers are told.
final class Prober {
    private let proofs: Inbox<(mesh: Int, probe: Probe, isAnswered: Bool)>
    /// What is being asked: one question at a time of each.
    private var asking: Set<Probe> = []

    private let git: GitFollower?
    /// What was known of a connection when a trial began.
    private struct Baseline {
        var trial: String?
        var asked = 0
        var acknowledged: UInt64 = 0
    }

    private var baselines: [TCPConnection: Baseline] = [:]

    init(git: GitFollower? = nil) throws(LoopError) {
        proofs = try Inbox()
        self.git = git
    }

    /// Readable when there are answers.
    var descriptor: Int32 { proofs.descriptor }

    /// Who has answered, and which mesh wanted to know.
    func drain() -> [(mesh: Int, probe: Probe)] {
        let told = proofs.drain()
        for (_, probe, _) in told { asking.remove(probe) }
        return told.filter(\.isAnswered).map { ($0.mesh, $0.probe) }
    }

    /// Asks what a mesh's controller wants to know now.
    func ask(_ controller: MeshController<AgentHost>, _ mesh: Int) {
        let force = controller.force
        let patience = Duration.milliseconds(900)
        for probe in controller.takeProbes() {
            switch probe {
            case .echo(let address, let interface):
                let source = force?.desired.state.addresses.first { $0.address.family == address.family }
                let echo = EchoProbe(interface: interface, source: interface == nil ? nil : source?.address)
                start(probe, mesh) { echo.send(to: address, size: 64, patience: patience) == .echoed }
            case .peer(_, let address):
                // Whether anything comes of it is seen at the peer.
                let echo = EchoProbe(interface: force?.mesh.interface, source: nil)
                start(probe, mesh) { echo.send(to: address, size: 64, patience: patience) == .echoed }
            case .session(let connection, let strict): ask(connection, strict, probe, mesh, in: controller.onTrial)
            case .git: if let git { start(probe, mesh) { git.isReachable() } }
            case .connection(let address): start(probe, mesh) { takesConnections(address, patience: patience) }
            case .resolver(let address): start(probe, mesh) { answersQueries(address, patience: patience) }
            }
        }
    }

    private func start(_ probe: Probe, _ mesh: Int, _ body: @escaping @Sendable () -> Bool) {
        guard asking.insert(probe).inserted else { return }
        Worker.start { [proofs] in proofs.post((mesh: mesh, probe: probe, isAnswered: body())) }
    }

    /// What was acknowledged since it was asked for the second time: before that it may have been sent before the change.
    /// The kernel answers at once.
    private func ask(_ connection: TCPConnection, _ strict: Bool, _ probe: Probe, _ mesh: Int, in trial: String?) {
        guard let progress = (try? TCPSockets())?.progress(of: connection) else { return }
        var baseline = baselines[connection] ?? Baseline()
        if baseline.trial != trial { baseline = Baseline(trial: trial) }
        if baseline.asked < 2 { baseline.acknowledged = progress.acknowledged }
        baseline.asked += 1
        baselines[connection] = baseline
        // Where its output goes elsewhere, apply has nothing to send: by then it would have.
        let isIdle = !strict && baseline.asked > 6 && progress.waiting == 0
        if progress.acknowledged > baseline.acknowledged || isIdle {
            proofs.post((mesh: mesh, probe: probe, isAnswered: true))
        }
    }
}
