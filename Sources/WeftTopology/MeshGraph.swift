// Who links to whom, and through which hubs the rest is reached: alike on every host, without asking anybody.

package import WeftModel

/// The links of a topology at one moment, by index into `Topology.nodes`.
struct MeshGraph {
    private struct Pair: Hashable {
        var first: Int
        var second: Int

        init(_ first: Int, _ second: Int) {
            self.first = min(first, second)
            self.second = max(first, second)
        }
    }

    private enum Allows {
        case everyone
        case hubs
        case only(Set<Int>)
    }

    private let topology: Topology
    let time: UnixTime
    /// Whether a node takes part: neither disabled nor expired.
    let isActive: [Bool]
    private let allows: [Allows]
    private let hasEndpoint: [Bool]
    private let pairs: [Pair: PairLink]
    /// Active hubs, in the order of their names.
    private let hubs: [Int]

    init(_ topology: Topology, at time: UnixTime) {
        self.topology = topology
        self.time = time
        let nodes = topology.nodes
        isActive = nodes.map { $0.isActive(at: time) }
        hasEndpoint = nodes.map { $0.endpoint != nil }
        allows = nodes.map { node in
            switch node.connect ?? topology.mesh.connect {
            case .full: .everyone
            case .hubs: node.isHub ? .everyone : .hubs
            case .nodes(let names): .only(Set(names.compactMap { topology.index(ofNode: $0) }))
            }
        }
        var pairs: [Pair: PairLink] = [:]
        for link in topology.links {
            guard let first = topology.index(ofNode: link.between.0.value),
                let second = topology.index(ofNode: link.between.1.value)
            else { continue }
            pairs[Pair(first, second)] = link
        }
        self.pairs = pairs
        let active = isActive
        hubs = nodes.indices.filter { nodes[$0].isHub && active[$0] }
    }

    /// Facts written about a pair; nil where there are none.
    func facts(_ first: Int, _ second: Int) -> PairLink? {
        pairs.isEmpty ? nil : pairs[Pair(first, second)]
    }

    /// Where `from` dials `to`; nil where it cannot.
    func endpoint(of to: Int, from: Int) -> NodeEndpoint? {
        facts(from, to)?.endpoints[topology.nodes[to].name]?.value ?? topology.nodes[to].endpoint?.value
    }

    private func permits(_ from: Int, _ to: Int) -> Bool {
        switch allows[from] {
        case .everyone: true
        case .hubs: topology.nodes[to].isHub
        case .only(let nodes): nodes.contains(to)
        }
    }

    /// Whether two nodes link directly: neither's `connect` excludes the other, and at least one can be dialled.
    func isLinked(_ first: Int, _ second: Int) -> Bool {
        guard first != second, isActive[first], isActive[second], permits(first, second), permits(second, first) else {
            return false
        }
        if hasEndpoint[first] || hasEndpoint[second] { return true }
        return facts(first, second)?.endpoints.isEmpty == false
    }

    /// The first hop from `source` to every node: the node itself where they link directly, -1 where there is no way.
    ///
    /// A pair without a direct link takes the shortest path of hubs. Ties are decided so that all hosts agree, hop by
    /// hop and in both directions, because WireGuard drops a packet whose source is not at the peer that sent it: each
    /// hub weighs 2 to the power of its place in the order of names, and the lighter path wins. With one hub between,
    /// that is the first by name. Weights that add up make every part of a chosen path itself the chosen path, and a
    /// path and its reverse weigh the same.
    func firstHops(from source: Int) -> [Int32] { hops(from: source) { $0.firstHop } }

    /// The first hop from every node to `target`, -1 where there is no way: ways are the same in both directions.
    func firstHops(to target: Int) -> [Int32] {
        var hops = hops(from: target) { $0.hub }
        for node in hops.indices where hops[node] == Int32(node) { hops[node] = Int32(target) }
        return hops
    }

    /// - Parameter hop: which hop of a way over hubs is asked for.
    private func hops(from source: Int, _ hop: (HubPath) -> Int) -> [Int32] {
        var hops = [Int32](repeating: -1, count: topology.nodes.count)
        guard isActive[source] else { return hops }
        var missing: [Int] = []
        for node in topology.nodes.indices where node != source && isActive[node] {
            if isLinked(source, node) { hops[node] = Int32(node) } else { missing.append(node) }
        }
        if missing.isEmpty || hubs.isEmpty { return hops }
        let reached = hubPaths(from: source, hops: hops)
        for node in missing {
            // Of the hubs that link to the node, the one that ends the lightest shortest path.
            var best: HubPath?
            for path in reached where path.hub != node && isLinked(path.hub, node) {
                if let chosen = best, !(path < chosen) { continue }
                best = path
            }
            if let best { hops[node] = Int32(hop(best)) }
        }
        return hops
    }

    private struct HubPath {
        /// The last one.
        var hub: Int
        var firstHop: Int
        var length: Int
        /// The hubs on the path, by rank: one bit each, the last words weigh most.
        var weight: [UInt64]

        static func < (left: Self, right: Self) -> Bool {
            if left.length != right.length { return left.length < right.length }
            for index in left.weight.indices.reversed() where left.weight[index] != right.weight[index] {
                return left.weight[index] < right.weight[index]
            }
            return false
        }
    }

    /// The lightest shortest path to every hub that can be reached, by level.
    private func hubPaths(from source: Int, hops: [Int32]) -> [HubPath] {
        let words = (hubs.count + 63) / 64
        var level: [HubPath] = []
        var rest: [(rank: Int, hub: Int)] = []
        for (rank, hub) in hubs.enumerated() where hub != source {
            if hops[hub] == Int32(hub) {
                var weight = [UInt64](repeating: 0, count: words)
                weight[rank / 64] |= 1 << UInt64(rank % 64)
                level.append(HubPath(hub: hub, firstHop: hub, length: 1, weight: weight))
            } else {
                rest.append((rank, hub))
            }
        }
        var reached = level
        while !level.isEmpty, !rest.isEmpty {
            var next: [HubPath] = []
            rest.removeAll { rank, hub in
                var best: HubPath?
                for path in level where isLinked(path.hub, hub) {
                    if let chosen = best, !(path < chosen) { continue }
                    best = path
                }
                guard var path = best else { return false }
                path.hub = hub
                path.length += 1
                path.weight[rank / 64] |= 1 << UInt64(rank % 64)
                next.append(path)
                return true
            }
            reached += next
            level = next
        }
        return reached
    }

    /// Whether a hub may have to forward between others. Never a wrong no; a yes may be one too many where a lighter
    /// hub serves every pair but is not linked to all of this hub's neighbours.
    func relays(_ hub: Int, hops: [Int32]) -> Bool {
        guard topology.nodes[hub].isHub else { return false }
        let neighbours = hops.indices.filter { hops[$0] == Int32($0) }
        if hops.indices.contains(where: { hops[$0] >= 0 && hops[$0] != Int32($0) }), neighbours.count > 1 {
            return true
        }
        for lighter in hubs {
            if lighter == hub { break }
            if neighbours.allSatisfy({ $0 == lighter || isLinked($0, lighter) }) { return false }
        }
        // Two neighbours do not link where one's `connect` excludes the other, or where neither can be dialled.
        let suspects = neighbours.filter { node in
            if case .everyone = allows[node] { return !hasEndpoint[node] }
            return true
        }
        for suspect in suspects {
            if neighbours.contains(where: { $0 != suspect && !isLinked(suspect, $0) }) { return true }
        }
        return false
    }
}

extension Node {
    /// Whether the node takes part in the mesh at a moment.
    package func isActive(at time: UnixTime) -> Bool {
        if isDisabled { return false }
        guard let expires else { return true }
        return time < expires
    }
}

extension Topology {
    /// Takes a node for disabled; nothing where there is none of this name.
    package mutating func disable(_ name: String) {
        if let index = index(ofNode: name) { nodes[index].isDisabled = true }
    }

    /// The index of a node by its name; `nodes` is sorted by name.
    package func index(ofNode name: String) -> Int? {
        var low = 0
        var high = nodes.count
        while low < high {
            let middle = (low + high) / 2
            if nodes[middle].name == name { return middle }
            if nodes[middle].name < name { low = middle + 1 } else { high = middle }
        }
        return nil
    }

    /// The index of the node that has a public key.
    package func index(ofKey key: PublicKey) -> Int? {
        nodes.firstIndex { $0.publicKey.value == key }
    }
}
