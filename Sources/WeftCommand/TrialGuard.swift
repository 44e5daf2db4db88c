// Leads one change through its trial, without a terminal: an agent's controller that ends with it.

internal import Glibc
internal import WeftAgent
internal import WeftDiagnostics
internal import WeftKeys
internal import WeftLinux
internal import WeftLoop
internal import WeftModel
internal import WeftPlan
internal import WeftReconcile
internal import WeftRender
internal import WeftTopology

/// Applies, asks those who must answer, and keeps the change or takes it back. What it writes is read by `TrialFront`, as
/// long as that is there.
final class TrialGuard {
    private let controller: MeshController<AgentHost>
    private let host: AgentHost
    private let candidate: LoadedTopology
    private let output: OutputOptions
    private let confirm: ConfirmSettings
    private let loop: EventLoop
    private let signals: Signals
    private let server: LineServer
    private let prober: Prober
    private let problems: ProblemBox
    private var timer: EventLoop.Timer?
    /// What is being applied, and what came of the change once it has been.
    private var application: Application?
    private var first: (application: Application, remaining: Plan?)?
    private var nextWord = ContinuousClock.now
    private var restoring: ContinuousClock.Instant?
    private var code: Int32 = 0

    /// How often who waits is told what is waited for. It also gives a session something to acknowledge.
    private static let pause = Duration.seconds(5)
    /// How long what was before is tried to be reached again; the next weft goes on with it.
    private static let patience = Duration.seconds(300)

    /// What the controller says that a person should see.
    private final class ProblemBox { var lines: [String] = [] }

    /// Who waits for the trial's end may be gone: what became of it is also told there.
    private static let systemLog = SystemLog()

    /// Takes the interface's lock over, and finds out what to go back to. Changes nothing.
    init(
        _ candidate: LoadedTopology, path: String, options: HostOptions, output: OutputOptions,
        confirm: ConfirmSettings, peers confirmPeers: [String]
    ) throws {
        self.candidate = candidate
        self.output = output
        var confirm = confirm
        let session = try Machine(stateDirectory: options.stateDir).session
        if let session { confirm.needs.insert(.session(session, strict: false)) }
        self.confirm = confirm
        // Before any thread is made: it would not have the signals blocked.
        signals = try Signals()
        loop = try EventLoop()
        prober = try Prober()
        host = try AgentHost(path: path, options: options, socket: "")
        let machine = host.machine
        host.sessions = session.map { [$0] } ?? []
        host.gitRemotes = machine.gitRemotes(of: path)
        let context = try HostContext(candidate, options: options, machine: machine, names: [:])
        let mesh = context.mesh
        let lock = try machine.inheritLock(mesh)
        let before = try machine.topologyInForce(mesh).map { before in
            guard let revision = AgentHost.revision(before.files, below: before.root, at: machine.calendar.now()) else {
                throw Failure("what is in force cannot be read any more: a change could not be taken back")
            }
            return revision
        }
        server = try LineServer(path: machine.trialSocket(of: mesh), mode: 0o600)
        host.give(candidate, previous: before, of: mesh, lock: lock)
        // Whatever came of it before: somebody has decided anew.
        try machine.store(nil, of: mesh)

        var settings = MeshController<AgentHost>.Settings()
        settings.drift = .report
        settings.poll = .seconds(1)
        settings.confirm = confirm
        settings.confirmPeers = confirmPeers
        settings.resumesTrials = false
        let problems = ProblemBox()
        self.problems = problems
        controller = MeshController(host: host, settings: settings) { event in
            // What is done, and what is found beforehand, is said in its own words.
            let isSaid = [.drift, .apply, .revision].contains(event.kind)
            if event.kind == .confirm {
                Self.systemLog.write(level: event.level.rawValue, "\(context.mesh.interface): \(event.message)".visible)
            }
            if event.kind == .confirm || event.level >= .warning && !isSaid { problems.lines.append(event.message) }
        }
        controller.progress = { [unowned self] in note($0, $1) }
        if let node = candidate.topology.index(ofKey: context.own.publicKey) {
            let names = candidate.topology.endpointNames(dialledFrom: node, at: machine.calendar.now())
            controller.take(names: machine.lookUp(names: names))
        }
        let nothing = Revision(id: "none", origin: .nothing, source: candidate)
        try controller.begin(with: before ?? nothing, at: .now)
        problems.lines = []
    }

    /// - Returns: the exit status: 0 where the change stays.
    func run() throws -> Int32 {
        try loop.watch(signals.descriptor) { [unowned self] _ in takeSignals() }
        try loop.watch(prober.descriptor) { [unowned self] _ in
            for (_, probe) in prober.drain() { controller.note(answerTo: probe) }
            schedule(after: .zero)
        }
        try server.attach(to: loop) { [unowned self] in answer($0, $1) }
        tick()
        loop.run()
        server.close()
        return code
    }

    private func tick() {
        let now = ContinuousClock.now
        let next = controller.step(at: now)
        prober.ask(controller, 0)
        conclude(at: now)
        for line in problems.lines { say(line) }
        problems.lines = []
        if isOver(at: now) { return loop.stop() }
        remind(at: now)
        schedule(after: max(.zero, next - ContinuousClock.now))
    }

    private func schedule(after delay: Duration) {
        timer?.cancel()
        timer = loop.schedule(after: delay) { [unowned self] in tick() }
    }

    // MARK: Ends

    private func isOver(at now: ContinuousClock.Instant) -> Bool {
        switch controller.verdict {
        case .takenBack:
            let start = restoring ?? now
            restoring = start
            code = 1
            if controller.isSettled {
                markUndone()
                tell(.notice, "what was before is in force again")
            } else if now - start < Self.patience {
                return false
            } else {
                let words = "what was before could not be reached; the next weft goes on with it"
                say(words)
                tell(.error, words)
            }
        case .confirmed: code = isWhole ? 0 : 1
        case .untried, nil:
            if controller.onTrial != nil || controller.isMeasuring { return false }
            if let problem = controller.problem {
                say("\(problem.summary): nothing was changed")
                code = 1
            } else if controller.isSettled || controller.stage == .blocked {
                code = isWhole ? 0 : 1
            } else if first == nil || controller.stage == .applying {
                return false
            } else {
                code = 1
            }
        }
        finish()
        return true
    }

    /// Whether the host is as it is wanted, and nothing stands in the way of a part of it.
    private var isWhole: Bool { controller.isSettled && controller.obstacles.isEmpty }

    private func markUndone() {
        guard let mesh = controller.force?.mesh, var record = host.machine.trial(of: mesh) else { return }
        record.isUndone = true
        do {
            if controller.force?.revision.origin == .nothing { try host.machine.forget(mesh) }
            try host.machine.store(record, of: mesh)
        } catch {
            say("\(error)")
        }
    }

    // MARK: Signals and clients

    private func takeSignals() {
        while let signal = signals.next() {
            // The terminal that it was started from is nothing to it.
            if signal != SIGHUP, !controller.revert(by: "the trial was ended by a signal") { return loop.stop() }
        }
        schedule(after: .zero)
    }

    private func answer(_ client: LineServer.Client, _ request: String) {
        let answer = TrialOrder(request)?.carryOut(on: [controller], by: "by user \(client.peer?.user ?? 0)")
        client.send(Array((answer ?? "error: no such request; there are confirm and revert\n").utf8))
        client.finish()
        schedule(after: .zero)
    }

    // MARK: Saying it

    private var terminal: Terminal { Terminal.standard }

    /// For people; a document has its own field for it.
    private func say(_ line: String) {
        let text = line.prefix(1).uppercased() + line.dropFirst() + "."
        terminal.write(text.visible, to: output.format == .text ? .output : .error)
    }

    private func tell(_ level: AgentEvent.Level, _ line: String) {
        let interface = controller.force.map { "\($0.mesh.interface): " } ?? ""
        Self.systemLog.write(level: level.rawValue, (interface + line).visible)
    }

    private func note(_ application: Application, _ decided: Range<Int>) {
        self.application = application
        guard output.format == .text else { return }
        let text = PlanOutcomeText(application.plan, labels: host.labels, options: output.text())
        terminal.write(text.text(of: decided, outcomes: application.outcomes), terminator: "")
    }

    /// Says what came of an application, once the host was looked at again.
    private func conclude(at now: ContinuousClock.Instant) {
        guard let application, application.isFinished, controller.stage != .applying else { return }
        self.application = nil
        var remaining = controller.remaining
        if remaining == nil, controller.isSettled {
            var nothing = application.plan
            nothing.operations = []
            remaining = nothing
        }
        if first == nil { first = (application, remaining) }
        guard output.format == .text else { return }
        let text = PlanOutcomeText(application.plan, labels: host.labels, options: output.text())
        terminal.write(
            text.conclusion(outcomes: application.outcomes, remaining: remaining), terminator: "")
        nextWord = now
    }

    private func remind(at now: ContinuousClock.Instant) {
        guard let left = controller.trialEnds.map({ $0 - now }), first != nil, nextWord <= now else { return }
        nextWord = now + Self.pause
        let seconds = max(1, left.components.seconds)
        if confirm.isManual {
            terminal.write("Keep it? It is taken back in \(seconds) s otherwise. [y/N] ", terminator: "\n", to: .error)
        } else if !controller.missing.isEmpty {
            // Where the verdict is written too: what is read from two streams has no order.
            say("\(seconds) s are left: \(controller.missing) must answer")
        }
    }

    private func finish() {
        guard output.format == .json, let (application, remaining) = first else { return }
        var document = ApplyDocument(
            plan: PlanDocument(
                application.plan, labels: host.labels,
                warnings: candidate.diagnostics.filter { $0.severity == .warning } + controller.cuts.map(\.diagnostic),
                cuts: controller.cuts, files: candidate.files),
            outcomes: application.outcomes, converged: remaining?.isEmpty == true,
            remaining: remaining.map { PlanDocument($0, labels: host.labels) })
        document.trial = controller.verdict.map { ApplyDocument.Trial($0) }
        if let text = try? encodeJSON(document) { terminal.write(text) }
    }
}

extension ApplyDocument.Trial {
    fileprivate init(_ verdict: Verdict) {
        switch verdict {
        case .confirmed(let reason): self.init(result: "confirmed", reason: reason)
        case .takenBack(let reason): self.init(result: "taken-back", reason: reason)
        case .untried: self.init(result: "untried", reason: "nobody answers who could prove it")
        }
    }
}
