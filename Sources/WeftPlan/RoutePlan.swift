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
    /// Adds and replacements.
    var make: [PlannedOperation]
    var remove: [PlannedOperation]

    /// - Parameter peers: the desired ones: a route that goes while a peer keeps its prefix cuts that prefix off.
    init(desired: [Route], live: [Route], peers: [Peer], interface: String) {
        let diff = CollectionDiff(desired: desired, live: live)
        make =
            diff.added.map { PlannedOperation(.route(.add($0, interface: interface))) }
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
                    return routed.contains(Route.Key(around, table: route.table, metric: 0))
                }
            return PlannedOperation(
                .route(.remove(route, interface: interface)), effect: isCutOff ? .outage : .hitless,
                scope: isCutOff ? "packets to \(route.prefix) only" : "")
        }
    }
}
