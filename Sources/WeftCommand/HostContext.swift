// This host in this topology: which node it is, what it adds, and what is wanted of it.

internal import WeftDiagnostics
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftReconcile
internal import WeftRender
internal import WeftTopology

struct HostContext {
    var loaded: LoadedTopology
    var own: OwnKey
    var presharedTags: [String: SecretTag]
    var compilation: Compilation
    /// That the clock has fallen back.
    private var clock: Diagnostic?

    var desired: DesiredState { compilation.desired }
    var mesh: MeshIdentity { desired.identity }

    /// Reads the topology and the keys, looks up what the host adds, and compiles.
    init(topology path: String, options: HostOptions, machine: Machine) throws {
        try self.init(try LoadedTopology(path, at: machine.calendar.now()), options: options, machine: machine)
    }

    /// Reads the keys, looks up what the host adds, and compiles.
    ///
    /// - Parameters:
    ///   - names: answers for endpoints' names; nil: they are looked up here, and waited for.
    ///   - leavesOut: nodes that are taken for disabled where their preshared keys are gone.
    init(
        _ topology: LoadedTopology, options: HostOptions, machine: Machine, names: [String: [IPAddress]]? = nil,
        leavesOut: (String) -> Bool = { _ in false }
    ) throws {
        loaded = topology
        own = try options.keyFiles.ownKey()
        let node = try Self.identify(own, options: options, in: loaded)
        let now = machine.calendar.now()
        clock = machine.calendar.problem.map { problem in
            Diagnostic("clock.behind", .warning, problem.message, notes: [Diagnostic.Note(problem.remedy)])
        }

        // Compiled once to learn who is a peer here, and again with what that calls for.
        var draft = loaded.topology.compile(for: node, facts: HostFacts(privateKey: own.tag), at: now)
        presharedTags = [:]
        while loaded.topology.mesh.presharedKeys == .directory {
            let peers = draft.desired.state.peers.compactMap { draft.desired.peerNames[$0.publicKey] }
            let (tags, errors) = options.keyFiles.presharedTags(of: peers)
            presharedTags = tags
            if errors.isEmpty { break }
            let keyless = peers.filter { tags[$0] == nil }
            // Where one cannot be read now, it may be there.
            guard errors.allSatisfy({ $0.code == .missing }), keyless.allSatisfy(leavesOut) else {
                throw Failure(errors)
            }
            for name in keyless { loaded.topology.disable(name) }
            draft = loaded.topology.compile(for: node, facts: HostFacts(privateKey: own.tag), at: now)
        }
        let answers =
            names ?? machine.lookUp(names: loaded.topology.endpointNames(dialledFrom: node, at: now))
        var facts = try machine.facts(answers, for: draft.desired)
        facts.privateKey = own.tag
        try machine.refuseAnotherInterface(draft.desired.identity)
        facts.presharedKeys = presharedTags
        compilation = loaded.topology.compile(for: node, facts: facts, at: now)
    }

    /// The node whose public key belongs to this host's private key.
    private static func identify(_ own: OwnKey, options: HostOptions, in loaded: LoadedTopology) throws -> Int {
        // A private key where a public key should be is the one mistake that must not wait, whichever node has it.
        if let node = loaded.topology.nodes.first(where: { own.isWritten(as: $0.publicKey.value) }) {
            let place = node.publicKey.place
            let location = "\(loaded.files[place.file].name):\(place.start.line):\(place.start.column)"
            throw Failure(
                "the publicKey of \(node.name) (\(location)) is this host's private key: everybody who reads the "
                    + "topology has it",
                remedy: "make a new one here with `weft key generate`, give its public key to this host's node, and "
                    + "let no node have the old one")
        }
        guard let index = loaded.topology.index(ofKey: own.publicKey) else {
            throw Failure(
                "the key in \(options.privateKey) belongs to no node of this topology",
                remedy: "its public key is \(own.publicKey.base64): give it to this host's node as publicKey")
        }
        guard let name = options.node else { return index }
        let asked = try loaded.index(ofNode: name)
        if asked != index {
            throw Failure(
                "this host is \(loaded.topology.nodes[index].name) by its private key, and not \(name)",
                remedy:
                    "leave out --node, or name the key of \(name) with --private-key; `weft show --node \(name)` needs no key"
            )
        }
        return index
    }

    /// Warnings that belong to this host or to the whole topology.
    var warnings: [Diagnostic] {
        (clock.map { [$0] } ?? []) + loaded.diagnostics.filter { $0.severity == .warning } + compilation.diagnostics
    }

    /// Ends the command where the host lacks what is wanted of it.
    func refuseWhatCannotBe() throws {
        if compilation.refusals.isEmpty { return }
        LoadedTopology.show(compilation.refusals, loaded.files)
        throw Failure("this host cannot be what the topology wants of \(desired.node): nothing was changed")
    }

    /// The secrets that this state needs: read again, and the very ones that it was compiled with.
    func arena(_ options: HostOptions) throws(DataplaneError) -> SecretArena {
        do throws(KeyError) {
            return try options.keyFiles.arena(own: own, preshared: presharedTags)
        } catch {
            throw DataplaneError(.key, "\(error.place): \(error.message)")
        }
    }

    var labels: PlanLabels {
        PlanLabels(node: desired.node, peers: loaded.topology.names, endpoints: desired.endpointNames)
    }
}

extension Diagnostic {
    /// The message and its notes in one line, for a plan.
    var sentence: String { "\(severity.rawValue): " + ([message] + notes.map(\.message)).joined(separator: "; ") }
}
