// weft down: what weft made goes, and only that.

internal import ArgumentParser
internal import WeftDiagnostics
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftRender
internal import WeftTopology

struct DownCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "down",
        abstract: "Remove what weft made for a mesh, and only that.",
        discussion: """
            The mesh is the topology's; with --interface it is the one that has this interface, and no topology is read.
            """)

    @OptionGroup var source: TopologyArgument
    @OptionGroup var host: HostOptions
    @OptionGroup var output: OutputOptions
    @Option(name: .shortAndLong, help: ArgumentHelp("The mesh's interface here.", valueName: "name"))
    var interface: String?
    @Flag(name: .shortAndLong, help: "Do not ask.")
    var yes = false

    func validate() throws { try output.refuseQuestions(yes: yes) }

    func run() throws {
        try reportingFailures {
            ProcessHardening.apply()
            let machine = try Machine(stateDirectory: host.stateDir)
            let (mesh, labels) = try subject(machine)
            let job = Job(
                mesh: mesh, desired: nil, labels: labels, warnings: [], files: SourceFiles(), output: output, yes: yes)
            try job.run(on: machine) { () throws(DataplaneError) in
                throw DataplaneError(.key, "taking a mesh down needs no key")
            }
        }
    }

    /// The mesh that is to go, and the names for its plan.
    private func subject(_ machine: Machine) throws -> (MeshIdentity, PlanLabels) {
        if let interface {
            // Names make the plan readable; without a topology it is still right.
            let names = LoadedTopology.read(source.topology).0?.names ?? [:]
            return (try machine.meshToTakeDown(onInterface: interface), PlanLabels(peers: names))
        }
        do {
            let loaded = try LoadedTopology(source.topology)
            let node = try identify(in: loaded)
            let desired = loaded.topology.compile(for: node, facts: HostFacts(), at: machine.calendar.now()).desired
            try machine.refuseAnotherInterface(desired.identity)
            return (
                desired.identity,
                PlanLabels(node: desired.node, peers: loaded.topology.names, endpoints: desired.endpointNames)
            )
        } catch {
            guard var failure = Failure(any: error) else { throw error }
            // What is lost must not keep a mesh up.
            let meshes = ((try? machine.ownMeshes()) ?? []) + ((try? machine.remnants()) ?? [])
            for way in meshes.map({ "`weft down --interface \($0.interface)`" }) where !failure.remedy.contains(way) {
                failure.remedies.append("\(way) needs neither a topology nor a key")
            }
            throw failure
        }
    }

    private func identify(in loaded: LoadedTopology) throws -> Int {
        if let node = host.node {
            let asked = try loaded.index(ofNode: node)
            // A key that is gone must not keep a mesh up; one that is there says who this host is.
            if let own = try? host.keyFiles.ownKey(), let index = loaded.topology.index(ofKey: own.publicKey),
                index != asked
            {
                throw Failure("this host is \(loaded.topology.nodes[index].name) by its private key, and not \(node)")
            }
            return asked
        }
        let own = try host.keyFiles.ownKey()
        guard let index = loaded.topology.index(ofKey: own.publicKey) else {
            throw Failure(
                "the key in \(host.privateKey) belongs to no node of this topology",
                remedy: "name this host with --node, or its interface with --interface")
        }
        return index
    }
}
