// The agent as a process: one loop that waits for everything, and controllers that it wakes.

internal import Glibc
internal import WeftAgent
internal import WeftLinux
internal import WeftLoop
internal import WeftModel
internal import WeftPlan
internal import WeftRender
internal import WeftStatus
internal import WeftTopology

/// Waits for the topologies' folders, the kernel, signals, the clock, answers of the resolver and clients, in one thread.
final class AgentService {
    struct Settings {
        var topologies: [String]
        var keys: [String]
        var host: HostOptions
        var socket: String
        /// What is followed by git; the topologies are links of it then.
        var git: GitFollower?
        /// How often.
        var gitInterval = Duration.seconds(60)
        /// Whether the kernel's WireGuard is to log.
        var hasWireGuardLog = false
        /// Nil: `weft`, where there is such a group; else nobody but root.
        var group: String?
        var controller = MeshController<AgentHost>.Settings()
    }

    private let settings: Settings
    private let log: AgentLog
    private let loop: EventLoop
    private let signals: Signals
    private let clock: WallClockAlarm
    private var clockKeeper: ClockKeeper
    private let answers: Inbox<(mesh: Int, names: [String: [IPAddress]])>
    private var repository: RepositoryWatch?
    private let prober: Prober
    private let notifier: ServiceNotifier
    private let kernel: KernelEvents
    private let clients: AgentClients
    private var meshes: [AgentMesh] = []
    private var tickTimer: EventLoop.Timer?
    private var nextTick = ContinuousClock.now
    private var factsTimer: EventLoop.Timer?
    private var nextFacts = ContinuousClock.now
    private var reloadTimer: EventLoop.Timer?
    private var nextReload = ContinuousClock.now
    /// When the kernel's next events may be looked at: as long as the last tick took is left to others after it.
    private var breath = ContinuousClock.now
    /// Whether the kernel has told of something since the last tick began.
    private var hasHeardKernel = false
    private var isReady = false
    private var isGivingBackSoon = false
    private var wireGuardLog: WireGuardLog?
    private let startedAt = Machine.clock()
    private var exitCode: Int32 = 0

    init(_ settings: Settings, log: AgentLog) throws {
        self.settings = settings
        self.log = log
        // Before any thread is made: it would not have the signals blocked.
        signals = try Signals()
        loop = try EventLoop()
        clock = try WallClockAlarm()
        let calendar = Machine.calendar(of: settings.host.stateDir)
        clockKeeper = ClockKeeper(calendar)
        answers = try Inbox()
        prober = try Prober(git: settings.git)
        notifier = ServiceNotifier()
        kernel = try KernelEvents()
        clients = try AgentClients(socket: settings.socket, group: settings.group)
        let register = InterfaceRegister()
        for (index, path) in settings.topologies.enumerated() {
            var host = settings.host
            if !settings.keys.isEmpty { host.privateKey = settings.keys[min(index, settings.keys.count - 1)] }
            let controller = MeshController(
                host: try AgentHost(
                    path: path, options: host, socket: settings.socket, calendar: calendar,
                    register: register),
                settings: settings.controller
            ) { [unowned self] in emit($0) }
            controller.host.isAwaited = settings.git.map { $0.commit == nil } ?? false
            let mesh = AgentMesh(controller, path)
            mesh.watch = try watch(mesh)
            controller.host.readsSteadily = { [unowned mesh] read in
                guard let watch = mesh.watch else { return read() }
                return watch.read(read)
            }
            controller.host.onHearing = { [unowned self] in takeKernelEvents() }
            meshes.append(mesh)
        }
        if let git = settings.git {
            repository = try RepositoryWatch(
                git, every: settings.gitInterval, in: loop, emit: { [unowned self] in emit($0) },
                seen: { [unowned self] in take($0) })
        }
    }

    // MARK: Running

    /// Runs until a signal ends it.
    ///
    /// - Returns: the exit status.
    func run() throws -> Int32 {
        try loop.watch(signals.descriptor) { [unowned self] _ in takeSignals() }
        try loop.watch(clock.descriptor) { [unowned self] _ in takeClock() }
        try loop.watch(answers.descriptor) { [unowned self] _ in takeAnswers() }
        try loop.watch(prober.descriptor) { [unowned self] _ in takeProofs() }
        for descriptor in kernel.descriptors {
            try loop.watch(descriptor) { [unowned self] _ in takeKernelEvents() }
        }
        for mesh in meshes {
            try mesh.watch?.begin()
        }
        try clients.attach(
            to: loop, document: { [unowned self] in tellState() }, reload: { [unowned self] in reload() },
            order: { [unowned self] order, whom in
                defer { schedule(after: .zero) }
                return order.carryOut(on: meshes.map(\.controller), by: whom)
            })
        if let interval = notifier.watchdogInterval { feedWatchdog(every: interval) }
        readFoldersAnyway()
        giveBackMemory(after: .seconds(10))
        emit(AgentEvent(.notice, .agent, interface: nil, "the agent has started (process \(getpid()))"))
        clockKeeper.look(isMoment: true).forEach(emit)
        if settings.hasWireGuardLog { startWireGuardLog() }
        tick()
        try repository?.begin()
        loop.run()
        repository?.git.end()
        stopWireGuardLog()
        clockKeeper.look(isMoment: true).forEach(emit)
        for mesh in meshes { mesh.controller.leave(at: .now) }
        emit(AgentEvent(.notice, .agent, interface: nil, "the agent stops; its tunnels stay up"))
        clients.close()
        return exitCode
    }

    /// Most of what starting and reading a topology takes is not needed again.
    private func giveBackMemory(after delay: Duration) {
        loop.schedule(after: delay) { [unowned self] in
            OwnPages.giveBack()
            giveBackMemory(after: .seconds(120))
        }
    }

    /// To tell of the state takes what nothing else needs: that is given back too, not each time, but soon.
    private func tellState() -> AgentDocument {
        if !isGivingBackSoon {
            isGivingBackSoon = true
            loop.schedule(after: .seconds(10)) { [unowned self] in
                isGivingBackSoon = false
                OwnPages.giveBack()
            }
        }
        return document()
    }

    // MARK: WireGuard's own log

    private func startWireGuardLog() {
        // It may load the module, without which there is nothing to turn on.
        _ = meshes.first?.controller.host.machine.support
        do throws(WireGuardLog.Problem) {
            wireGuardLog = try WireGuardLog()
            emit(
                AgentEvent(
                    .notice, .agent, interface: nil, "the kernel logs what its WireGuard does, until the agent stops"))
        } catch {
            emit(
                AgentEvent(
                    .warning, .agent, interface: nil,
                    "the kernel's WireGuard cannot be made to log: \(error.description)"))
        }
    }

    private func stopWireGuardLog() {
        do throws(WireGuardLog.Problem) { try wireGuardLog?.restore() } catch {
            emit(
                AgentEvent(
                    .warning, .agent, interface: nil,
                    "the kernel's WireGuard goes on logging: \(error.description)"))
        }
    }

    // MARK: Work

    /// One piece of work for each mesh; then whatever else is ready has its turn.
    private func tick() {
        let start = ContinuousClock.now
        hasHeardKernel = false
        var soonest: ContinuousClock.Instant?
        for (index, mesh) in meshes.enumerated() {
            if let end = mesh.pauseEnd, end > .now {
                soonest = min(soonest ?? end, end)
                continue
            }
            let next = mesh.step(besideOthers: meshes.count > 1)
            soonest = min(soonest ?? next, next)
            if mesh.isBack() { repository?.lookAnew() }
            ask(mesh.namesToAsk(at: start), for: index)
            prober.ask(mesh.controller, index)
            if let names = mesh.nextNames { soonest = min(soonest ?? names, names) }
        }
        // Where there is another mesh to look after, this one waits for its interface.
        if meshes.allSatisfy({ $0.controller.problem?.isFatal == true && $0.controller.force == nil }) {
            exitCode = 1
            return loop.stop()
        }
        clockKeeper.look().forEach(emit)
        if let event = clients.stayReachable() { emit(event) }
        let now = ContinuousClock.now
        breath = now + min(now - start, .seconds(1))
        setClock()
        let delay = max(.zero, (soonest ?? now + .seconds(5)) - now)
        // What comes after the agent may count on its firewall: also on that of a change that is yet to begin its trial, where
        // that does not wait for what comes after the agent.
        if delay > .zero, !isReady,
            meshes.allSatisfy({ !$0.controller.isMeasuring || $0.controller.isWaitingForAnswers })
        {
            isReady = true
            notifier.ready()
        }
        schedule(after: delay)
        // Told in the midst of it, to meshes that had had their turn.
        if hasHeardKernel { lookSoon() }
        if meshes.allSatisfy(\.isFolderInForce) { repository?.enforce() }
        answerReloaders()
    }

    private func schedule(after delay: Duration) {
        tickTimer?.cancel()
        nextTick = .now + delay
        tickTimer = loop.schedule(after: delay) { [unowned self] in tick() }
    }

    /// The same, where nothing is to be done before: work under way is not put off by what happens meanwhile.
    private func scheduleSooner(after delay: Duration) {
        if tickTimer?.isPending != true || .now + delay < nextTick { schedule(after: delay) }
    }

    private func feedWatchdog(every interval: Duration) {
        notifier.watchdog()
        loop.schedule(after: interval) { [unowned self] in feedWatchdog(every: interval) }
    }

    // MARK: What wakes it

    private func takeSignals() {
        while let signal = signals.next() {
            switch signal {
            case SIGHUP: reload()
            default: loop.stop()
            }
        }
    }

    /// The shortest time between two.
    private static let reloadPause = Duration.seconds(1)

    /// Reads and looks at everything. A storm of such orders would leave no time to act on what is read: the first is
    /// followed at once, and all that come within a second of it together.
    private func reload() {
        guard reloadTimer?.isPending != true else { return }
        let wait = max(.zero, nextReload - .now)
        if wait > .zero {
            reloadTimer = loop.schedule(after: wait) { [unowned self] in reloadNow() }
        } else {
            reloadNow()
        }
    }

    private func reloadNow() {
        nextReload = .now + Self.reloadPause
        if isReady { notifier.reloading() }
        clockKeeper.calendar.reload()
        for mesh in meshes { mesh.reload() }
        repository?.look()
        tick()
        if isReady { notifier.ready() }
    }

    private func takeClock() {
        guard let event = clock.read() else { return }
        // A second or two is what time servers do.
        if case .stepped(let step) = event, abs(step.components.seconds) >= 5 {
            let words = step > .zero ? "forward" : "back"
            emit(
                AgentEvent(
                    .warning, .clock, interface: nil,
                    "the wall clock was set \(words) by \(abs(step.components.seconds)) s"))
        }
        clockKeeper.look(isMoment: event == .due).forEach(emit)
        alarmAt = nil
        for mesh in meshes { mesh.controller.wake([.compile, .pass]) }
        schedule(after: .zero)
    }

    private var alarmAt: UnixTime?

    /// Wakes when the next node expires.
    private func setClock() {
        let next = meshes.compactMap { $0.controller.force?.compilation.nextChange }.min()
        if next == alarmAt, isReady { return }
        alarmAt = next
        clock.set(seconds: next?.seconds, nanoseconds: Int(next?.nanoseconds ?? 0))
    }

    private func takeKernelEvents() {
        let events = kernel.drain()
        if events.isEmpty { return }
        if events.overflowed {
            emit(
                AgentEvent(
                    .notice, .agent, interface: nil, "the kernel told of more changes than it could keep: all is read"))
        }
        for mesh in meshes { mesh.controller.noteKernelEvents(events.hints) }
        hasHeardKernel = true
        lookSoon()
        if !events.kinds.isDisjoint(with: [.link, .address, .route, .netconf]) { refreshFacts() }
    }

    private func lookSoon() { scheduleSooner(after: max(.milliseconds(1), breath - .now)) }

    /// What the host adds hangs on what has changed: path MTU, connected networks, interfaces.
    private func refreshFacts() {
        if factsTimer?.isPending == true { return }
        factsTimer = loop.schedule(after: max(.seconds(1), nextFacts - .now)) { [unowned self] in
            nextFacts = .now + .seconds(10)
            for mesh in meshes { mesh.controller.wake(.compile) }
            schedule(after: .zero)
        }
    }

    // MARK: Folders

    private func watch(_ mesh: AgentMesh) throws(LoopError) -> TopologyWatch {
        let controller = mesh.controller
        return try TopologyWatch(
            mesh.path, in: loop,
            warn: { [unowned self] message in
                emit(AgentEvent(.warning, .revision, interface: controller.force?.mesh.interface, message))
            },
            lacksNodes: {
                controller.host.lacksNodes(of: controller.force?.revision)
            },
            seen: { [unowned self] in
                controller.wake(.topology)
                schedule(after: .zero)
            })
    }

    /// Also what nobody tells of.
    private func readFoldersAnyway() {
        let isBlind = meshes.contains { $0.watch?.isBlind == true }
        loop.schedule(after: .seconds(isBlind ? 5 : 60)) { [unowned self] in
            for mesh in meshes { mesh.watch?.lookAnyway() }
            readFoldersAnyway()
        }
    }

    // MARK: Git

    private func take(_ look: RepositoryWatch.Look?) {
        if let look {
            for mesh in meshes {
                if !look.remotes.isEmpty { mesh.controller.host.gitRemotes = look.remotes }
                mesh.controller.host.isAwaited = repository?.fetched == nil
                if look.hasChangedFiles { mesh.controller.wake(.topology) }
            }
        }
        schedule(after: .zero)
    }

    // MARK: Names

    private func ask(_ names: [String], for index: Int) {
        if names.isEmpty { return }
        Worker.start { [answers] in
            answers.post((mesh: index, names: WeftLinux.lookUp(names: names).addresses))
        }
    }

    private func takeAnswers() {
        for (index, names) in answers.drain() { meshes[index].controller.take(names: names) }
        schedule(after: .zero)
    }

    // MARK: Trials

    private func takeProofs() {
        for (index, probe) in prober.drain() { meshes[index].controller.note(answerTo: probe) }
        schedule(after: .zero)
    }

    // MARK: Clients

    /// Once all that was asked for has been looked at.
    private func answerReloaders() {
        if !clients.isReloadAwaited || reloadTimer?.isPending == true || repository?.isAwaited == true { return }
        if meshes.contains(where: { $0.isUnsteady && $0.watch?.delay == nil }) {
            // Nothing tells when one has waited for long enough.
            return scheduleSooner(after: .milliseconds(500))
        }
        if meshes.contains(where: \.controller.isBusy) { return }
        clients.tellReloaders(of: meshes, repository: repository?.problem)
    }

    private func document() -> AgentDocument {
        AgentDocument(
            time: Machine.clock().description, process: getpid(), startedAt: startedAt.description,
            clock: clockKeeper.problem,
            git: repository.map {
                AgentDocument.Git(
                    url: $0.git.url, ref: $0.git.ref, commit: $0.inForce,
                    fetched: $0.fetched == $0.inForce ? nil : $0.fetched, problem: $0.problem)
            }, meshes: meshes.map { mesh in AgentDocument.Mesh(mesh.controller, topology: mesh.path) })
    }

    private func emit(_ event: AgentEvent) {
        var event = event
        event.time = Machine.clock()
        log.write(event)
        clients.tell(event)
    }
}
