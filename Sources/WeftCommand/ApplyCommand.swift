// weft apply: the plan, a question, the operations, and a look at what came of them.

internal import ArgumentParser
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftReconcile
internal import WeftRender
internal import WeftTopology

struct ApplyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply",
        abstract: "Make this host what the topology wants.",
        discussion: """
            Shows the plan, asks, applies it in the order that is safe, reads the host again, and says what came of each \
            operation. Exit status: 0 where the host is as wanted, 1 where it is not.

            With --confirm-within the change is put on trial: what was applied before comes back by itself unless the change is \
            confirmed in time, also where this process, its terminal or its SSH session is gone. At a terminal a person \
            confirms, by an answer here, or by `weft confirm` from anywhere on this host; with --yes the facts do: who answered \
            before must answer after it. `weft revert` takes it back at once. Exit status 1 where it was taken back.
            """)

    @OptionGroup var source: TopologyArgument
    @OptionGroup var host: HostOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var confirm: ConfirmOptions
    @Flag(name: .shortAndLong, help: "Do not ask.")
    var yes = false

    func validate() throws { try output.refuseQuestions(yes: yes) }

    func run() throws {
        try reportingFailures {
            ProcessHardening.apply()
            let machine = try Machine(stateDirectory: host.stateDir)
            let loaded = try LoadedTopology(source.topology, at: machine.calendar.now())
            let context: HostContext
            do { context = try HostContext(loaded, options: host, machine: machine) } catch {
                try keepShut(loaded, because: error, on: machine)
                throw error
            }
            try context.refuseWhatCannotBe()
            for name in confirm.confirmPeers where !context.desired.peerNames.values.contains(name) {
                throw Failure("--confirm-peer names \(name), which is no peer of this host: nothing was changed")
            }
            var job = Job(
                mesh: context.mesh, desired: context.desired, labels: context.labels, warnings: context.warnings,
                files: context.loaded.files,
                output: output, yes: yes)
            job.topology = (source.topology, context.loaded)
            job.host = host
            job.confirm = confirm
            try job.run(on: machine) { () throws(DataplaneError) in try context.arena(host) }
            do throws(DataplaneError) {
                try machine.calendar.save(passing: context.loaded.topology.nodes.lazy.compactMap(\.expires))
            } catch {
                Terminal.standard.write("warning: \(error.description)", to: .error)
            }
        }
    }

    /// A kill switch that was in force is set right also where this host's keys cannot be used.
    private func keepShut(_ loaded: LoadedTopology, because error: any Error, on machine: Machine) throws {
        let reason = Failure.sentence(of: error)
        guard let desired = loaded.compileWithoutKeys(because: reason, on: machine)?.desired,
            !machine.isHeld(desired.interface)
        else { return }
        let job = Job(
            mesh: desired.identity, desired: desired,
            labels: PlanLabels(node: desired.node, peers: loaded.topology.names), warnings: [], files: loaded.files,
            output: output, yes: yes)
        try job.run(on: machine) { () throws(DataplaneError) in throw DataplaneError(.key, reason) }
    }
}
