// One mesh under an agent's care: what wakes it, and the next bounded piece of work. No clock, no socket, no thread.

import WeftDiagnostics
package import WeftModel
package import WeftPlan
package import WeftReconcile
package import WeftTopology

/// Leads one mesh from wake-up to wake-up, always by the same full pass: read the topology, compile, observe, diff,
/// apply in steps, and look again. Everything that happens only wakes it (rule 1 of reconciling):
///
///     topology ─► read ─► compile ─┐
///     names, clock, host's facts ──┴─► in force ─► pass ─► nothing to do ─► wait for the next wake-up
///     kernel's events, poll, reload ─────────────►   │  └► step, step, … ─► the next pass
///
/// What is in force is replaced only by what was read whole, has no error, and can be on this host.
package final class MeshController<Host: MeshHost> {
    /// What woke it.
    package struct Wake: OptionSet, Sendable {
        package let rawValue: Int
        package init(rawValue: Int) { self.rawValue = rawValue }

        /// Something in the topology's folder may have changed.
        package static var topology: Wake { Wake(rawValue: 1) }
        /// The state in force must be compiled anew: a clock boundary, names, what the host adds.
        package static var compile: Wake { Wake(rawValue: 2) }
        /// The kernel must be looked at.
        package static var pass: Wake { Wake(rawValue: 4) }
    }

    package struct Settings: Sendable {
        /// What is done about changes from outside.
        package enum Drift: String, Sendable, CaseIterable { case repair, report }

        package var drift = Drift.repair
        /// How often what has no events is looked at.
        package var poll = Duration.seconds(5)
        /// How changes are judged; nil: they are not.
        package var confirm: ConfirmSettings?
        /// Nodes from which WireGuard must hear after a change.
        package var confirmPeers: [String] = []
        /// Whether a change that would cut what must not be cut is put on trial by itself.
        package var guardsItself = true
        /// Whether a trial outlives its judge: another one goes on with it.
        package var resumesTrials = true

        package init() {}
    }

    /// Where it stands, in a word for the status document.
    package enum Stage: String, Sendable {
        /// There is no topology to go by.
        case waiting
        /// The host is as wanted.
        case converged
        /// Operations are under way.
        case applying
        /// Something was changed from outside, and is only reported.
        case drifted
        /// What must be done again and again waits a little.
        case held
        /// Something that is not weft's stands in the way.
        case blocked
        /// Operations fail.
        case failing
    }

    /// Operations under way.
    private struct Job {
        var application: Application
        var observation: Observation
        var isDrift: Bool
    }

    /// What is in force.
    package struct Force {
        package var revision: Revision<Host.Source>
        package var compilation: Compilation
        /// Of what was before a change: nodes that left with it, and their preshared keys too. They come back with these.
        var leftOut: Set<String> = []
        /// What makes the same of this host: the same files, as long as no node expires.
        var reach: String { ([revision.id] + compilation.expired.keys.sorted()).joined(separator: " ") }
        package var desired: DesiredState { compilation.desired }
        package var mesh: MeshIdentity { desired.identity }
    }

    package let settings: Settings
    package internal(set) var host: Host
    private let emit: (AgentEvent) -> Void
    /// Called after each batch of operations, with the indices that it decided.
    package var progress: (Application, Range<Int>) -> Void = { _, _ in }

    package internal(set) var force: Force? {
        didSet { if let force { host.use(force.revision) } }
    }
    /// What is kept shut while nothing is in force, because the host's keys cannot be used.
    var standIn: Force?
    /// Why what the folder holds is not in force; nil where it is.
    var refusal: AgentProblem?
    /// Why what is in force cannot be compiled anew: what it was compiled to before stays.
    var obsolescence: AgentProblem?
    /// What a person must know.
    package var problem: AgentProblem? {
        let kept = force == nil ? keptRefusal : nil
        return rival ?? (kept?.isFatal == true ? kept : nil) ?? refusal ?? kept ?? obsolescence
    }
    /// Why what was kept from before cannot be in force instead.
    var keptRefusal: AgentProblem?
    package private(set) var stage = Stage.waiting
    package internal(set) var observation: Observation?
    /// What differs, where that is not being repaired.
    package private(set) var remaining: Plan?
    /// Why the kernel could not be read.
    package private(set) var failure: String?
    /// What must outlive the agent, and could not be written down yet.
    var arrears = Arrears()
    /// What of the memory could not be used or written down: the tunnels do not hang on it.
    package internal(set) var memoryProblems: [String] = []
    var saidOfMemory: Set<String> = []
    /// Who else has taken charge of the interface meanwhile: it is then left alone.
    var rival: AgentProblem?
    package private(set) var figures = Figures()

    var pending: Wake = [.topology]
    /// Whether what the folder will hold is yet to come.
    var isFolderAwaited = false
    /// Whether a pass went before it already.
    private var isCompileOverdue = false
    var reconciler: Reconciler<Host.Plane>?
    var memory = MeshMemory()
    var names: [String: [IPAddress]] = [:]
    private var job: Job?
    var guarding = DriftGuard()
    var heldUntil: ContinuousClock.Instant?
    private var nextPoll: ContinuousClock.Instant?
    /// Whether the state in force was reached: what differs from then on was changed from outside.
    package internal(set) var isSettled = false
    /// Whether nothing has been decided yet.
    private var isFirst = true
    private var hints: [String] = []
    var reported: Set<Operation> = []
    /// Of what was changed from outside and is only reported, what stands while something else is wanted.
    var spared: Set<Operation> = []
    private var chatter = Chatter()
    /// What stands in the way.
    package private(set) var obstacles: [ForeignObject] = []
    private var hindrances: [ForeignObject] = []
    var handshakes = HandshakeWatch()
    /// A change that must prove itself, what it is, and what was in force before.
    var trial: (trial: Trial, candidate: Force, previous: Force)?
    var due: [Probe] = []
    /// Since the start, where nobody has answered yet: what comes before the network says nothing of a change.
    var networkAwaitedSince: ContinuousClock.Instant?
    private var isStarted = false
    /// What the last change would have cut off, as far as it could be told beforehand.
    package internal(set) var cuts: [Cut] = []
    /// What came of the last trial.
    package internal(set) var verdict: Verdict?
    /// A topology that failed on trial.
    var rejected: (id: String, problem: AgentProblem)?

    package init(host: Host, settings: Settings, emit: @escaping (AgentEvent) -> Void) {
        self.host = host
        self.settings = settings
        self.emit = emit
    }

    /// Begins with what is in force already, instead of reading it; the host is only looked at.
    package func begin(with revision: Revision<Host.Source>, at now: ContinuousClock.Instant) throws(AgentProblem) {
        let force = Force(revision: revision, compilation: try host.compile(revision, names: names))
        do throws(DataplaneError) { memory = try host.memory(of: force.mesh) } catch {
            throw AgentProblem(error.description)
        }
        try host.takeCharge(of: force.mesh)
        self.force = force
        // Where somebody has begun it, the network is there.
        (isSettled, isFirst, isStarted) = (true, false, true)
        pass(at: now)
        pending = [.topology]
    }

    /// Whether something is to be done now.
    package var isBusy: Bool { job != nil || !pending.isEmpty }

    package func wake(_ reasons: Wake) { pending.formUnion(reasons) }

    /// The kernel told of changes.
    ///
    /// - Parameter hints: who changed what, as far as the kernel tells.
    package func noteKernelEvents(_ hints: [String]) {
        self.hints += hints.prefix(max(0, 16 - self.hints.count))
        wake(.pass)
    }

    /// All but the topology's folder is looked at anew, and nothing waits any longer.
    package func reload() {
        guarding.reset()
        heldUntil = nil
        reported = []
        wake([.compile, .pass])
    }

    // MARK: Names

    /// Names whose answers would change something: all at first, later those of peers that are silent.
    package func namesToResolve(isFirst: Bool) -> [String] {
        guard let force else { return [] }
        let wanted = host.endpointNames(force.revision)
        if isFirst { return wanted }
        let silent = handshakes.silent
        let dialled = force.desired.endpointNames.filter { silent.contains($0.key) }
        return wanted.filter { name in dialled.values.contains { $0.hasPrefix("\(name):") } || names[name] == nil }
    }

    /// Takes answers; a name without one keeps the last one it had.
    package func take(names answers: [String: [IPAddress]]) {
        var changed: [String] = []
        for (name, addresses) in answers where !addresses.isEmpty && names[name] != addresses {
            names[name] = addresses
            changed.append(name)
        }
        if changed.isEmpty { return }
        say(.info, .names, "resolved \(changed.sorted().prefix(8).joined(separator: ", "))")
        wake(.compile)
    }

    // MARK: Work

    /// Does the next piece of work.
    ///
    /// - Returns: when to call again where nothing wakes it before: `now` where there is more to do.
    package func step(at now: ContinuousClock.Instant) -> ContinuousClock.Instant {
        if !isStarted { (isStarted, networkAwaitedSince) = (true, now) }
        if job != nil {
            stepJob(at: now)
            return now
        }
        if pending.contains(.topology) {
            pending.remove(.topology)
            readTopology(at: now)
            return now
        }
        // What others have changed is put right first, by what is wanted already: to compile may take longer. But a storm of
        // changes does not put it off for ever.
        let isDriftFirst = isSettled && pending.contains(.pass) && !isCompileOverdue
        isCompileOverdue = pending.contains(.compile) && isDriftFirst
        if pending.contains(.compile), !isDriftFirst {
            pending.remove(.compile)
            compileAgain()
            return now
        }
        let nextOfTrial = stepTrial(at: now)
        if let nextPoll, nextPoll <= now {
            // What kept the topology from being taken may lie elsewhere: a key that is made at last, a lock.
            let isCompiled = obsolescence == nil && force?.leftOut.isEmpty != false
            pending.insert(force == nil ? [.pass, .topology] : isCompiled ? .pass : [.pass, .compile])
            self.nextPoll = nil
            stayInCharge()
            catchUp()
            lookAtMemory()
        }
        if let heldUntil, heldUntil <= now {
            self.heldUntil = nil
            pending.insert(.pass)
        }
        if pending.contains(.pass) {
            pending.remove(.pass)
            pass(at: now)
            if job != nil { return now }
        }
        let regular = nextPoll ?? now + settings.poll
        nextPoll = regular
        let poll = min(regular, nextOfTrial ?? regular)
        return pending.isEmpty ? min(poll, heldUntil ?? poll) : now
    }

    // MARK: A pass

    private func pass(at now: ContinuousClock.Instant) {
        nextPoll = now + settings.poll
        guard let force = force ?? standIn else {
            stage = .waiting
            return
        }
        if rival != nil {
            stage = .blocked
            return
        }
        figures.passes += 1
        let plan: Plan
        do throws(DataplaneError) {
            if reconciler == nil { reconciler = Reconciler(try host.openDataplane()) }
            guard let (found, seen) = try reconciler?.plan(force.mesh, desired: force.desired, memory: memory) else {
                return
            }
            (plan, observation) = (found, seen)
            failure = nil
        } catch {
            if failure != error.description { say(.error, .agent, error.description) }
            failure = error.description
            stage = .failing
            return
        }
        observation.map(watchHandshakes)
        if let untold = chatter.end(at: now) {
            say(.warning, .drift, "\(untold) more changes from outside were found meanwhile")
        }
        name(plan)
        decide(plan, at: now)
    }

    private func decide(_ found: Plan, at now: ContinuousClock.Instant) {
        guard let observation else { return }
        let plan = spare(found)
        let operations = plan.operations.map(\.operation)
        if operations.isEmpty, !found.isEmpty {
            (isSettled, reported) = (true, spared)
            noteReached()
            (stage, remaining) = (.drifted, found)
            return
        }
        if operations.isEmpty, plan.isHeld || plan.isBlocked {
            (stage, remaining) = (.blocked, plan)
            return
        }
        if operations.isEmpty {
            let node = plan.hasKillSwitch ? force?.desired.node : nil
            if !plan.endpointsToRemember.isEmpty || plan.hasKillSwitch != memory.hasKillSwitch || node != memory.node {
                remember(Application(plan))
            }
            if stage != .converged, !isSettled, force?.revision.origin != .nothing { sayWhatCameOfIt() }
            if !isSettled { markUndone() }
            stage = plan.obstacles.isEmpty ? .converged : .blocked
            (isSettled, remaining, hints, reported) = (true, nil, [], [])
            noteReached()
            guarding.forgetOld(at: now)
            return
        }
        if isSettled { report(drift: operations, at: now) }
        if isSettled, settings.drift == .report {
            (stage, remaining) = (.drifted, plan)
            return
        }
        let wait = guarding.wait(for: operations, at: now)
        if wait > .zero {
            if stage != .held {
                say(
                    .warning, isSettled ? .drift : .apply,
                    "the same had to be done again and again: the next try is in \(wait.components.seconds + 1) s")
            }
            (stage, remaining, heldUntil) = (.held, plan, now + wait)
            return
        }
        // Whoever is killed in its midst leaves what nobody has changed from outside.
        if !isSettled { note(reached: nil) }
        stage = .applying
        job = Job(application: Application(plan), observation: observation, isDrift: isSettled)
    }

    /// Where changes from outside are only reported, a plan without those.
    private func spare(_ found: Plan) -> Plan {
        guard settings.drift == .report, let force, !isSettled else { return found }
        // Those of a time when no agent ran, too; but a mesh that is gone altogether, as after a start of the machine, is made.
        // Another key is none of them.
        if isFirst, memory.reached == force.reach, host.trial(of: force.mesh)?.isUndone != false,
            observation?.state.link != nil, !found.operations.contains(where: \.replacesSecret)
        {
            isSettled = true
        }
        isFirst = false
        var plan = found
        if !isSettled, !spared.isEmpty { plan.operations.removeAll { spared.contains($0.operation) } }
        return plan
    }

    private func noteReached() {
        spared = []
        guard settings.drift == .report, let force, trial == nil else { return }
        note(reached: force.reach)
    }

    private func note(reached: String?) {
        if memory.reached == reached { return }
        memory.reached = reached
        arrears.isMemoryNew = true
        catchUp()
    }

    private func stepJob(at now: ContinuousClock.Instant) {
        guard var job, var reconciler else { return }
        // One owner each: what they hold is changed where it is, not copied.
        (self.job, self.reconciler) = (nil, nil)
        let decided = job.application.step(&reconciler.dataplane)
        progress(job.application, decided)
        self.reconciler = reconciler
        if job.application.isFinished { finish(job, at: now) } else { self.job = job }
    }

    private func finish(_ job: Job, at now: ContinuousClock.Instant) {
        let operations = job.application.plan.operations.map(\.operation)
        let outcomes = zip(operations, job.application.outcomes)
        let failed = outcomes.filter { $0.1.isFailure }
        let done = outcomes.filter { !$0.1.isFailure }.map(\.0)
        guarding.note(operations, failures: Set(failed.map(\.0)), at: now)
        figures.changes += done.count
        if job.isDrift { figures.repairs += 1 } else { figures.applies += 1 }
        remember(job.application)
        if !done.isEmpty, !job.isDrift || !chatter.isTooMuch {
            say(job.isDrift ? .info : .notice, .apply, "\(job.isDrift ? "repaired" : "applied") \(list(done))")
        }
        let errors = failed.compactMap { operation, outcome in
            if case .failed(let error) = outcome { (operation, error) } else { nil }
        }
        for (operation, error) in errors.prefix(8) {
            say(.error, .apply, "\(host.phrase(operation)): \(error.description)")
        }
        stage = failed.isEmpty ? .applying : .failing
        // What came of it is seen by the next pass: only an empty one settles.
        wake(.pass)
    }

    private func remember(_ application: Application) {
        guard let force else { return }
        var remembered = memory
        remembered.note(application, of: force.desired)
        // A switch that is taken away on trial is one that may have to be shut again, and soon.
        if trial != nil, memory.hasKillSwitch { (remembered.hasKillSwitch, remembered.node) = (true, memory.node) }
        if remembered == memory { return }
        memory = remembered
        arrears.isMemoryNew = true
        catchUp()
    }

    // MARK: Saying it

    private func report(drift operations: [Operation], at now: ContinuousClock.Instant) {
        let found = Set(operations)
        defer { hints = [] }
        if found.isSubset(of: reported) { return }
        reported.formUnion(found)
        if chatter.note(at: now) {
            figures.drifts += 1
            return
        }
        // A change in the midst of a pass is seen by it before the notice of it is read.
        host.hearKernel()
        let by = hints.isEmpty ? "" : " (\(hints.joined(separator: "; ")))"
        say(.warning, .drift, "changed from outside: \(list(operations))\(by)")
        figures.drifts += 1
    }

    private func name(_ plan: Plan) {
        for object in plan.obstacles where !obstacles.contains(object) {
            say(.warning, .drift, "in the way: \(object.sentence)")
        }
        for object in plan.hindrances where !hindrances.contains(object) {
            say(.warning, .drift, "against the mesh: \(object.sentence)")
        }
        (obstacles, hindrances) = (plan.obstacles, plan.hindrances)
    }

    private func sayWhatCameOfIt() {
        guard let first = obstacles.first else { return say(.info, .apply, "the host is as the topology wants it") }
        let more = obstacles.count > 1 ? " (and \(obstacles.count - 1) more)" : ""
        say(
            .warning, .apply,
            "the host is as the topology wants it, but for what is in the way\(more): \(first.sentence)")
    }

    private func watchHandshakes(_ observation: Observation) {
        let names = force?.desired.peerNames ?? [:]
        for change in handshakes.changes(in: observation) {
            let peer = names[change.key] ?? change.key.base64
            say(change.isUp ? .info : .notice, .handshake, "\(peer) is \(change.isUp ? "up" : "down")")
        }
    }

    private func list(_ operations: [Operation]) -> String {
        let signs: [Operation.Action: String] = [.add: "+", .change: "~", .remove: "-"]
        let some = operations.prefix(6).map { "\(signs[$0.action] ?? "") \(host.phrase($0))" }.joined(separator: ", ")
        return operations.count > 6 ? "\(some) and \(operations.count - 6) more" : some
    }

    func say(_ level: AgentEvent.Level, _ kind: AgentEvent.Kind, _ message: String) {
        emit(AgentEvent(level, kind, interface: (force ?? standIn)?.mesh.interface, message))
    }
}
