// Names: of nodes and groups, and everywhere that a name stands for one of them.

import WeftDiagnostics
import WeftModel
import YAML

extension Validator {
    mutating func checkNames() {
        for (position, group) in topology.groups.enumerated() {
            let name = group.name.value
            if let first = groups[name], first != position {
                problems.error(
                    "topology.duplicate-name", "group \"\(name)\" is given twice", at: group.name.place,
                    notes: [Diagnostic.Note("the first one is here", at: topology.groups[first].name.place)])
                continue
            }
            if let node = topology.index(ofNode: name) {
                problems.error(
                    "topology.duplicate-name", "a group and a node are both named \"\(name)\"", at: group.name.place,
                    notes: [Diagnostic.Note("the node is here", at: nodes[node].place)])
            }
            checkReserved(name, at: group.name.place, "a group")
        }
        if let index = topology.index(ofNode: "internet") {
            checkReserved("internet", at: nodes[index].place, "a node")
        }
        for index in nodes.indices {
            // Only a name of four parts can be read as an address.
            let name = topology.nodes[index].name
            guard let first = name.utf8.first, decimalDigit(first) != nil, IPAddress(name) != nil else { continue }
            problems.error(
                "topology.name", "\"\(name)\" is an address, and cannot name a node", at: nodes[index].place)
        }
    }

    private mutating func checkReserved(_ name: String, at place: SourceRange, _ what: String) {
        guard name == "internet" else { return }
        problems.error(
            "topology.name", "\(what) cannot be named \"internet\": access rules mean by it what lies behind an exit",
            at: place)
    }

    mutating func checkReferences() {
        if nodes.isEmpty, !problems.hasErrors {
            problems.warning("topology.no-nodes", "the mesh has no nodes", at: topology.mesh.name.place)
        }
        checkConnect()
        checkGroups()
        checkLinks()
        for rule in topology.access ?? [] {
            for subject in rule.from { checkSubject(subject, isSource: true) }
            for subject in rule.to { checkSubject(subject, isSource: false) }
        }
        for test in topology.tests {
            checkSubject(test.from, isSource: true)
            checkSubject(test.to, isSource: false)
        }
        for index in nodes.indices {
            guard let exit = topology.nodes[index].useExit, topology.index(ofNode: exit.value) == nil, isNew(exit.place)
            else {
                continue
            }
            unknown(exit.value, at: exit.place)
        }
    }

    private mutating func checkConnect() {
        for index in nodes.indices {
            guard case .nodes = topology.nodes[index].connect, let (tree, id, isDefault) = value(of: .connect, index)
            else { continue }
            if isDefault, !isNew(tree.place(id)) { continue }
            for item in tree.items(id) where tree.kind(item) == .scalar {
                let name = tree.string(item)
                if name == topology.nodes[index].name, !isDefault {
                    problems.error(
                        "topology.connect", "\"\(name)\" cannot connect to itself", at: tree.place(item))
                } else if topology.index(ofNode: name) == nil, groups[name] != nil {
                    problems.error(
                        "topology.connect", "\"\(name)\" is a group: `connect` lists nodes", at: tree.place(item))
                } else if topology.index(ofNode: name) == nil {
                    unknown(name, at: tree.place(item))
                }
            }
        }
    }

    // MARK: Groups

    private mutating func checkGroups() {
        for group in topology.groups {
            var seen: Set<String> = []
            for member in group.members {
                if !seen.insert(member.value).inserted {
                    problems.warning(
                        "topology.duplicate-member", "\"\(member.value)\" is in \"\(group.name.value)\" already",
                        at: member.place)
                } else if topology.index(ofNode: member.value) == nil, groups[member.value] == nil {
                    unknown(member.value, orGroup: true, at: member.place)
                }
            }
        }
        findCycles()
    }

    /// Walks the groups depth first, without recursion: a chain may be as long as the file.
    private mutating func findCycles() {
        enum State { case new, open, done }
        let all = topology.groups
        var states = [State](repeating: .new, count: all.count)
        for root in all.indices where states[root] == .new {
            var path: [(group: Int, member: Int)] = [(root, 0)]
            states[root] = .open
            while let (group, member) = path.last {
                guard member < all[group].members.count else {
                    states[group] = .done
                    path.removeLast()
                    continue
                }
                path[path.count - 1].member += 1
                let name = all[group].members[member]
                guard let next = groups[name.value] else { continue }
                switch states[next] {
                case .done: break
                case .new:
                    states[next] = .open
                    path.append((next, 0))
                case .open:
                    let start = path.firstIndex { $0.group == next } ?? 0
                    let names = path[start...].map { all[$0.group].name.value } + [name.value]
                    let shown = names.count > 8 ? names.prefix(4) + ["…"] + names.suffix(3) : names[...]
                    problems.error(
                        "topology.group-cycle",
                        "group \"\(name.value)\" contains itself: \(shown.joined(separator: " → "))",
                        at: name.place)
                }
            }
        }
    }

    // MARK: Links

    private mutating func checkLinks() {
        struct Pair: Hashable {
            var first: String
            var second: String
        }
        var pairs: [Pair: PairLink] = [:]
        for (position, link) in topology.links.enumerated() {
            let (first, second) = link.between
            let strangers = [first, second].filter { topology.index(ofNode: $0.value) == nil }
            for name in strangers { unknown(name.value, at: name.place) }
            if first.value == second.value {
                problems.error(
                    "topology.link", "a link is between two nodes, not \"\(first.value)\" and itself", at: second.place)
                continue
            }
            for name in draft.linkEndpointNames[position] ?? [] {
                if name.value == first.value || name.value == second.value { continue }
                problems.error(
                    "topology.link", "\"\(name.value)\" is not one of this link's two nodes", at: name.place,
                    fixIts: nearest(to: name.value, among: [first.value, second.value]).map {
                        [Diagnostic.FixIt("write \($0)", replace: name.place, with: $0)]
                    } ?? [])
            }
            // What could not be read has been told of.
            if link.endpoints.isEmpty, link.persistentKeepalive == nil, strangers.isEmpty,
                !draft.faultyLinks.contains(position)
            {
                problems.warning(
                    "topology.link", "this link says nothing: it has no `endpoints` and no `persistentKeepalive`",
                    at: link.place)
            }
            let pair = Pair(first: min(first.value, second.value), second: max(first.value, second.value))
            if let other = pairs[pair] {
                problems.error(
                    "topology.duplicate-link",
                    "the link between \"\(pair.first)\" and \"\(pair.second)\" is given twice",
                    at: link.place, notes: [Diagnostic.Note("the first one is here", at: other.place)])
            } else {
                pairs[pair] = link
            }
        }
    }

    // MARK: Access

    private mutating func checkSubject(_ subject: Located<AccessSubject>, isSource: Bool) {
        switch subject.value {
        case .internet:
            if isSource {
                problems.error(
                    "topology.access", "`internet` can only stand under `to`: nothing comes into the mesh from it",
                    at: subject.place)
            } else if !nodes.contains(where: { $0.isExit }) {
                problems.warning(
                    "topology.access", "no node is an exit, so nobody reaches the internet through the mesh",
                    at: subject.place)
            }
        case .named(let name):
            if topology.index(ofNode: name) == nil, groups[name] == nil {
                guard !["all", "any", "everyone"].contains(name) else {
                    problems.error(
                        "topology.access",
                        "\"\(name)\" is not a word here, and no group has that name: name a group, a node, or a network",
                        at: subject.place,
                        notes: topology.mesh.addresses.first.map {
                            [Diagnostic.Note("\($0.value) is the whole mesh")]
                        } ?? [])
                    return
                }
                unknown(name, orGroup: true, at: subject.place)
            }
        case .prefix: break
        }
    }
}
