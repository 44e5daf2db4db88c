// Routes: made and replaced before any is deleted, so that no prefix is ever without one.

package import WeftModel

package enum RouteOperation: Hashable, Sendable {
    case add(Route, interface: String)
    /// Replaces the route of the same key, which was read to be ours.
    case replace(old: Route, new: Route, interface: String)
    case remove(Route, interface: String)

    package var action: Operation.Action {
        switch self {
        case .add: .add
        case .replace: .change
        case .remove: .remove
        }
    }

    /// The route as it will be, or as it was where it goes.
    package var route: Route {
        switch self {
        case .add(let route, _), .remove(let route, _): route
        case .replace(_, let new, _): new
        }
    }
}

struct RoutePlan {
    /// Adds and replacements, and removals of all but one of the routes that share a key.
    var make: [PlannedOperation]
    var remove: [PlannedOperation]

    /// - Parameter peers: the desired ones: a route that goes while a peer keeps its prefix cuts that prefix off.
    init(desired: [Route], live: [Route], peers: [Peer], interface: String) {
        var diff = CollectionDiff(desired: desired, live: live)
        var doubles: [Route] = []
        if !diff.isEmpty {
            var live = live
            doubles = Self.takeDoubles(from: &live)
            if !doubles.isEmpty { diff = CollectionDiff(desired: desired, live: live) }
        }
        // First: what is left of a key then is replaced, whichever it is.
        make =
            doubles.map { PlannedOperation(.route(.remove($0, interface: interface))) }
            + diff.added.map { PlannedOperation(.route(.add($0, interface: interface))) }
            + diff.changed.map {
                PlannedOperation(.route(.replace(old: $0.live, new: $0.desired, interface: interface)))
            }
        if diff.removed.isEmpty {
            remove = []
            return
        }
        let kept = Set(peers.lazy.flatMap { $0.allowedIPs })
        let routed = Set(
            desired.lazy.filter { $0.target == .interface }.map { Route.Key($0.prefix, table: $0.table, metric: 0) })
        remove = diff.removed.map { route in
            let isCutOff =
                route.target == .interface && kept.contains(route.prefix)
                && !(0...Int(route.prefix.length)).contains { length in
                    let around = IPPrefix(route.prefix.address, length: length)
                    // The main table is looked into whatever the rules are.
                    return [route.table, Route.mainTable].contains {
                        routed.contains(Route.Key(around, table: $0, metric: 0))
                    }
                }
            return PlannedOperation(
                .route(.remove(route, interface: interface)), effect: isCutOff ? .outage : .hitless,
                scope: isCutOff ? "packets to \(route.prefix) only" : "")
        }
    }

    /// Takes out all but the first of the routes with the same key, which the kernel lists one after the other. Somebody
    /// appended them; a removal by key meets any of them, so that what stays may be another one than ours.
    private static func takeDoubles(from live: inout [Route]) -> [Route] {
        guard zip(live, live.dropFirst()).contains(where: { $0.key == $1.key }) else { return [] }
        var doubles: [Route] = []
        var single: [Route] = []
        for var route in live {
            guard let last = single.last, last.key == route.key else {
                single.append(route)
                continue
            }
            route.isAltered = true
            doubles.append(route)
            single[single.count - 1].isAltered = true
        }
        live = single
        return doubles
    }
}
