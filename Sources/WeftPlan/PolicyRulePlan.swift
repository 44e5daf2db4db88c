// Policy rules: the one that keeps the main table's specific routes first, then the one that leads into the tunnel.

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
        // A rule cannot be changed: the wrong one goes once the right one is there.
        add = (diff.added + diff.changed.map(\.desired)).sorted { $0.key < $1.key }
            .map { Self.planned(.add($0)) }
        remove = (diff.removed + diff.changed.map(\.live)).sorted { $1.key < $0.key }
            .map { Self.planned(.remove($0)) }
    }

    /// What leaves by the default route takes another way from then on, with another source address.
    private static func planned(_ operation: PolicyRuleOperation) -> PlannedOperation {
        switch operation.rule.key.action {
        case .lookupMainWithoutDefault: PlannedOperation(.rule(operation))
        case .lookupUnlessMarked:
            PlannedOperation(.rule(operation), effect: .outage, scope: "connections by the default route")
        }
    }
}
