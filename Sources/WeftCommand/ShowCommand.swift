// weft show: the desired state of a host, from the topology alone.

internal import ArgumentParser
internal import WeftKeys
internal import WeftModel
internal import WeftRender
internal import WeftTopology

struct ShowCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show what a topology means for one host.",
        discussion: """
            Needs no privileges with --node. What only the host itself can know (path MTU, addresses of names) is said \
            to be decided there.
            """)

    @OptionGroup var source: TopologyArgument
    @OptionGroup var output: OutputOptions

    @Option(
        help: ArgumentHelp(
            "The node to show; without it, the one that this host's private key names.", valueName: "name"))
    var node: String?

    @Option(help: ArgumentHelp("This host's private key, where --node is left out.", valueName: "file"))
    var privateKey = KeyFiles.defaultPrivateKey

    func run() throws {
        try reportingFailures {
            let loaded = try LoadedTopology(source.topology)
            let index: Int
            if let node {
                index = try loaded.index(ofNode: node)
            } else {
                let own = try KeyFiles(privateKey: privateKey).ownKey()
                guard let found = loaded.topology.index(ofKey: own.publicKey) else {
                    throw Failure(
                        "the key in \(privateKey) belongs to no node of this topology",
                        remedy: "name the node with --node")
                }
                index = found
            }
            let compilation = loaded.topology.compile(for: index, facts: HostFacts(), at: Machine.clock())
            let decisions = HostDecisions(
                mtu: loaded.topology.nodes[index].mtu == nil,
                presharedKeys: loaded.topology.mesh.presharedKeys == .directory,
                routerAdvertisements: true, reversePath: compilation.hasOpenSysctls)
            let document = StateDocument(compilation.desired, decidedOnHost: decisions)
            switch output.format {
            case .json: Terminal.standard.write(try encodeJSON(document))
            case .text:
                Terminal.standard.write(StateText(document, options: output.text()).text, terminator: "")
                LoadedTopology.show(compilation.diagnostics + compilation.refusals, loaded.files)
            }
        }
    }
}
