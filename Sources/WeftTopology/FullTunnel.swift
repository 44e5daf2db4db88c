// A default route through another node, apart from all other routing: its own table, mark and policy rules.

import WeftDiagnostics
import WeftModel

/// What a host with `useExit` needs to know of its exit.
struct FullTunnel: Sendable {
    /// The exit's index; nil while it is disabled, expired or without a direct link: nothing goes out then.
    var exit: Int?
    /// Families that go out through the exit, because both have an address; the others go nowhere.
    var families: Set<IPAddress.Family>
    /// The topology's own where it has them, else those of the interface's name.
    var numbers: RoutingNumbers

    /// Nil where the node uses no exit.
    ///
    /// - Parameter families: those in which the node's interface has an address.
    init?(
        of index: Int, in topology: Topology, _ graph: MeshGraph, families: Set<IPAddress.Family>,
        _ identity: MeshIdentity
    ) {
        let node = topology.nodes[index]
        guard let name = node.useExit?.value else { return nil }
        numbers = identity.routingNumbers
        if node.fwMark != 0 { numbers.mark = node.fwMark }
        if case .number(let table) = node.table { numbers.table = table }
        exit = topology.index(ofNode: name).flatMap { exit in
            graph.isLinked(index, exit) && topology.nodes[exit].isExit ? exit : nil
        }
        let far = exit.map { exit in
            topology.nodes[exit].families(mtu: topology.nodes[exit].mtu ?? Compiler.defaultMTU)
        }
        self.families = families.intersection(far ?? [])
    }
}

extension IPPrefix {
    /// 0.0.0.0/0 or ::/0.
    static func everything(_ family: IPAddress.Family) -> IPPrefix {
        IPPrefix(family == .v4 ? IPAddress(v4: 0) : IPAddress(v6: 0, 0), length: 0)
    }
}

extension Compiler {
    /// The default routes of the tunnel's own table. A family that does not go through the
    /// exit is refused there: it must not leave by another way.
    func defaultRoutes() -> [Route] {
        guard let tunnel else { return [] }
        return IPAddress.Family.allCases.filter(facts.families.contains).map { family in
            guard tunnel.families.contains(family) else {
                return Route(
                    .everything(family), table: tunnel.numbers.table, metric: identity.unreachableMetric,
                    target: .unreachable, source: nil)
            }
            return Route(
                .everything(family), table: tunnel.numbers.table, metric: Route.defaultMetric(family),
                target: .interface, source: node.addresses.first { $0.value.family == family }?.value)
        }
    }

    /// In the order of their keys: first all of the main table but its default route, and what the kill switch allows
    /// with it; then the tunnel's own table for all but the tunnel's own packets.
    ///
    /// - Parameter routes: the mesh's.
    mutating func policyRules(besides routes: [Route]) -> [PolicyRule] {
        guard let numbers = tunnel?.numbers else { return [] }
        let allowed = allowedBesideTunnel(routes)
        return IPAddress.Family.allCases.filter(facts.families.contains).flatMap { family in
            [PolicyRule(family, priority: numbers.priority, .lookupMainWithoutDefault)]
                + allowed.filter { $0.family == family }
                .map { PolicyRule(family, priority: numbers.priority, .lookupMain(to: $0)) }
                + [
                    PolicyRule(
                        family, priority: numbers.priority + 1,
                        .lookupUnlessMarked(mark: numbers.mark, table: numbers.table))
                ]
        }
    }

    /// The networks that the kill switch allows, none within another. A host may have no other way there than its default
    /// route: without a rule of their own they would get its answers from the exit, or not at all. Where the mesh's routes
    /// stand in the tunnel's own table, a network that has some of the mesh's addresses is left to them.
    private mutating func allowedBesideTunnel(_ routes: [Route]) -> [IPPrefix] {
        guard let tunnel, let list = node.killSwitch?.allow else { return [] }
        let own = routes.filter { $0.table == tunnel.numbers.table && !$0.prefix.isDefault }
        var allowed: [IPPrefix] = []
        for entry in list.sorted(by: { ($0.value.length, $0.value) < ($1.value.length, $1.value) })
        where !allowed.contains(where: { $0.contains(entry.value) }) {
            if let route = own.first(where: { $0.prefix.overlaps(entry.value) }) {
                diagnostics.append(
                    Diagnostic(
                        "host.allow-in-mesh", .warning,
                        "\(entry.value), which the kill switch allows, has addresses of the mesh's, as \(route.prefix): what "
                            + "this host is not connected to of it is looked for through the exit",
                        at: entry.place,
                        notes: [
                            Diagnostic.Note(
                                "name smaller networks, or leave `table` to Weft: routes of the main table come first")
                        ]))
            } else {
                allowed.append(entry.value)
            }
        }
        return allowed.sorted()
    }
}
