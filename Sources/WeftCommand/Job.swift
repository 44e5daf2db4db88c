// What apply and down share: plan, show, ask, apply, report.

internal import ArgumentParser
internal import WeftAgent
internal import WeftDiagnostics
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftReconcile
internal import WeftRender

struct Job {
    var mesh: MeshIdentity
    /// Nil: the mesh is to go.
    var desired: DesiredState?
    var labels: PlanLabels
    var warnings: [Diagnostic]
    /// What the warnings point into.
    var files: SourceFiles
    var output: OutputOptions
    /// Do not ask.
    var yes: Bool
    /// What is applied, and where it lies; nil for `down`.
    var topology: (path: String, loaded: LoadedTopology)?
    var host: HostOptions?
    /// How the change is put on trial.
    var confirm: ConfirmOptions?
    /// Nothing is said but what went wrong.
    var isQuiet = false
    /// What a person was shown, and asked about, last.
    var shown: [PlannedOperation]?

    private var terminal: Terminal { Terminal.standard }

    /// Runs to the end. One job at a time has an interface; the next one waits a little, and then says who has it.
    ///
    /// A question may stand for hours, and nobody is to wait for its answer: the interface is let go of meanwhile. What was
    /// agreed to is done only where it is still the plan afterwards; otherwise the new one is shown, and asked about.
    func run(on machine: Machine, secrets: @escaping () throws(DataplaneError) -> SecretArena) throws {
        try requireNetworkRights(for: "change \(mesh.interface)")
        var job = self
        while try !(desired == nil ? job.takeDown(machine, secrets) : job.bringAbout(machine, secrets)) {
            try ask()
        }
    }

    /// - Returns: false where there is a question first.
    private mutating func bringAbout(
        _ machine: Machine, _ secrets: @escaping () throws(DataplaneError) -> SecretArena
    ) throws -> Bool {
        let lock = try machine.lock(mesh)
        if let host {
            try machine.refuseWhileAwaited(mesh)
            try takeBackWhatDangles(machine, mesh, host, output)
        }
        let mesh = mesh
        return try runLocked(machine, secrets) { try $0.run(machine, mesh, lock: lock) }
    }

    /// - Returns: false where there is a question first.
    private mutating func takeDown(
        _ machine: Machine, _ secrets: @escaping () throws(DataplaneError) -> SecretArena
    ) throws -> Bool {
        let lock = try machine.lockToTakeDown(mesh)
        let isOver = try runLocked(machine, secrets) { _ in }
        // A mesh that is gone has nothing left to lock.
        if isOver, let lock { lock.remove() }
        return isOver
    }

    /// Writes to the state folder. Where the mesh goes, a folder that takes nothing is no reason to keep it.
    private func write(_ body: () throws -> Void) throws {
        do {
            try body()
        } catch  where desired == nil {
            terminal.write("warning: \(error): \(mesh.interface) goes all the same", to: .error)
        }
    }

    /// Brings back what was in force before a trial. The lock is held.
    func restore(on machine: Machine, secrets: @escaping () throws(DataplaneError) -> SecretArena) throws {
        var reconciler = Reconciler(try machine.dataplane(secrets: secrets))
        let memory = try machine.memorySayingProblems(of: mesh)
        let (plan, observation) = try reconciler.plan(mesh, desired: desired, memory: memory)
        let report = reconciler.apply(plan, desired: desired, memory: memory, observation: observation) {
            step, decided in
            if !isQuiet { progress(step, decided) }
        }
        if report.memory != memory { try machine.remember(report.memory, of: mesh) }
        if desired == nil, report.isConverged { try machine.forget(mesh) }
        if !report.isConverged {
            throw Failure(
                "\(mesh.interface) could not be brought back to what was in force before: "
                    + (report.verificationError?.description ?? "`weft plan` shows what differs"))
        }
    }

    /// Shows the plan and carries it out, once it is agreed to. The lock is held.
    ///
    /// - Returns: false where it must be asked about first.
    private mutating func runLocked(
        _ machine: Machine, _ secrets: @escaping () throws(DataplaneError) -> SecretArena,
        onTrial: (TrialFront) throws -> Void
    ) throws -> Bool {
        var reconciler = Reconciler(try machine.dataplane(looksForDetours: true, secrets: secrets))
        let memory = try shown == nil ? machine.memorySayingProblems(of: mesh) : machine.memory(of: mesh)
        let (plan, observation) = try reconciler.plan(mesh, desired: desired, memory: memory)
        labels.peers = machine.names(labels.peers, of: observation.state.peers.lazy.map(\.publicKey), on: mesh)
        let cuts = cuts(plan, observation, machine)
        let isAgreed = yes || plan.isEmpty || plan.operations == shown
        if shown == nil {
            if output.format == .text { show(plan, cuts) }
            if desired == nil, !plan.isEmpty || plan.isHeld {
                machine.tellOfForgottenSettings(of: mesh, observation.sysctlMemory)
            }
            if let topology, !plan.isEmpty { machine.tellWhatCame(of: topology.loaded, topology.path, on: mesh) }
        } else if plan.operations != shown {
            terminal.write("The host has changed meanwhile. The plan is now:", to: .error)
            show(plan, cuts)
        }
        let isBlocked = plan.isHeld || (plan.isBlocked && desired != nil)
        let obstacle =
            plan.isHeld
            ? "\(mesh.interface) is not this mesh's"
            : desired?.keyProblem ?? "something that is not this mesh's stands in the way"
        if isBlocked, plan.isEmpty { throw Failure("\(obstacle): nothing was changed") }
        if !isAgreed {
            shown = plan.operations
            return false
        }
        if !isBlocked, let front = try trial(plan, cuts, observation, machine) {
            try onTrial(front)
            return true
        }
        // From here on, who wants it to end waits for the batch under way.
        let interruption = Interruption()
        let report = reconciler.apply(
            plan, desired: desired, memory: memory, observation: observation,
            progress: { if output.format == .text { progress($0, $1) } },
            isInterrupted: { interruption.hasCome })
        if report.memory != memory { try write { try machine.remember(report.memory, of: mesh) } }
        if desired == nil, report.isConverged {
            try write { try machine.forget(mesh) }
            machine.tellWhatIsLeft(of: mesh)
        }
        if report.isInForce { keep(on: machine) }
        try finish(report, cuts, interruption.signal, obstacle: isBlocked ? obstacle : nil)
        return true
    }

    /// It is what a later change is taken back to.
    private func keep(on machine: Machine) {
        guard let topology else { return }
        do throws(DataplaneError) {
            try machine.keep(topology.loaded.files, of: topology.path, for: mesh)
            if machine.trial(of: mesh) != nil { try machine.store(nil, of: mesh) }
        } catch {
            terminal.write("warning: \(error.description): a later change could not be taken back", to: .error)
        }
    }

    /// How the change is led through its trial; nil where it is made without one.
    private func trial(
        _ plan: Plan, _ cuts: [Cut], _ observation: Observation, _ machine: Machine
    ) throws -> TrialFront? {
        guard let topology, let host, let confirm, !plan.isEmpty else { return nil }
        let asked = confirm.settings ?? (cuts.isEmpty || !confirm.guardsItself ? nil : .automatic)
        guard let within = asked?.within else { return nil }
        let before = try machine.topologyInForce(mesh)
        let what = cuts.map(\.guarded.words).joined(separator: ", ")
        if let before, before.files.revision(below: before.root) == topology.loaded.files.revision(below: topology.path)
        {
            // There is no other state to be judged against, nor to go back to.
            let reason =
                plan.operations.contains(where: \.replacesSecret)
                ? "The topology is the one that is in force: that a key is another one is not put on trial, because the old "
                    + "one is kept nowhere, and could not be brought back"
                : "The topology is the one that is in force: what differs is repaired, and not put on trial"
            terminal.write(reason + (cuts.isEmpty ? "." : ", though it cuts \(what)."), to: .error)
            return nil
        }
        if confirm.settings == nil {
            terminal.write(
                "This would cut \(what): it is put on trial for \(within.components.seconds) s, as with "
                    + "--confirm-within; --confirm-within off does without.", to: .error)
        }
        if before == nil, observation.state.link != nil {
            throw Failure(
                "no topology was kept of what is in force on \(mesh.interface): a change could not be taken back, and was not "
                    + "made",
                remedy: "apply the topology that is in force once more, which keeps it; or say --confirm-within off")
        }
        return TrialFront(
            path: topology.path, loaded: topology.loaded, host: host, output: output, confirm: confirm, within: within,
            asks: !yes && terminal.canAsk)
    }

    private func cuts(_ plan: Plan, _ observation: Observation, _ machine: Machine) -> [Cut] {
        machine.cuts(
            by: plan, to: desired, from: observation.state, topology: topology?.path, names: labels.peers)
    }

    private func show(_ plan: Plan, _ cuts: [Cut]) {
        let all = warnings + cuts.map(\.diagnostic)
        let text = PlanText(plan, labels: labels, warnings: all.map(\.sentence), options: output.text()).text
        terminal.write(text, terminator: "")
    }

    private func ask() throws {
        guard terminal.canAsk else {
            throw Failure(
                "there is nobody to ask: nothing was changed", remedy: "say --yes to apply without a question")
        }
        guard terminal.confirm(desired == nil ? "Take it down?" : "Apply?") else {
            throw Failure("not confirmed: nothing was changed")
        }
    }

    private func progress(_ application: Application, _ decided: Range<Int>) {
        let text = PlanOutcomeText(application.plan, labels: labels, options: output.text())
        terminal.write(text.text(of: decided, outcomes: application.outcomes), terminator: "")
    }

    /// - Parameter obstacle: what kept all but the kill switch from being done.
    private func finish(_ report: PassReport, _ cuts: [Cut], _ signal: Int32?, obstacle: String?) throws {
        switch output.format {
        case .json:
            let document = ApplyDocument(
                plan: PlanDocument(
                    report.plan, labels: labels, warnings: warnings + cuts.map(\.diagnostic), cuts: cuts, files: files),
                outcomes: report.outcomes, converged: report.isConverged,
                remaining: report.remaining.map { PlanDocument($0, labels: labels) })
            terminal.write(try encodeJSON(document))
        case .text:
            if !report.plan.isEmpty {
                let text = PlanOutcomeText(report.plan, labels: labels, options: output.text())
                terminal.write(
                    text.conclusion(
                        outcomes: report.outcomes, remaining: report.remaining,
                        verificationError: report.verificationError), terminator: "")
            }
        }
        if let signal, !report.isConverged {
            throw Failure(
                interruptedBy: signal, after: report.outcomes.prefix { !$0.isFailure }.count, of: report.outcomes.count)
        }
        if let error = report.verificationError {
            throw Failure("the host could not be read again after the changes: \(error.description)")
        }
        if let obstacle { throw Failure("\(obstacle): nothing but the kill switch was set right") }
        if !report.isConverged, let remaining = report.remaining {
            // Where nothing could be done, what remains is the plan above.
            let isNews = remaining.operations != report.plan.operations || remaining.foreign != report.plan.foreign
            if output.format == .text, isNews, !remaining.isEmpty || !remaining.obstacles.isEmpty {
                terminal.write("What remains:", to: .error)
                terminal.write(
                    PlanText(remaining, labels: labels, options: output.text(.error)).text, terminator: "", to: .error)
            }
            throw Failure(
                "\(mesh.interface) is not yet as wanted", remedy: "run the same command again when the cause is mended")
        }
    }
}
