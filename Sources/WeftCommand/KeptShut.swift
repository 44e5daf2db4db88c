// A host whose keys cannot be used, and whose kill switch stays shut all the same.

internal import WeftAgent
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftTopology

extension LoadedTopology {
    /// What can be told of a host whose keys cannot be used: that it is the node which it was when a kill switch was in force
    /// here last, so that this can be kept shut. It is shut as it was: what has been edited since waits for the keys, and what
    /// was taken back is not tried again.
    ///
    /// - Parameter problem: why they cannot be used, in a sentence.
    /// - Returns: the topology that was in force last, where one was kept, for that node. Nil where no kill switch was in
    ///   force, and where the host cannot be what is wanted of it.
    func compileWithoutKeys(because problem: String, on machine: Machine) -> Compilation? {
        for interface in topology.interfaces {
            let mesh = MeshIdentity(mesh: topology.mesh.name.value, interface: interface)
            let now = machine.calendar.now()
            guard let memory = try? machine.memory(of: mesh), memory.hasKillSwitch, let node = memory.node,
                (try? machine.refuseAnotherInterface(mesh)) != nil
            else { continue }
            let kept = (try? machine.topologyInForce(mesh)).flatMap { $0 }
                .flatMap { AgentHost.revision($0.files, below: $0.root, at: now)?.source.topology }
            // Where what was kept has none, it is not what was in force.
            for topology in [kept, topology].compactMap(\.self) {
                guard var compilation = topology.compileShut(node, of: mesh, on: machine) else { continue }
                compilation.desired.keyProblem = problem
                return compilation
            }
        }
        return nil
    }
}

extension Topology {
    /// Those that the mesh has on some host.
    var interfaces: [String] {
        Set(nodes.compactMap(\.interface?.value) + [mesh.interface.value]).sorted()
    }

    /// What is wanted of a host, by its node's name, where that has a kill switch.
    fileprivate func compileShut(_ name: String, of mesh: MeshIdentity, on machine: Machine) -> Compilation? {
        guard let node = index(ofNode: name) else { return nil }
        let now = machine.calendar.now()
        let draft = compile(for: node, facts: HostFacts(), at: now)
        guard draft.desired.identity == mesh, let facts = try? machine.facts([:], for: draft.desired) else {
            return nil
        }
        let compilation = compile(for: node, facts: facts, at: now)
        let isShut = compilation.refusals.isEmpty && compilation.desired.state.firewall?.hasKillSwitch == true
        return isShut ? compilation : nil
    }
}
