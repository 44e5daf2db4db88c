// Endpoints: outside the tunnel that they carry, and each published by one node.

import WeftDiagnostics
import WeftModel

extension Validator {
    mutating func checkEndpoints() {
        let ranges = MeshRanges(topology.mesh.addresses.map(\.value))
        var published: [Endpoint: Int] = [:]
        for index in nodes.indices {
            guard let endpoint = topology.nodes[index].endpoint else { continue }
            checkInside(endpoint, of: index, ranges)
            guard isActive[index] else { continue }
            let whole = whole(endpoint.value, of: index)
            guard let first = published.updateValue(index, forKey: whole), let other = nodes[first].endpoint else {
                continue
            }
            let (early, late) = other.place < endpoint.place ? (first, index) : (index, first)
            published[whole] = early
            guard let here = nodes[late].endpoint?.place else { continue }
            problems.error(
                "topology.duplicate-endpoint",
                "\"\(nodes[early].name)\" and \"\(nodes[late].name)\" publish the same endpoint \(whole)", at: here,
                notes: [
                    Diagnostic.Note("the first one is here", at: nodes[early].endpoint?.place),
                    Diagnostic.Note("behind one address each node needs a port of its own"),
                ])
        }
        for link in topology.links {
            for (name, endpoint) in link.endpoints.sorted(by: { $0.key < $1.key }) {
                guard let index = topology.index(ofNode: name) else { continue }
                checkInside(endpoint, of: index, ranges)
                checkOther(endpoint, of: index, link)
            }
        }
    }

    /// That no node is told to dial itself: where one of a pair is said to be where the other one is.
    private mutating func checkOther(_ endpoint: Located<NodeEndpoint>, of index: Int, _ link: PairLink) {
        let name = nodes[index].name
        let (first, second) = (link.between.0.value, link.between.1.value)
        guard first != second, name == first || name == second,
            let other = topology.index(ofNode: name == first ? second : first)
        else { return }
        let whole = whole(endpoint.value, of: index)
        let own = [link.endpoints[nodes[other].name], nodes[other].endpoint].compactMap(\.self)
        guard let same = own.first(where: { self.whole($0.value, of: other) == whole }) else { return }
        // Of two in one link, the later one.
        if same.place > endpoint.place, same.place == link.endpoints[nodes[other].name]?.place { return }
        problems.error(
            "topology.duplicate-endpoint",
            "the endpoint \(whole) of \"\(name)\" in this link is that of \"\(nodes[other].name)\", which would dial itself",
            at: endpoint.place, notes: [Diagnostic.Note("that one is here", at: same.place)])
    }

    /// With the port that is meant where none is said, in the one form that a host has.
    private func whole(_ endpoint: NodeEndpoint, of index: Int) -> Endpoint {
        Endpoint(
            host: folded(endpoint.host), port: endpoint.port ?? topology.nodes[index].listenPort ?? Topology.defaultPort
        )
    }

    private func folded(_ host: Endpoint.Host) -> Endpoint.Host {
        guard case .name(var name) = host else { return host }
        // The root of all names may be said or not.
        if name.hasSuffix(".") { name.removeLast() }
        return .name(name.utf8.contains { (0x41...0x5A).contains($0) } ? name.lowercased() : name)
    }

    private mutating func checkInside(_ endpoint: Located<NodeEndpoint>, of index: Int, _ ranges: MeshRanges) {
        guard case .address(let address) = endpoint.value.host else { return }
        if let range = ranges.range(holding: address) {
            problems.error(
                "topology.endpoint-inside", "the endpoint \(address) lies inside the mesh's range \(range)",
                at: endpoint.place,
                notes: [
                    Diagnostic.Note(
                        "an endpoint is where a node is reached without the mesh: its public address or name")
                ])
            return
        }
        guard let prefix = nodes[index].allowedIPs.first(where: { $0.value.contains(address) }) else { return }
        // What covers everything is an error of its own.
        let family = nodes[index].allowedIPs.map(\.value).filter { $0.family == address.family }
        if coversAll(family) { return }
        problems.error(
            "topology.endpoint-inside",
            "the endpoint \(address) of \"\(nodes[index].name)\" lies inside its own \(prefix.value): packets to it would go into the tunnel that they are to carry",
            at: endpoint.place, notes: [Diagnostic.Note("the prefix is here", at: prefix.place)])
    }
}
