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
            let whole = Endpoint(
                host: folded(endpoint.value.host),
                port: endpoint.value.port ?? topology.nodes[index].listenPort ?? Topology.defaultPort)
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
            }
        }
    }

    private func folded(_ host: Endpoint.Host) -> Endpoint.Host {
        guard case .name(let name) = host, name.utf8.contains(where: { (0x41...0x5A).contains($0) }) else {
            return host
        }
        return .name(name.lowercased())
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
