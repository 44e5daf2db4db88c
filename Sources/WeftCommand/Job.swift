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

    private var terminal: Terminal { Terminal.standard }

    /// Runs to the end. One job at a time has an interface; the next one waits a little, and then says who has it.
    func run(on machine: Machine, secrets: @escaping () throws(DataplaneError) -> SecretArena) throws {
        try requireNetworkRights(for: "change \(mesh.interface)")
        if desired == nil { return try takeDown(machine, secrets) }
        let lock = try machine.lock(mesh)
        if let host { try takeBackWhatDangles(machine, mesh, host, output) }
        var job = self
        try job.runLocked(machine, secrets) { try $0.run(machine, mesh, lock: lock) }
    }

    private func takeDown(
        _ machine: Machine, _ secrets: @escaping () throws(DataplaneError) -> SecretArena
    ) throws {
        let lock = try machine.lockToTakeDown(mesh)
        var job = self
        try job.runLocked(machine, secrets) { _ in }
        // A mesh that is gone has nothing left to lock.
        if let lock { lock.remove() }
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

    private mutating func runLocked(
        _ machine: Machine, _ secrets: @escaping () throws(DataplaneError) -> SecretArena,
        onTrial: (TrialFront) throws -> Void
    ) throws {
        var reconciler = Reconciler(try machine.dataplane(looksForDetours: true, secrets: secrets))
        let memory = try machine.memorySayingProblems(of: mesh)
        var (plan, observation) = try reconciler.plan(mesh, desired: desired, memory: memory)
        labels.peers = machine.names(labels.peers, of: observation.state.peers.lazy.map(\.publicKey), on: mesh)
        var cuts = cuts(plan, observation, machine)
        if output.format == .text { show(plan, cuts) }
        if desired == nil, !plan.isEmpty || plan.isHeld {
            machine.tellOfForgottenSettings(of: mesh, observation.sysctlMemory)
        }
        if let topology, !plan.isEmpty { machine.tellWhatCame(of: topology.loaded, topology.path, on: mesh) }
        if plan.isHeld || (plan.isBlocked && desired != nil) {
            let obstacle =
                plan.isHeld
                ? "\(mesh.interface) is not this mesh's" : "something that is not weft's stands in the way"
            throw Failure("\(obstacle): nothing was changed")
        }
        while !plan.isEmpty, !yes {
            try ask()
            // What was agreed to must be what is done: the host may have changed while the question stood.
            let (again, seen) = try reconciler.plan(mesh, desired: desired, memory: memory)
            let same = again.operations == plan.operations
            (plan, observation) = (again, seen)
            if same { break }
            terminal.write("The host has changed meanwhile. The plan is now:", to: .error)
            cuts = self.cuts(plan, observation, machine)
            show(plan, cuts)
        }
        if let front = try trial(plan, cuts, observation, machine) { return try onTrial(front) }
        let report = reconciler.apply(plan, desired: desired, memory: memory, observation: observation) {
            step, decided in
            if output.format == .text { progress(step, decided) }
        }
        if report.memory != memory { try write { try machine.remember(report.memory, of: mesh) } }
        if desired == nil, report.isConverged {
            try write { try machine.forget(mesh) }
            machine.tellWhatIsLeft(of: mesh)
        }
        if report.isConverged { keep(on: machine) }
        try finish(report, cuts)
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
        if confirm.settings == nil {
            let what = cuts.map(\.guarded.words).joined(separator: ", ")
            terminal.write(
                "This would cut \(what): it is put on trial for \(within.components.seconds) s, as with "
                    + "--confirm-within; --confirm-within off does without.", to: .error)
        }
        let before = try machine.topologyInForce(mesh)
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

    private func finish(_ report: PassReport, _ cuts: [Cut]) throws {
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
        if let error = report.verificationError {
            throw Failure("the host could not be read again after the changes: \(error.description)")
        }
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
