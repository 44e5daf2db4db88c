// Access rules against the mesh that they are for: what matches nothing, what cannot be enforced, what is cut off.

import WeftDiagnostics
import WeftModel

extension Validator {
    mutating func checkAccess() {
        guard let written = topology.access else { return }
        let rules = written.map { rule in
            var rule = rule
            rule.from = joined(rule.from)
            rule.to = joined(rule.to)
            return rule
        }
        let known = knownNetworks()
        let filled = groupsHolding { _ in true }
        let takingPart = groupsHolding { isActive[$0] }
        // Behind an exit lies everything, for those who use one.
        let hasExit = nodes.indices.contains { nodes[$0].isExit && isActive[$0] }
        let users = exitUsers()
        for rule in rules {
            let goesOut = rule.from.contains { includes($0.value, oneOf: users) }
            for (position, subject) in (rule.from + rule.to).enumerated() {
                switch subject.value {
                case .internet:
                    if goesOut { continue }
                    problems.warning(
                        "topology.access",
                        "`internet` lies behind an exit, and nobody in `from` uses one: this matches nothing",
                        at: subject.place,
                        notes: [Diagnostic.Note("`useExit` at the nodes in `from` says which exit they go out by")])
                case .named(let name):
                    guard topology.index(ofNode: name) == nil, let group = groups[name], !takingPart[group] else {
                        continue
                    }
                    problems.warning(
                        "topology.access",
                        filled[group]
                            ? "every member of group \"\(name)\" is disabled or has expired, so this matches nobody"
                            : "group \"\(name)\" has no members, so this matches nobody",
                        at: subject.place,
                        notes: [Diagnostic.Note("the group is here", at: topology.groups[group].name.place)])
                case .prefix(let prefix):
                    let isTarget = position >= rule.from.count
                    if known.overlaps(prefix) || (hasExit && goesOut && isTarget) { continue }
                    problems.warning(
                        "topology.access",
                        "\(prefix) lies outside of the mesh and of all `allowedIPs`: this matches nothing",
                        at: subject.place,
                        notes: hasExit && isTarget
                            ? [Diagnostic.Note("it would lie behind an exit, and nobody in `from` uses one")] : [])
                }
            }
        }
        checkReach(rules)
        checkUnmanagedPairs()
        checkWaysOut(rules)
    }

    // MARK: What subjects mean

    /// Networks that together are all of a family count as one, where the first of them stands.
    private func joined(_ subjects: [Located<AccessSubject>]) -> [Located<AccessSubject>] {
        var result = subjects
        for family in IPAddress.Family.allCases {
            func network(_ subject: Located<AccessSubject>) -> IPPrefix? {
                if case .prefix(let prefix) = subject.value, prefix.family == family { prefix } else { nil }
            }
            guard let first = result.firstIndex(where: { network($0) != nil }), coversAll(result.compactMap(network))
            else { continue }
            let place = result[first].place
            result.removeAll { network($0) != nil }
            result.insert(Located(.prefix(IPPrefix(IPAddress(0, family), length: 0)), at: place), at: first)
        }
        return result
    }

    /// Mesh ranges and all networks behind nodes, merged, for one question.
    private func knownNetworks() -> SortedNetworks {
        SortedNetworks(topology.mesh.addresses.map(\.value) + nodes.flatMap { $0.allowedIPs.map(\.value) })
    }

    /// Whether each group holds such a node, itself or through its groups. There are no cycles.
    private func groupsHolding(_ isWanted: (Int) -> Bool) -> [Bool] {
        var filled = topology.groups.map { group in
            group.members.contains { topology.index(ofNode: $0.value).map(isWanted) ?? false }
        }
        var containers: [Int: [Int]] = [:]
        for (index, group) in topology.groups.enumerated() {
            for member in group.members {
                if let inner = groups[member.value] { containers[inner, default: []].append(index) }
            }
        }
        var queue = filled.indices.filter { filled[$0] }
        while let group = queue.popLast() {
            for container in containers[group] ?? [] where !filled[container] {
                filled[container] = true
                queue.append(container)
            }
        }
        return filled
    }

    /// Who uses an exit.
    private struct ExitUsers {
        /// Whether each group holds a node that does.
        var groups: [Bool]
        var nodes: [Bool]
        /// Their addresses, and the networks behind them.
        var networks: SortedNetworks
    }

    /// Whether they and their exits take part is of no account: who is disabled for a while needs no rule less.
    private func exitUsers() -> ExitUsers {
        let isUser = topology.nodes.indices.map { topology.nodes[$0].useExit != nil }
        let users = topology.nodes.indices.filter { isUser[$0] }
        return ExitUsers(
            groups: groupsHolding { isUser[$0] }, nodes: isUser,
            networks: SortedNetworks(
                users.flatMap { index in
                    topology.nodes[index].addresses.map { IPPrefix(host: $0.value) }
                        + topology.nodes[index].allowedIPs.map(\.value)
                }))
    }

    private func includes(_ subject: AccessSubject, oneOf users: ExitUsers) -> Bool {
        switch subject {
        case .internet: false
        case .named(let name):
            topology.index(ofNode: name).map { users.nodes[$0] } ?? groups[name].map { users.groups[$0] } ?? false
        case .prefix(let prefix): users.networks.overlaps(prefix)
        }
    }

    /// Adds the nodes that subjects stand for; a prefix stands for the nodes with an address in it.
    private func expand(_ subjects: [Located<AccessSubject>], into result: inout Set<Int>) {
        var seen: Set<Int> = []
        var queue: [String] = []
        for subject in subjects {
            switch subject.value {
            case .internet: break
            case .named(let name): queue.append(name)
            case .prefix(let prefix):
                for (index, node) in nodes.enumerated()
                where node.addresses.contains(where: { prefix.contains($0.value) }) {
                    result.insert(index)
                }
            }
        }
        while let name = queue.popLast() {
            if let node = topology.index(ofNode: name) {
                result.insert(node)
            } else if let group = groups[name], seen.insert(group).inserted {
                queue += topology.groups[group].members.map(\.value)
            }
        }
    }

    // MARK: Unmanaged nodes

    /// Two nodes without a controller that link directly: nobody is there to refuse anything.
    private mutating func checkUnmanagedPairs() {
        let unmanaged = nodes.indices.filter { nodes[$0].isUnmanaged && isActive[$0] }
        guard unmanaged.count > 1 else { return }
        let graph = MeshGraph(topology, at: time)
        // One of the two can be dialled, so that one is looked at from; a link's own endpoints make few pairs more.
        let named = Set(
            topology.links.filter { !$0.endpoints.isEmpty }.flatMap { [$0.between.0.value, $0.between.1.value] })
        let suspects = unmanaged.filter { nodes[$0].endpoint != nil || named.contains(nodes[$0].name) }
        var steps = 0
        for suspect in suspects {
            steps += unmanaged.count
            if steps > 5_000_000 { break }
            let others = unmanaged.filter { other in
                guard other != suspect, graph.isLinked(suspect, other) else { return false }
                return other > suspect || nodes[other].endpoint == nil && !named.contains(nodes[other].name)
            }
            guard !others.isEmpty else { continue }
            problems.error(
                "topology.unmanaged-link",
                "access rules cannot be enforced between \"\(nodes[suspect].name)\" and \(list(others)): no controller runs on either side of the link",
                at: nodes[suspect].place,
                notes: [
                    Diagnostic.Note(
                        "let them link to hubs only, with `connect: hubs`, or take `unmanaged` from one of the two")
                ])
        }
    }

    // MARK: Ways out

    /// An exit or a name server that a node uses, and may not talk to.
    private mutating func checkWaysOut(_ rules: [AccessRule]) {
        let known = knownNetworks()
        let users = nodes.indices.filter { isActive[$0] && nodes[$0].useExit != nil }
        var permitted: Set<Int> = []
        if !users.isEmpty {
            for rule in rules where rule.to.contains(where: { known.leavesOut($0.value) }) {
                expand(rule.from, into: &permitted)
            }
            for user in users where !permitted.contains(user) {
                guard let exit = nodes[user].useExit, isNew(exit.place) else { continue }
                problems.warning(
                    "topology.access-exit",
                    "no access rule lets \"\(nodes[user].name)\" reach the internet through \"\(exit.value)\"",
                    at: exit.place,
                    notes: [Diagnostic.Note("`{from: [\(nodes[user].name)], to: [internet]}` would")])
            }
        }
        var clients: [IPAddress: [Int]] = [:]
        for (index, node) in nodes.enumerated() where isActive[index] {
            for server in node.dns?.servers ?? []
            where known.overlaps(IPPrefix(host: server.value))
                || (permitted.contains(index) && node.asksThroughExit(server.value))
            {
                clients[server.value, default: []].append(index)
            }
        }
        for (server, users) in clients.sorted(by: { $0.key < $1.key }) { checkServer(server, users, rules, known) }
    }

    private mutating func checkServer(
        _ server: IPAddress, _ users: [Int], _ rules: [AccessRule], _ known: SortedNetworks
    ) {
        let owner = nodes.firstIndex { $0.addresses.contains { $0.value == server } }
        let isBeyond = !known.overlaps(IPPrefix(host: server))
        var permitted: Set<Int> = owner.map { [$0] } ?? []
        for rule in rules where allowsNames(rule.ports) {
            var targets: Set<Int> = []
            let named = rule.to.filter { if case .named = $0.value { true } else { false } }
            expand(named, into: &targets)
            let isCovered = rule.to.contains { subject in
                switch subject.value {
                case .internet: isBeyond
                case .named: false
                case .prefix(let prefix): prefix.contains(server)
                }
            }
            if isCovered || owner.map({ targets.contains($0) }) == true { expand(rule.from, into: &permitted) }
        }
        for user in users where !permitted.contains(user) {
            guard let settings = nodes[user].dns,
                let place = settings.servers.first(where: { $0.value == server })?.place,
                isNew(place)
            else { continue }
            problems.warning(
                "topology.access-dns", "no access rule lets \"\(nodes[user].name)\" ask its name server \(server)",
                at: place,
                notes: [Diagnostic.Note("it needs udp/53, and tcp/53 for long answers")])
        }
    }

    private func allowsNames(_ ports: [Located<AccessPort>]) -> Bool {
        ports.isEmpty
            || ports.contains { if case .udp(let range) = $0.value { range.contains(53) } else { false } }
    }
}

extension Node {
    /// Whether a server outside of the mesh is asked through the exit. One with a private address may be in a network that
    /// the host is connected to, and what a kill switch allows goes past the tunnel.
    fileprivate func asksThroughExit(_ server: IPAddress) -> Bool {
        useExit != nil && !server.isLoopback && !server.isLinkLocal && !server.isPrivate
            && killSwitch?.allow.contains { $0.value.contains(server) } != true
    }
}

/// Prefixes in order, with those inside others dropped: overlap is then a question to two neighbours.
private struct SortedNetworks {
    private var networks: [IPPrefix] = []

    init(_ prefixes: [IPPrefix]) {
        for prefix in prefixes.sorted() where networks.last?.contains(prefix) != true { networks.append(prefix) }
    }

    /// Whether a subject means something that is in none of them.
    func leavesOut(_ subject: AccessSubject) -> Bool {
        switch subject {
        case .internet: true
        case .named: false
        case .prefix(let prefix): !networks.contains { $0.contains(prefix) }
        }
    }

    func overlaps(_ prefix: IPPrefix) -> Bool {
        var low = 0
        var high = networks.count
        while low < high {
            let middle = (low + high) / 2
            if networks[middle] < prefix { low = middle + 1 } else { high = middle }
        }
        return (low < networks.count && prefix.overlaps(networks[low]))
            || (low > 0 && networks[low - 1].overlaps(prefix))
    }
}
