// Addresses: added before anything needs them, removed after nothing does.

package import WeftModel

package enum AddressOperation: Hashable, Sendable {
    case add(InterfaceAddress, interface: String)
    /// Takes back what one of ours, with the same key, was given by hand.
    case replace(old: InterfaceAddress, new: InterfaceAddress, interface: String)
    case remove(InterfaceAddress, interface: String)

    package var action: Operation.Action {
        switch self {
        case .add: .add
        case .replace: .change
        case .remove: .remove
        }
    }

    /// The address as it will be, or as it was where it goes.
    package var address: InterfaceAddress {
        switch self {
        case .add(let address, _), .remove(let address, _): address
        case .replace(_, let new, _): new
        }
    }
}

struct AddressPlan {
    /// Adds and replacements.
    var add: [PlannedOperation]
    var remove: [PlannedOperation]
    /// Live ones that are removed and added again.
    private var replaced: [InterfaceAddress]

    init(desired: [InterfaceAddress], live: [InterfaceAddress], interface: String) {
        let diff = CollectionDiff(desired: desired, live: live)
        add = diff.added.map { PlannedOperation(.address(.add($0, interface: interface))) }
        var replaced: [InterfaceAddress] = []
        for change in diff.changed {
            // A lifetime is taken back in place; all else means a moment without the address.
            let isInPlace = change.live.alteration == .lifetime
            if !isInPlace { replaced.append(change.live) }
            add.append(
                PlannedOperation(
                    .address(.replace(old: change.live, new: change.desired, interface: interface)),
                    effect: isInPlace ? .hitless : .outage,
                    scope: isInPlace ? "" : "what comes from \(change.desired.address), for a moment"))
        }
        self.replaced = replaced
        remove = diff.removed.map {
            PlannedOperation(
                .address(.remove($0, interface: interface)), effect: .outage, scope: "connections of \($0.address) only"
            )
        }
    }

    /// The live routes as they are after the additions. An IPv4 address takes the routes with it that have it as their
    /// source, and the last one all of its device; IPv6 routes lose their source. A route that is still there is no
    /// failure when it is added.
    func routesLeft(of routes: [Route]) -> [Route] {
        if replaced.isEmpty { return routes }
        let sources = Set(replaced.map(\.address))
        let losesFour = sources.contains { $0.family == .v4 }
        return routes.compactMap { route in
            guard route.target == .interface else { return route }
            if route.prefix.family == .v4 { return losesFour ? nil : route }
            guard let source = route.source, sources.contains(source) else { return route }
            var route = route
            route.source = nil
            return route
        }
    }
}
