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
    /// What must be done before the device's packets get another mark, or none. A tunnel's rule takes what does not bear the
    /// mark that it knows, and so would the tunnel's own packets be taken: they come out at the exit, which then looks for
    /// this host behind its own tunnel. So where the tunnel goes, its rules go first; where its mark changes, the new one is
    /// led to the main table meanwhile.
    var beforeMark: [PlannedOperation] = []
    /// In the order of their priorities: while the second is missing, nothing has changed but the order of lookups.
    var add: [PlannedOperation]
    /// In the opposite order.
    var remove: [PlannedOperation]

    /// - Parameters:
    ///   - oldMark: that the device's packets have now.
    ///   - mark: that they are to have.
    init(desired: [PolicyRule], live: [PolicyRule], oldMark: UInt32, mark: UInt32) {
        let diff = CollectionDiff(desired: desired, live: live)
        // Where the tunnel itself comes or goes, what is led past it never goes into it.
        let staying = Set(desired.lazy.filter(\.isTunnel).map(\.key.family))
            .intersection(live.lazy.filter(\.isTunnel).map(\.key.family))
        // A rule cannot be changed: the wrong one goes once the right one is there.
        add = (diff.added + diff.changed.map(\.desired)).sorted { $0.key < $1.key }
            .map { Self.planned(.add($0), staying) }
        remove = (diff.removed + diff.changed.map(\.live)).sorted { $1.key < $0.key }
            .map { Self.planned(.remove($0), staying) }
        if mark == oldMark { return }
        if !desired.contains(where: \.isTunnel) {
            swap(&beforeMark, &remove)
            return
        }
        // A rule cannot be for packets without a mark alone, and a tunnel's always have one.
        if mark == 0 { return }
        for rule in live where rule.takes(marked: mark) {
            let exception = PolicyRule(
                rule.key.family, priority: rule.key.priority & ~1, .lookupMainIfMarked(mark))
            // One that an interrupted run has left goes with the others.
            if live.contains(exception) { continue }
            beforeMark.append(PlannedOperation(.rule(.add(exception))))
            remove.append(PlannedOperation(.rule(.remove(exception))))
        }
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
        case .lookupMain, .lookupMainWithoutDefault, .lookupMainIfMarked: PlannedOperation(.rule(operation))
        case .lookupUnlessMarked:
            PlannedOperation(.rule(operation), effect: .outage, scope: "connections by the default route")
        }
    }
}

extension PolicyRule {
    fileprivate var isTunnel: Bool {
        if case .lookupUnlessMarked = key.action { true } else { false }
    }

    /// Whether it is a tunnel's, and takes packets with this mark.
    fileprivate func takes(marked mark: UInt32) -> Bool {
        guard case .lookupUnlessMarked(let own, _) = key.action else { return false }
        return (own ^ mark) & MeshIdentity.mask(of: own) != 0
    }
}
