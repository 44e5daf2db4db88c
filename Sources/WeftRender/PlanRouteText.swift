// The routes of a plan. Most follow from the allowed IPs that stand above them: those are folded into one line.

import WeftModel
import WeftPlan

extension PlanText {
    /// Routes that follow from allowed IPs are folded from this many on.
    private static var foldFrom: Int { 5 }
    /// How many other routes are listed before the rest is only counted.
    private static var routeLimit: Int { 20 }

    func routeSection(_ page: inout Page) {
        let operations = plan.operations.compactMap { planned -> (PlannedOperation, RouteOperation)? in
            if case .route(let route) = planned.operation { (planned, route) } else { nil }
        }
        if operations.isEmpty { return }
        page.section("routes")
        let (gained, lost) = allowedIPs()
        for action in [Operation.Action.add, .change, .remove] {
            var following: [Route] = []
            var others: [(PlannedOperation, RouteOperation)] = []
            for (planned, operation) in operations where operation.action == action {
                let route = operation.route
                let follows =
                    route.target == .interface && action != .change
                    && (action == .add ? gained : lost).contains(route.prefix)
                if follows { following.append(route) } else { others.append((planned, operation)) }
            }
            if options.full || following.count < Self.foldFrom {
                for route in following { page.item(Sign(action), route.phrase) }
            } else {
                fold(following, action, &page)
            }
            let isShort = options.full || others.count <= Self.routeLimit + 1
            let shown = isShort ? others[...] : others.prefix(Self.routeLimit)
            for (planned, operation) in shown {
                let effect = planned.effect == .hitless ? "" : page.effect(of: planned)
                page.item(Sign(action), phrase(operation) + effect)
            }
            if shown.count < others.count {
                page.more(Sign(action), counted(others.count - shown.count, "more route"))
            }
        }
    }

    private func phrase(_ operation: RouteOperation) -> String {
        switch operation {
        case .add(let route, _), .remove(let route, _): route.phrase
        case .replace(let old, let new, _): new.phrase(replacing: old)
        }
    }

    /// One line for each table: `12 routes, one for each new allowed IP above (src 10.80.0.1)`.
    private func fold(_ routes: [Route], _ action: Operation.Action, _ page: inout Page) {
        for table in Set(routes.map(\.table)).sorted() {
            let members = routes.filter { $0.table == table }
            let sources = Set(members.compactMap(\.source)).sorted().map { "src \($0)" }
            let details = (table == Route.mainTable ? [] : ["table \(table)"]) + sources
            let text =
                "\(counted(members.count, "route")), for the \(action == .add ? "new" : "lost") allowed IPs above"
                + (details.isEmpty || action == .remove ? "" : ": \(enumerated(details))")
            page.item(Sign(action), text)
        }
    }

    /// What peers gain and lose in this plan. What goes with the peers of a removed interface is not in it.
    private func allowedIPs() -> (gained: Set<IPPrefix>, lost: Set<IPPrefix>) {
        var gained: Set<IPPrefix> = []
        var lost: Set<IPPrefix> = []
        for planned in plan.operations {
            switch planned.operation.peer {
            case .add(let peer): gained.formUnion(peer.allowedIPs)
            case .change(let change):
                gained.formUnion(change.added)
                lost.formUnion(change.removed)
            case .remove(let peer): lost.formUnion(peer.allowedIPs)
            case nil: break
            }
        }
        return (gained, lost)
    }
}
