// Names of peers that are no longer wanted: until they are gone, they are known by them.

internal import WeftLinux
internal import WeftModel
internal import WeftTopology

extension Topology {
    /// Names of all nodes, by key, whether they take part or not: a peer that goes is still known by name.
    var names: [PublicKey: String] {
        var names: [PublicKey: String] = [:]
        names.reserveCapacity(nodes.count)
        for node in nodes { names[node.publicKey.value] = node.name }
        return names
    }
}

extension Machine {
    /// Names of nodes, and where these keys have none, those that they had in the topology that was in force last, which
    /// the state folder keeps. It is read only then.
    func names(
        _ names: [PublicKey: String], of keys: some Sequence<PublicKey>, on mesh: MeshIdentity
    ) -> [PublicKey: String] {
        guard keys.contains(where: { names[$0] == nil }), let kept = try? topologyInForce(mesh),
            let former = TopologyReader.read(kept.files, at: calendar.now()).topology
        else { return names }
        return names.merging(former.names) { name, _ in name }
    }
    /// The same for a mesh that need not be the topology's: it is named by the one that was in force on it last, also
    /// where that calls the same keys otherwise. Of the names given, those of a topology of the same mesh fill what is
    /// left: somebody may have renamed the interface.
    func names(
        otherThan names: [PublicKey: String], of keys: some Sequence<PublicKey>, on mesh: MeshIdentity, given: String?
    ) -> [PublicKey: String] {
        let own = self.names([:], of: keys, on: mesh)
        return given == mesh.mesh ? own.merging(names) { name, _ in name } : own
    }
}
