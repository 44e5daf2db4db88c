// Policy rules: those that keep what the main table is to decide first, then the one that leads into the tunnel.

package import WeftModel

package enum PolicyRuleOperation: Hashable, Sendable {
    case add(PolicyRule)
    case remove(PolicyRule)

    package var action: Operation.Action {
        switch self {
        case .add: .add
        case .remove: .remove
        }
    }

    package var rule: PolicyRule {
        switch self {
        case .add(let rule), .remove(let rule): rule
        }
    }
}

struct PolicyRulePlan {
    /// In the order of their priorities: while the second is missing, nothing has changed but the order of lookups.
    var add: [PlannedOperation]
    /// In the opposite order.
    var remove: [PlannedOperation]

    init(desired: [PolicyRule], live: [PolicyRule]) {
        let diff = CollectionDiff(desired: desired, live: live)
        // Where the tunnel itself comes or goes, what is led past it never goes into it.
        let staying = Set(desired.lazy.filter(\.isTunnel).map(\.key.family))
            .intersection(live.lazy.filter(\.isTunnel).map(\.key.family))
        // A rule cannot be changed: the wrong one goes once the right one is there.
        add = (diff.added + diff.changed.map(\.desired)).sorted { $0.key < $1.key }
            .map { Self.planned(.add($0), staying) }
        remove = (diff.removed + diff.changed.map(\.live)).sorted { $1.key < $0.key }
            .map { Self.planned(.remove($0), staying) }
    }

    /// What leaves by the default route takes another way from then on, with another source address.
    ///
    /// - Parameter staying: the families that have the tunnel before and after.
    private static func planned(
        _ operation: PolicyRuleOperation, _ staying: Set<IPAddress.Family>
    ) -> PlannedOperation {
        let key = operation.rule.key
        return switch key.action {
        case .lookupMain(let prefix) where staying.contains(key.family):
            PlannedOperation(.rule(operation), effect: .outage, scope: "connections to \(prefix) by the default route")
        case .lookupMain, .lookupMainWithoutDefault: PlannedOperation(.rule(operation))
        case .lookupUnlessMarked:
            PlannedOperation(.rule(operation), effect: .outage, scope: "connections by the default route")
        }
    }
}

extension PolicyRule {
    fileprivate var isTunnel: Bool {
        if case .lookupUnlessMarked = key.action { true } else { false }
    }
}
