// weft apply: the plan, a question, the operations, and a look at what came of them.

internal import ArgumentParser
internal import WeftKeys
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
            """)

    @OptionGroup var source: TopologyArgument
    @OptionGroup var host: HostOptions
    @OptionGroup var output: OutputOptions
    @Flag(name: .shortAndLong, help: "Do not ask.")
    var yes = false

    func validate() throws { try output.refuseQuestions(yes: yes) }

    func run() throws {
        try reportingFailures {
            ProcessHardening.apply()
            let machine = try Machine(stateDirectory: host.stateDir)
            let context = try HostContext(topology: source.topology, options: host, machine: machine)
            try context.refuseWhatCannotBe()
            let (own, preshared, files) = (context.own, context.presharedTags, host.keyFiles)
            let job = Job(
                mesh: context.mesh, desired: context.desired, labels: context.labels, warnings: context.warnings,
                files: context.loaded.files,
                output: output, yes: yes)
            try job.run(on: machine) { () throws(DataplaneError) in
                do throws(KeyError) {
                    return try files.arena(own: own, preshared: preshared)
                } catch {
                    throw DataplaneError(.key, "\(error.place): \(error.message)")
                }
            }
        }
    }
}
