// The mesh's table in nf_tables: made, changed and removed in one atomic batch each.

package import WeftModel

package enum FirewallOperation: Hashable, Sendable {
    /// Make the table and all in it.
    case create(Firewall, table: String)
    /// Change what differs; what does not keeps its counters.
    case change(FirewallChange, table: String)
    /// Remove it and make it anew, in one batch: it holds what Weft cannot change.
    case rebuild(old: Firewall, new: Firewall, table: String)
    case remove(Firewall, table: String)

    package var action: Operation.Action {
        switch self {
        case .create: .add
        case .change, .rebuild: .change
        case .remove: .remove
        }
    }

    package var table: String {
        switch self {
        case .create(_, let table), .change(_, let table), .rebuild(_, _, let table), .remove(_, let table): table
        }
    }
}

/// What a live table needs to become the wanted one.
package struct FirewallChange: Hashable, Sendable {
    /// A chain in both. Its rules are flushed and refilled; where its hook differs it is removed and made anew.
    package struct Chain: Hashable, Sendable {
        package var old: FirewallChain
        package var new: FirewallChain
    }

    /// A set in both.
    package struct Members: Hashable, Sendable {
        package var old: FirewallSet
        package var new: FirewallSet
        package var added: [FirewallSet.Element]
        package var removed: [FirewallSet.Element]

        /// Whether it must be removed and made anew, with every rule that looks into it.
        package var isReshaped: Bool { !old.hasShape(of: new) }
    }

    package var addedChains: [FirewallChain] = []
    package var changedChains: [Chain] = []
    package var removedChains: [FirewallChain] = []
    package var addedSets: [FirewallSet] = []
    package var changedSets: [Members] = []
    package var removedSets: [FirewallSet] = []
    package var addedCounters: [FirewallCounter] = []
    /// Removed and made anew: a comment cannot be changed.
    package var changedCounters: [FirewallCounter] = []
    package var removedCounters: [FirewallCounter] = []

    package init() {}

    package var isEmpty: Bool { self == FirewallChange() }

    package init(desired: Firewall, live: Firewall) {
        let chains = CollectionDiff(desired: desired.chains, live: live.chains)
        addedChains = chains.added
        changedChains = chains.changed.map { Chain(old: $0.live, new: $0.desired) }
        removedChains = chains.removed
        let sets = CollectionDiff(desired: desired.sets, live: live.sets)
        addedSets = sets.added
        changedSets = sets.changed.map { change in
            let elements = CollectionDiff(desired: change.desired.elements, live: change.live.elements)
            return Members(
                old: change.live, new: change.desired,
                added: elements.added + elements.changed.map(\.desired),
                removed: elements.removed + elements.changed.map(\.live))
        }
        removedSets = sets.removed
        let counters = CollectionDiff(desired: desired.counters, live: live.counters)
        addedCounters = counters.added
        changedCounters = counters.changed.map(\.desired)
        removedCounters = counters.removed
    }
}

extension Firewall {
    /// What a change makes of a table; counters that it makes anew are those of the same name.
    package func applying(_ change: FirewallChange) -> Firewall {
        func merge<Object: ConfiguredObject>(_ live: [Object], gone: [Object], come: [Object]) -> [Object] {
            let keys = Set(gone.map(\.key) + come.map(\.key))
            return (live.filter { !keys.contains($0.key) } + come).sorted { $0.key < $1.key }
        }
        return Firewall(
            chains: merge(
                chains, gone: change.removedChains, come: change.addedChains + change.changedChains.map(\.new)),
            sets: merge(sets, gone: change.removedSets, come: change.addedSets + change.changedSets.map(\.new)),
            counters: merge(
                counters, gone: change.removedCounters, come: change.addedCounters + change.changedCounters))
    }
}

/// Nil where nothing changes.
func planFirewall(desired: Firewall?, live: HostState, table: String) -> PlannedOperation? {
    guard let operation = firewallOperation(desired: desired, live: live.firewall, table: table) else { return nil }
    let ended = ConnectionsEnded(from: live, to: desired).phrases
    return PlannedOperation(
        .firewall(operation), effect: ended.isEmpty ? .hitless : .outage, scope: ended.joined(separator: ", "))
}

extension Firewall {
    /// Whether a plan would change the live table to make it this one.
    package func differs(from live: Firewall) -> Bool {
        firewallOperation(desired: self, live: live, table: "") != nil
    }
}

private func firewallOperation(desired: Firewall?, live: Firewall?, table: String) -> FirewallOperation? {
    switch (desired, live) {
    case (nil, nil): return nil
    case (nil, let live?): return .remove(live, table: table)
    case (let desired?, nil): return .create(desired, table: table)
    case (let desired?, let live?):
        if desired == live { return nil }
        let change = FirewallChange(desired: desired, live: live)
        // A set that is made anew takes with it every rule that looks into it; so does a counter.
        let isDeep =
            !live.strangers.isEmpty || change.changedSets.contains(where: \.isReshaped)
            || !change.changedCounters.isEmpty || change.changedChains.contains { $0.old.base != $0.new.base }
        if isDeep { return .rebuild(old: live, new: desired, table: table) }
        // Only the order differs: the kernel lists what is there in the order in which it came.
        if change.isEmpty { return nil }
        return .change(change, table: table)
    }
}
