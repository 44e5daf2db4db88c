// What apply and down share: plan, show, ask, apply, report.

internal import ArgumentParser
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

    private var terminal: Terminal { Terminal.standard }

    /// Runs to the end. One job at a time has an interface; the next one waits a little, and then says who has it.
    func run(on machine: Machine, secrets: @escaping () throws(DataplaneError) -> SecretArena) throws {
        try requireNetworkRights(for: "change \(mesh.interface)")
        let lock = try machine.lock(mesh)
        try withExtendedLifetime(lock) { try runLocked(machine, secrets) }
        // A mesh that is gone has nothing left to lock.
        if desired == nil { lock.remove() }
    }

    private func runLocked(
        _ machine: Machine, _ secrets: @escaping () throws(DataplaneError) -> SecretArena
    ) throws {
        var reconciler = Reconciler(try machine.dataplane(secrets: secrets))
        let memory = try machine.memory(of: mesh)
        var (plan, observation) = try reconciler.plan(mesh, desired: desired, memory: memory)
        if output.format == .text { show(plan) }
        if plan.isHeld || (plan.isBlocked && desired != nil) {
            throw Failure("something that is not weft's stands in the way: nothing was changed")
        }
        while !plan.isEmpty, !yes {
            try ask()
            // What was agreed to must be what is done: the host may have changed while the question stood.
            let (again, seen) = try reconciler.plan(mesh, desired: desired, memory: memory)
            let same = again.operations == plan.operations
            (plan, observation) = (again, seen)
            if same { break }
            terminal.write("The host has changed meanwhile. The plan is now:", to: .error)
            show(plan)
        }
        let report = reconciler.apply(plan, desired: desired, memory: memory, observation: observation) {
            step, decided in
            if output.format == .text { progress(step, decided) }
        }
        if report.memory != memory { try machine.remember(report.memory, of: mesh) }
        if desired == nil, report.isConverged { try machine.forget(mesh) }
        try finish(report)
    }

    private func show(_ plan: Plan) {
        let text = PlanText(plan, labels: labels, warnings: warnings.map(\.sentence), options: output.text()).text
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

    private func finish(_ report: PassReport) throws {
        switch output.format {
        case .json:
            let document = ApplyDocument(
                plan: PlanDocument(report.plan, labels: labels, warnings: warnings, files: files),
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
