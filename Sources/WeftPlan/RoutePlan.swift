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

    init(desired: [Route], live: [Route], interface: String) {
        let diff = CollectionDiff(desired: desired, live: live)
        make =
            diff.added.map { PlannedOperation(.route(.add($0, interface: interface))) }
            + diff.changed.map {
                PlannedOperation(.route(.replace(old: $0.live, new: $0.desired, interface: interface)))
            }
        remove = diff.removed.map { PlannedOperation(.route(.remove($0, interface: interface))) }
    }
}
