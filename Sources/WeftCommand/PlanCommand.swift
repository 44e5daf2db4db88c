// weft plan: what would change on this host, and nothing changed.

internal import ArgumentParser
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftReconcile
internal import WeftRender
internal import WeftTopology

struct PlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Show what apply would change on this host. Changes nothing.",
        discussion: """
            Exit status: 0, or with --detailed-exitcode 0 where there is nothing to do, 2 where there is, and 1 where nothing \
            can be done because of what stands in the way; 1 after an error.
            """)

    @OptionGroup var source: TopologyArgument
    @OptionGroup var host: HostOptions
    @OptionGroup var output: OutputOptions
    @Flag(help: "End with 2 where there is something to do, and with 1 where all of it is blocked.")
    var detailedExitcode = false

    func run() throws {
        try reportingFailures {
            ProcessHardening.apply()
            let machine = try Machine(stateDirectory: host.stateDir)
            let loaded = try LoadedTopology(source.topology, at: machine.calendar.now())
            let context: HostContext
            do { context = try HostContext(loaded, options: host, machine: machine) } catch {
                try showWhatIsKeptShut(loaded, because: error, on: machine)
                throw error
            }
            var reconciler = Reconciler(
                try machine.dataplane(
                    looksForDetours: true,
                    secrets: { () throws(DataplaneError) in
                        throw DataplaneError(.key, "a plan needs no key")
                    }))
            let memory = try machine.memorySayingProblems(of: context.mesh)
            let (plan, observation) = try reconciler.plan(context.mesh, desired: context.desired, memory: memory)
            var labels = context.labels
            labels.peers = machine.names(
                labels.peers, of: observation.state.peers.lazy.map(\.publicKey), on: context.mesh)
            let cuts = machine.cuts(
                by: plan, to: context.desired, from: observation.state, topology: source.topology, names: labels.peers)
            machine.tellWhatCame(of: context.loaded, source.topology, on: context.mesh)
            let warnings = context.warnings + cuts.map(\.diagnostic)
            switch output.format {
            case .json:
                Terminal.standard.write(
                    try encodeJSON(
                        PlanDocument(
                            plan, labels: labels, warnings: warnings + context.compilation.refusals,
                            cuts: cuts, files: context.loaded.files)))
            case .text:
                let text = PlanText(
                    plan, labels: labels, warnings: warnings.map(\.sentence), options: output.text()
                ).text
                Terminal.standard.write(text, terminator: "")
            }
            try context.refuseWhatCannotBe()
            if !detailedExitcode { return }
            if plan.isStuck { throw ExitCode.failure }
            if !plan.isEmpty { throw ExitCode(2) }
        }
    }

    /// What apply would do where this host's keys cannot be used, and a kill switch was in force.
    private func showWhatIsKeptShut(_ loaded: LoadedTopology, because error: any Error, on machine: Machine) throws {
        let reason = Failure.sentence(of: error)
        guard let desired = loaded.compileWithoutKeys(because: reason, on: machine)?.desired else { return }
        var reconciler = Reconciler(
            try machine.dataplane { () throws(DataplaneError) in throw DataplaneError(.key, reason) })
        let memory = try machine.memory(of: desired.identity)
        let plan = try reconciler.plan(desired.identity, desired: desired, memory: memory).plan
        let labels = PlanLabels(node: desired.node, peers: loaded.topology.names)
        switch output.format {
        case .json: Terminal.standard.write(try encodeJSON(PlanDocument(plan, labels: labels)))
        case .text:
            Terminal.standard.write(PlanText(plan, labels: labels, options: output.text()).text, terminator: "")
        }
    }
}
