// Exits, kill switches, masquerading, name servers and the MTU: what one node's fields mean beside one another.

import WeftDiagnostics
import WeftModel
import YAML

extension Validator {
    /// What can be told of each node by itself.
    mutating func checkRoles() {
        for index in nodes.indices where hasRole(index) {
            let node = nodes[index]
            checkMTU(index)
            if let killSwitch = node.killSwitch, node.useExit == nil, isNew(killSwitch.place) {
                problems.error(
                    "topology.kill-switch", "`killSwitch` without `useExit`: nothing would be let through at all",
                    at: killSwitch.place,
                    notes: [Diagnostic.Note("it refuses what does not go through the exit; name one with `useExit`")])
            }
            if let killSwitch = node.killSwitch { check(killSwitch, of: index) }
            if let masquerade = node.masquerade { check(masquerade, of: index) }
            if node.isExit, isActive[index] { checkWayBack(to: index) }
            guard let exit = node.useExit else { continue }
            checkNumbers(of: index, exit)
            if exit.value == node.name {
                problems.error("topology.use-exit", "\"\(node.name)\" cannot be its own exit", at: exit.place)
                continue
            }
            if let target = topology.index(ofNode: exit.value), !nodes[target].isExit, isNew(exit.place) {
                problems.error(
                    "topology.use-exit", "\"\(exit.value)\" is not an exit", at: exit.place,
                    notes: [Diagnostic.Note("it becomes one with `exit: true`", at: nodes[target].place)])
            }
        }
    }

    /// The default route stands in a table of its own, and a mark keeps the tunnel's own packets out of it. Both are derived
    /// where they are not written.
    private mutating func checkNumbers(of index: Int, _ exit: Located<String>) {
        let node = nodes[index]
        func refuse(_ field: NodeField, _ message: String, _ remedy: String...) {
            let place = place(of: field, index)
            guard isNew(place) else { return }
            problems.error(
                "topology.use-exit", message, at: place,
                notes: remedy.map { Diagnostic.Note($0) } + [Diagnostic.Note("its exit is named here", at: exit.place)])
        }
        let remedy = "leave it out, and one is derived from the interface's name; or write another number"
        if node.table == .off {
            refuse(
                .table,
                "`table: off` makes no routes, and \"\(node.name)\" needs a default route through \"\(exit.value)\"")
        } else if node.table == .main, let written = value(of: .table, index),
            ["main", "254"].contains(written.tree.string(written.id))
        {
            refuse(
                .table,
                "the default route of \"\(node.name)\" through \"\(exit.value)\" cannot be in the main table: it would lead "
                    + "the tunnel's own packets into the tunnel", remedy)
        }
        if node.fwMark == 0, let written = value(of: .fwMark, index),
            ["0", "0x0", "0X0"].contains(written.tree.string(written.id))
        {
            refuse(
                .fwMark,
                "`fwMark: 0` is no mark, and \"\(node.name)\" needs one: it keeps the tunnel's own packets out of the tunnel",
                remedy)
        }
    }

    /// Whether a node has any of the fields looked at here: most have none, and a node is large to copy.
    private func hasRole(_ index: Int) -> Bool {
        topology.nodes[index].mtu != nil || topology.nodes[index].isExit || topology.nodes[index].useExit != nil
            || topology.nodes[index].killSwitch != nil || topology.nodes[index].masquerade != nil
    }

    private mutating func checkMTU(_ index: Int) {
        let node = nodes[index]
        guard let mtu = node.mtu, mtu < 1280, node.addresses.contains(where: { $0.value.family == .v6 }) else { return }
        let place = place(of: .mtu, index)
        guard isNew(place) else { return }
        problems.warning(
            "topology.mtu",
            "with an MTU under 1280 Linux takes IPv6 off the interface: \"\(node.name)\" loses its IPv6 address",
            at: place, notes: [Diagnostic.Note("write 1280 or more, or give the node IPv4 addresses only")])
    }

    /// What leaves by an exit under a private address is never answered.
    private mutating func checkWayBack(to index: Int) {
        let node = nodes[index]
        let hidden = topology.mesh.addresses.map(\.value).filter { range in
            guard let masquerade = node.masquerade else { return false }
            return masquerade.sources.isEmpty || masquerade.sources.contains { $0.value.overlaps(range) }
        }
        let bare = topology.mesh.addresses.map(\.value).filter { $0.isPrivate && !hidden.contains($0) }
        let place = place(of: node.masquerade == nil ? .exit : .masquerade, index)
        guard !bare.isEmpty, isNew(place) else { return }
        let list = bare.prefix(4).map(\.description).joined(separator: " and ") + (bare.count > 4 ? " …" : "")
        problems.warning(
            "topology.exit-without-masquerade",
            "\"\(node.name)\" is an exit, and does not masquerade \(list): replies find no way back, unless others route "
                + "\(bare.count == 1 ? "it" : "them") to \"\(node.name)\"",
            at: place,
            notes: [
                Diagnostic.Note(
                    node.masquerade == nil
                        ? "`masquerade: true` puts its own address in the packets"
                        : "it is not under `sources`")
            ])
    }

    /// Each prefix by itself was looked at as it was read.
    private mutating func check(_ killSwitch: KillSwitch, of index: Int) {
        if nodes[index].isUnmanaged, isNew(killSwitch.place) {
            problems.warning(
                "topology.unmanaged",
                "\"\(nodes[index].name)\" is unmanaged: no controller runs there that could enforce a kill switch",
                at: killSwitch.place,
                notes: [
                    Diagnostic.Note(
                        "let its own program refuse what does not go through the tunnel, and leave `killSwitch` out")
                ])
        }
        let cut = nodes[index].allowedIPs.map(\.value).filter { network in
            !killSwitch.allow.contains { $0.value.contains(network) }
        }
        if !cut.isEmpty, isNew(killSwitch.place) {
            let shown = cut.prefix(4).map(\.description).joined(separator: ", ") + (cut.count > 4 ? " …" : "")
            problems.warning(
                "topology.kill-switch-own-network",
                "the kill switch refuses what \"\(nodes[index].name)\" itself sends to \(shown), behind it: DHCP, names, pings",
                at: killSwitch.place,
                notes: [
                    Diagnostic.Note(
                        "put that into `killSwitch: {allow: […]}` where this is not meant; what it passes on between there "
                            + "and the tunnel is not refused")
                ])
        }
        for family in IPAddress.Family.allCases {
            let list = killSwitch.allow.filter { $0.value.family == family }
            guard let first = list.first, coversAll(list.map(\.value)), isNew(first.place) else { continue }
            problems.error(
                "topology.kill-switch",
                "`allow` covers all of \(family == .v4 ? "IPv4" : "IPv6"): that is no kill switch",
                at: first.place)
        }
    }

    private mutating func check(_ masquerade: Masquerade, of index: Int) {
        let node = nodes[index]
        let own = (node.interface ?? topology.mesh.interface).value
        for interface in masquerade.interfaces where interface.value == own && isNew(interface.place) {
            problems.error(
                "topology.masquerade",
                "\(own) is the mesh's own interface: masquerading there would hide the nodes from one another",
                at: interface.place)
        }
        for destination in masquerade.destinations {
            guard let (prefix, owner) = site(overlapping: destination.value), isNew(destination.place) else { continue }
            problems.warning(
                "topology.masquerade",
                "masquerading towards \(prefix.value)\(owner) hides which node a packet came from, and access rules there",
                at: destination.place, notes: [Diagnostic.Note("the network is given here", at: prefix.place)])
        }
        for source in masquerade.sources {
            guard isNew(source.place), let (prefix, other) = site(behindOthersThan: index, overlapping: source.value)
            else { continue }
            problems.warning(
                "topology.masquerade",
                "masquerading \(prefix.value) of \"\(other)\" between sites hides which host a packet came from",
                at: source.place,
                notes: [
                    Diagnostic.Note("the network is given here", at: prefix.place),
                    Diagnostic.Note("a route back through \"\(node.name)\" lets both sites see each other's addresses"),
                ])
        }
        if node.isUnmanaged, isNew(masquerade.place) {
            problems.warning(
                "topology.unmanaged", "\"\(node.name)\" is unmanaged: no controller runs there that could masquerade",
                at: masquerade.place)
        }
    }

    /// A mesh range or a network behind a node that overlaps a prefix.
    private func site(overlapping prefix: IPPrefix) -> (Located<IPPrefix>, String)? {
        if let range = topology.mesh.addresses.first(where: { $0.value.overlaps(prefix) }) { return (range, "") }
        for node in nodes {
            if let found = node.allowedIPs.first(where: { $0.value.overlaps(prefix) }) {
                return (found, " of \"\(node.name)\"")
            }
        }
        return nil
    }

    /// Masquerading where nothing ever leaves the mesh. As a default it is meant for those where something does.
    mutating func checkIdleMasquerading() {
        for index in nodes.indices where isActive[index] {
            guard let place = topology.nodes[index].masquerade?.place, place != draft.defaults?.masquerade?.place,
                !topology.nodes[index].isUnmanaged, !topology.nodes[index].isExit,
                topology.nodes[index].allowedIPs.isEmpty
            else { continue }
            problems.warning(
                "topology.masquerade", "\"\(nodes[index].name)\" passes nothing on that could be masqueraded",
                at: place,
                notes: [Diagnostic.Note("it does with `exit: true`, or with networks behind it under `allowedIPs`")])
        }
    }

    /// A network behind another node that overlaps a prefix, and does not leave by this one as its exit.
    private func site(behindOthersThan index: Int, overlapping prefix: IPPrefix) -> (Located<IPPrefix>, String)? {
        for (other, node) in nodes.enumerated()
        where other != index && isActive[other] && node.useExit?.value != nodes[index].name {
            if let found = node.allowedIPs.first(where: { $0.value.overlaps(prefix) }) { return (found, node.name) }
        }
        return nil
    }

    /// Exits that use one another: what goes out by any of them comes round. Returns all of them.
    private mutating func checkRounds() -> Set<Int> {
        var all: Set<Int> = []
        var isKnown = [Bool](repeating: false, count: nodes.count)
        for start in nodes.indices where isActive[start] && topology.nodes[start].useExit != nil {
            var way: [Int] = []
            var here = start
            while !isKnown[here], isActive[here], let exit = topology.nodes[here].useExit,
                let next = topology.index(ofNode: exit.value)
            {
                isKnown[here] = true
                way.append(here)
                here = next
            }
            guard let first = way.firstIndex(of: here) else { continue }
            let round = Array(way[first...])
            all.formUnion(round)
            problems.error(
                "topology.use-exit",
                "\(list(round)) use one another as exits: packets would go round and never out",
                at: nodes[here].useExit?.place,
                notes: round.dropFirst().map {
                    Diagnostic.Note("and the next one is used here", at: nodes[$0].useExit?.place)
                })
        }
        return all
    }

    /// What hangs on who links to whom.
    mutating func checkExits() {
        guard nodes.indices.contains(where: { topology.nodes[$0].useExit != nil }) else { return }
        let rounds = checkRounds()
        let graph = MeshGraph(topology, at: time)
        for (index, node) in nodes.enumerated() where isActive[index] {
            guard let exit = node.useExit, let target = topology.index(ofNode: exit.value), target != index else {
                continue
            }
            guard isActive[target] else {
                if isNew(exit.place) {
                    let what = nodes[target].isDisabled ? "disabled" : "expired"
                    problems.warning(
                        "topology.use-exit", "\"\(exit.value)\" is \(what): \"\(node.name)\" has no way out",
                        at: exit.place)
                }
                continue
            }
            guard graph.isLinked(index, target) else {
                let reason =
                    node.endpoint == nil && nodes[target].endpoint == nil
                    ? "neither of them has an `endpoint`" : "the `connect` of one of them excludes the other"
                problems.error(
                    "topology.use-exit", "\"\(node.name)\" has no direct link to its exit \"\(exit.value)\"",
                    at: exit.place,
                    notes: [Diagnostic.Note(reason)])
                continue
            }
            if !rounds.contains(target) { checkSecondExit(of: index, behind: target, graph) }
            guard let endpoint = graph.endpoint(of: target, from: index) else {
                problems.warning(
                    "topology.use-exit",
                    "the default route of \"\(node.name)\" works only after \"\(exit.value)\" has called in: it has no `endpoint`",
                    at: exit.place)
                continue
            }
            if let killSwitch = node.killSwitch, case .name(let name) = endpoint.host {
                problems.error(
                    "topology.kill-switch",
                    "under a kill switch the exit's endpoint must be an address: nothing could look up \"\(name)\" before the tunnel is up",
                    at: killSwitch.place,
                    notes: [Diagnostic.Note("the endpoint is here", at: nodes[target].endpoint?.place)])
            }
        }
    }

    /// An exit that uses another one passes its users' packets on to that. WireGuard takes them there only from where it
    /// would send the answers: from a user that it reaches through the first exit.
    private mutating func checkSecondExit(of user: Int, behind first: Int, _ graph: MeshGraph) {
        guard let exit = nodes[first].useExit, let second = topology.index(ofNode: exit.value), second != user,
            isActive[second], graph.firstHops(from: second)[user] != Int32(first),
            let place = nodes[user].useExit?.place,
            isNew(place)
        else { return }
        problems.error(
            "topology.use-exit",
            "packets of \"\(nodes[user].name)\" would leave \"\(nodes[first].name)\" for its own exit \"\(exit.value)\", "
                + "which expects them from elsewhere",
            at: place,
            notes: [
                Diagnostic.Note("the second exit is named here", at: exit.place),
                Diagnostic.Note("use \"\(exit.value)\" directly"),
            ])
    }
}
