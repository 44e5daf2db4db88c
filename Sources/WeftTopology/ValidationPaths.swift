// Whether every pair of nodes has a path, without looking at every pair.

import WeftDiagnostics
import WeftModel

/// Hubs that link to one another, directly or through hubs, are one component; a node reaches all that is linked to one
/// of the components that it is linked to. Nodes that link alike are one class, so a mesh of 100,000 nodes is a handful
/// of classes, and only nodes that name others need a look of their own.
private struct Reachability {
    /// How a node links to others of its own accord.
    enum Manner: UInt8, Hashable {
        /// To everyone, where one of the two can be dialled.
        case dialled, dialling
        /// To hubs only.
        case hubsOnly
        /// To the nodes that it names.
        case named
    }

    struct Class: Hashable {
        /// Roots of components, ascending.
        var components: [Int]
        var manner: Manner
        var neighbours: [Int]

        func reaches(_ other: Class) -> Bool {
            switch (manner, other.manner) {
            case (.dialled, .dialled), (.dialled, .dialling), (.dialling, .dialled): return true
            default: break
            }
            var left = 0
            var right = 0
            while left < components.count, right < other.components.count {
                if components[left] == other.components[right] { return true }
                if components[left] < other.components[right] { left += 1 } else { right += 1 }
            }
            return false
        }
    }

    let topology: Topology
    let graph: MeshGraph
    private var parents: [Int: Int] = [:]
    private var attached: [Int: Set<Int>] = [:]
    private var neighbours: [Int: Set<Int>] = [:]

    init(_ topology: Topology, _ graph: MeshGraph) {
        self.topology = topology
        self.graph = graph
    }

    private var nodes: [Node] { topology.nodes }

    private func manner(_ index: Int) -> Manner {
        switch topology.nodes[index].connect ?? topology.mesh.connect {
        case .nodes: return .named
        case .hubs where !topology.nodes[index].isHub: return .hubsOnly
        case .hubs, .full: return topology.nodes[index].endpoint == nil ? .dialling : .dialled
        }
    }

    private mutating func root(_ hub: Int) -> Int {
        var root = hub
        while let next = parents[root], next != root { root = next }
        var step = hub
        while let next = parents[step], next != root {
            parents[step] = root
            step = next
        }
        return root
    }

    private mutating func join(_ first: Int, _ second: Int) {
        let (left, right) = (root(first), root(second))
        if left != right { parents[max(left, right)] = min(left, right) }
    }

    /// A direct link that somebody wrote down.
    private mutating func connect(_ first: Int, _ second: Int) {
        guard graph.isLinked(first, second), !linksAnyway(first, second) else { return }
        switch (nodes[first].isHub, nodes[second].isHub) {
        case (true, true): join(first, second)
        case (true, false): attached[second, default: []].insert(first)
        case (false, true): attached[first, default: []].insert(second)
        case (false, false):
            neighbours[first, default: []].insert(second)
            neighbours[second, default: []].insert(first)
        }
    }

    /// Whether two nodes link by their manners alone: what is written about such a pair joins nothing new.
    private func linksAnyway(_ first: Int, _ second: Int) -> Bool {
        let (left, right) = (manner(first), manner(second))
        guard left != .named, right != .named, nodes[first].endpoint != nil || nodes[second].endpoint != nil else {
            return false
        }
        if left != .hubsOnly, right != .hubsOnly { return true }
        return nodes[first].isHub || nodes[second].isHub
    }

    /// The classes of the active nodes, with their members, in the order of their first ones.
    mutating func classes() -> [(kind: Class, members: [Int])] {
        let active = nodes.indices.filter { graph.isActive[$0] }
        let hubs = active.filter { nodes[$0].isHub }
        for hub in hubs { parents[hub] = hub }
        let dialled = hubs.filter { manner($0) == .dialled }
        let dialling = hubs.filter { manner($0) == .dialling }
        if let first = dialled.first {
            for hub in dialled.dropFirst() { join(first, hub) }
            for hub in dialling { join(first, hub) }
        }
        for index in active {
            guard case .nodes(let names) = nodes[index].connect ?? topology.mesh.connect else { continue }
            for name in names {
                if let other = topology.index(ofNode: name) { connect(index, other) }
            }
        }
        for link in topology.links where !link.endpoints.isEmpty {
            guard let first = topology.index(ofNode: link.between.0.value),
                let second = topology.index(ofNode: link.between.1.value)
            else { continue }
            connect(first, second)
        }

        let main = dialled.first.map { [root($0)] } ?? []
        let all = dialled.isEmpty ? Array(Set(dialling.map { root($0) })).sorted() : main
        var indices: [Class: Int] = [:]
        var result: [(kind: Class, members: [Int])] = []
        // Nodes that nobody names fall into few classes: found by their manner, without hashing.
        var common: [Int: Int] = [:]
        for index in active {
            let manner = manner(index)
            let isCommon = !nodes[index].isHub && manner != .named && attached[index] == nil && neighbours[index] == nil
            let canDial = nodes[index].endpoint != nil
            let key = Int(manner.rawValue) * 2 + (canDial ? 1 : 0)
            if isCommon, let known = common[key] {
                result[known].members.append(index)
                continue
            }
            var components: Set<Int> = []
            if nodes[index].isHub {
                components = [root(index)]
            } else if manner != .named {
                components = Set(canDial ? all : main)
            }
            for hub in attached[index] ?? [] { components.insert(root(hub)) }
            let kind = Class(
                components: components.sorted(), manner: manner, neighbours: (neighbours[index] ?? []).sorted())
            let position = indices[kind] ?? result.count
            if position == result.count {
                indices[kind] = position
                result.append((kind, []))
            }
            result[position].members.append(index)
            if isCommon { common[key] = position }
        }
        return result
    }

    /// Pairs of nodes, neither a hub, that link because one names the other.
    func namedPairs() -> [(Int, Int)] {
        neighbours.flatMap { first, others in others.filter { first < $0 }.map { (first, $0) } }
    }
}

extension Validator {
    mutating func checkPaths() {
        let graph = MeshGraph(topology, at: time)
        checkEntries(graph)
        checkLinkUse(graph)
        guard !problems.hasErrors else { return }
        checkFamilies(graph)
        var reachability = Reachability(topology, graph)
        let classes = reachability.classes()
        guard classes.count <= 2000 else {
            problems.note(
                "topology.paths-unchecked",
                "the nodes link in \(grouped(classes.count)) different ways: which pairs have no path was not looked for",
                at: topology.mesh.name.place)
            return
        }
        var positions = [Int](repeating: -1, count: nodes.count)
        for (position, entry) in classes.enumerated() {
            for member in entry.members { positions[member] = position }
        }
        // Pairs that link although their classes do not reach one another.
        var linked: [Int: Int] = [:]
        for (first, second) in reachability.namedPairs() {
            let (low, high) = (min(positions[first], positions[second]), max(positions[first], positions[second]))
            linked[low * classes.count + high, default: 0] += 1
        }
        for (position, entry) in classes.enumerated() {
            var others: [Int] = []
            for other in position..<classes.count {
                let count = classes[other].members.count
                let pairs = other == position ? count * (count - 1) / 2 : count * entry.members.count
                guard pairs > 0, !entry.kind.reaches(classes[other].kind),
                    pairs > linked[position * classes.count + other] ?? 0
                else { continue }
                if other == position { warnWithin(entry.members, entry.kind) } else { others.append(other) }
            }
            if !others.isEmpty { warn(entry.members, entry.kind, others.map { classes[$0] }, graph) }
        }
    }

    private mutating func warnWithin(_ members: [Int], _ kind: Reachability.Class) {
        problems.warning(
            "topology.no-path", "\(list(members)) cannot reach one another", at: nodes[members[0]].place,
            notes: [Diagnostic.Note(remedy(kind, kind, members))])
    }

    private mutating func warn(
        _ members: [Int], _ kind: Reachability.Class, _ others: [(kind: Reachability.Class, members: [Int])],
        _ graph: MeshGraph
    ) {
        // A node that names its neighbours reaches those: they are not in the list.
        var far = others.flatMap(\.members)
        if members.count == 1 { far.removeAll { graph.isLinked(members[0], $0) } }
        guard !far.isEmpty else { return }
        far.sort()
        let who = list(members)
        let whom = far.count <= 4 ? list(far) : "\(grouped(far.count)) nodes, e.g. \(list(Array(far.prefix(2))))"
        problems.warning(
            "topology.no-path", "\(who) cannot reach \(whom)", at: nodes[members[0]].place,
            notes: [Diagnostic.Note(remedy(kind, others[0].kind, members + far))])
    }

    /// Which field would join these nodes of two classes.
    private func remedy(_ first: Reachability.Class, _ second: Reachability.Class, _ members: [Int]) -> String {
        if first.manner == .named || second.manner == .named {
            for index in members {
                guard case .nodes(let names)? = topology.nodes[index].connect else { continue }
                if let off = names.compactMap({ topology.index(ofNode: $0) }).first(where: { !isActive[$0] }) {
                    let (absent, node) = (nodes[off].name, nodes[index].name)
                    return "\"\(absent)\", which the `connect` of \"\(node)\" names, is disabled or has expired"
                }
            }
            return "a `connect` list leaves out what would join them: add a hub, or the node itself, to it"
        }
        if first.manner == .hubsOnly || second.manner == .hubsOnly {
            if let absentHubs { return "they link to hubs only, and \(absentHubs)" }
            return nodes.contains { $0.isHub }
                ? "they link to hubs only, and no hub is linked to both: give a hub an `endpoint`"
                : "`connect: hubs` needs a hub: mark a node with an `endpoint` as `hub: true`"
        }
        let none = members.count == 2 ? "neither" : "none of them"
        if let absentHubs { return "\(none) has an `endpoint`, and \(absentHubs)" }
        return nodes.contains { $0.isHub }
            ? "\(none) has an `endpoint`, and no hub is linked to both: give a hub an `endpoint`"
            : "\(none) has an `endpoint`: give them one, or mark a node that has one as `hub: true`"
    }

    /// Why no hub joins anybody although there are some; nil where one is there, or there is none at all.
    private var absentHubs: String? {
        let hubs = nodes.indices.filter { nodes[$0].isHub }
        guard let first = hubs.first, !hubs.contains(where: { isActive[$0] }) else { return nil }
        return hubs.count == 1
            ? "\"\(nodes[first].name)\", the only hub, is disabled or has expired"
            : "all \(hubs.count) hubs are disabled or have expired"
    }

    /// A node that names its neighbours and links to none of them is outside of the mesh.
    private mutating func checkEntries(_ graph: MeshGraph) {
        for index in nodes.indices where isActive[index] {
            guard case .nodes(let names)? = topology.nodes[index].connect else { continue }
            let node = nodes[index]
            let others = names.compactMap { topology.index(ofNode: $0) }.filter { isActive[$0] && $0 != index }
            guard !others.isEmpty, !others.contains(where: { graph.isLinked(index, $0) }) else { continue }
            let undialled = others.filter { nodes[$0].endpoint == nil }
            let reason =
                node.endpoint == nil && undialled.count == others.count
                ? "\(list(others)) \(others.count == 1 ? "has" : "have") no `endpoint`, and neither has \"\(node.name)\""
                : "the `connect` of \(list(others)) excludes \"\(node.name)\""
            problems.error(
                "topology.no-entry", "\"\(node.name)\" links to none of the nodes that its `connect` names",
                at: place(of: .connect, index), notes: [Diagnostic.Note(reason)])
        }
    }

    /// Facts about a pair that never links.
    private mutating func checkLinkUse(_ graph: MeshGraph) {
        for link in topology.links {
            guard let first = topology.index(ofNode: link.between.0.value),
                let second = topology.index(ofNode: link.between.1.value), isActive[first], isActive[second],
                !graph.isLinked(first, second)
            else { continue }
            let reason =
                nodes[first].endpoint == nil && nodes[second].endpoint == nil && link.endpoints.isEmpty
                ? "neither has an `endpoint`" : "the `connect` of one of them excludes the other"
            problems.warning(
                "topology.link",
                "\"\(nodes[first].name)\" and \"\(nodes[second].name)\" do not link directly: \(reason)",
                at: link.place)
        }
    }
}

extension Validator {
    /// How many nodes of a hub are asked whether they meet there: the same ways are those of many.
    private static let samples = 8

    /// A hub without an address of a family has no routes in it: what others send each other by it ends there.
    private mutating func checkFamilies(_ graph: MeshGraph) {
        for hub in nodes.indices where nodes[hub].isHub && isActive[hub] {
            for family in IPAddress.Family.allCases where !has(hub, family) {
                // Who can be dialled by nobody needs a hub before others do.
                let members = nodes.indices.filter { $0 != hub && isActive[$0] && has($0, family) }
                    .filter { graph.isLinked($0, hub) }
                    .sorted { (nodes[$0].endpoint == nil ? 0 : 1, $0) < (nodes[$1].endpoint == nil ? 0 : 1, $1) }
                for first in members.prefix(Self.samples) {
                    let hops = graph.firstHops(from: first)
                    guard
                        let second = nodes.indices.first(where: {
                            hops[$0] == Int32(hub) && $0 != hub && has($0, family)
                        })
                    else { continue }
                    problems.warning(
                        "topology.hub-family",
                        "\(list([first, second])) reach each other through \"\(nodes[hub].name)\", which has no \(family.name) "
                            + "address: their \(family.name) ends there", at: nodes[hub].place,
                        notes: [
                            Diagnostic.Note(
                                "give \"\(nodes[hub].name)\" an \(family.name) address, or join them by a hub that has one"
                            )
                        ])
                    break
                }
            }
        }
    }

    private func has(_ node: Int, _ family: IPAddress.Family) -> Bool {
        nodes[node].addresses.contains { $0.value.family == family }
    }
}
