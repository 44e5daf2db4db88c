// Endpoints that are reached through the very node that is dialled there: packets to it would go round in its tunnel.

import WeftDiagnostics
import WeftModel

extension Validator {
    /// Finds them among the endpoints that are addresses; those that are names are looked up on the hosts, which look again.
    /// Only a hub is the way to a network behind another node, and there are few.
    mutating func checkLoops() {
        let hubs = nodes.indices.filter { topology.nodes[$0].isHub && isActive[$0] }
        guard !hubs.isEmpty, nodes.indices.contains(where: { !topology.nodes[$0].allowedIPs.isEmpty }) else { return }
        let graph = MeshGraph(topology, at: time)
        let sites = SiteLookup(topology, isActive: isActive)
        // Where a hub is dialled by one node only, by the hub and that node.
        var own: [Int: [Int: Located<NodeEndpoint>]] = [:]
        for link in topology.links {
            for (name, other) in [(link.between.0, link.between.1), (link.between.1, link.between.0)] {
                guard let endpoint = link.endpoints[name.value], let hub = topology.index(ofNode: name.value),
                    let dialler = topology.index(ofNode: other.value)
                else { continue }
                own[hub, default: [:]][dialler] = endpoint
            }
        }
        // The first hop of every node to a site, by the site.
        var ways: [Int: [Int32]] = [:]
        for hub in hubs {
            if let endpoint = topology.nodes[hub].endpoint {
                check(endpoint, of: hub, graph, sites, &ways) { own[hub]?[$0] == nil }
            }
            for (dialler, endpoint) in (own[hub] ?? [:]).sorted(by: { $0.key < $1.key }) {
                check(endpoint, of: hub, graph, sites, &ways) { $0 == dialler }
            }
        }
    }

    private mutating func check(
        _ endpoint: Located<NodeEndpoint>, of hub: Int, _ graph: MeshGraph, _ sites: SiteLookup,
        _ ways: inout [Int: [Int32]], isDialledBy: (Int) -> Bool
    ) {
        guard case .address(let address) = endpoint.value.host else { return }
        let holders = sites.holders(of: address)
        for holder in holders where ways[holder.node] == nil { ways[holder.node] = graph.firstHops(to: holder.node) }
        var diallers: [Int] = []
        var holder: (prefix: IPPrefix, node: Int)?
        for index in nodes.indices where graph.isLinked(index, hub) && isDialledBy(index) {
            // The longest prefix decides, of those that the node has a way to.
            guard topology.nodes[index].table != .off,
                let found = holders.first(where: { ways[$0.node]?[index] ?? -1 >= 0 }),
                ways[found.node]?[index] == Int32(hub), holder?.node ?? found.node == found.node
            else { continue }
            holder = found
            diallers.append(index)
        }
        guard let holder else { return }
        let (name, behind) = (nodes[hub].name, nodes[holder.node].name)
        problems.error(
            "topology.endpoint-in-tunnel",
            "the endpoint \(address) of \"\(name)\" lies in \(holder.prefix) behind \"\(behind)\", which "
                + "\(list(diallers, total: diallers.count)) \(diallers.count == 1 ? "reaches" : "reach") through \"\(name)\": "
                + "packets to it would go round in the tunnel",
            at: endpoint.place,
            notes: [
                Diagnostic.Note(
                    "the prefix is here",
                    at: nodes[holder.node].allowedIPs.first { $0.value == holder.prefix }?.place),
                Diagnostic.Note(
                    "give \"\(name)\" another endpoint, for some nodes only under `links`, or take the address out of the "
                        + "`allowedIPs` of \"\(behind)\""),
            ])
    }
}
