// The firewall of a plan: chain by chain, rule by rule, and of long sets how many elements come and go.

import WeftModel
import WeftPlan

extension PlanText {
    /// How many elements of a set, or how many counters, are listed before the rest is only counted.
    private static var listLimit: Int { 6 }

    func firewallSection(_ page: inout Page) {
        for planned in plan.operations {
            guard case .firewall(let operation) = planned.operation else { continue }
            let effect = planned.effect == .hitless ? "" : page.effect(of: planned)
            page.section("firewall: table inet \(operation.table.visible)", effect)
            switch operation {
            case .create(let firewall, _): whole(firewall, .add, &page)
            case .remove(let firewall, _): whole(firewall, .remove, &page)
            case .rebuild(let old, let new, _):
                page.item(.change, "the table is made anew, in one step: its counters begin at 0")
                for stranger in old.strangers { page.item(.remove, depth: 2, stranger.visible) }
                show(FirewallChange(desired: new, live: old), &page)
            case .change(let change, _): show(change, &page)
            }
        }
    }

    private func whole(_ firewall: Firewall, _ sign: Sign, _ page: inout Page) {
        for chain in firewall.chains { whole(chain, sign, &page) }
        for set in firewall.sets { whole(set, sign, &page) }
        counters(firewall.counters, sign, &page)
    }

    private func whole(_ chain: FirewallChain, _ sign: Sign, _ page: inout Page) {
        page.item(sign, chain.phrase)
        for rule in chain.rules { page.item(sign, depth: 2, rule.phrase) }
    }

    private func whole(_ set: FirewallSet, _ sign: Sign, _ page: inout Page) {
        page.item(sign, set.phrase)
        page.list(sign, set.elements.map(set.phrase(of:)), noun: "element", limit: Self.listLimit)
    }

    private func counters(_ counters: [FirewallCounter], _ sign: Sign, _ page: inout Page) {
        let shown = options.full ? counters[...] : counters.prefix(Self.listLimit)
        for counter in shown {
            page.item(
                sign,
                "counter \(counter.name.visible)" + (counter.comment.isEmpty ? "" : "  \(counter.comment.visible)"))
        }
        if shown.count < counters.count { page.more(sign, counted(counters.count - shown.count, "more counter")) }
    }

    private func show(_ change: FirewallChange, _ page: inout Page) {
        for chain in change.addedChains { whole(chain, .add, &page) }
        for chain in change.changedChains { show(chain, &page) }
        for chain in change.removedChains { whole(chain, .remove, &page) }
        for set in change.addedSets { whole(set, .add, &page) }
        for members in change.changedSets {
            let isReshaped = members.isReshaped
            page.item(.change, members.new.phrase + (isReshaped ? ", was \(members.old.type)" : ""))
            page.list(
                .add, members.added.map(members.new.phrase(of:)), noun: "element", limit: Self.listLimit)
            page.list(
                .remove, members.removed.map(members.old.phrase(of:)), noun: "element", limit: Self.listLimit)
        }
        for set in change.removedSets { whole(set, .remove, &page) }
        counters(change.addedCounters, .add, &page)
        counters(change.changedCounters, .change, &page)
        counters(change.removedCounters, .remove, &page)
    }

    /// The rules that go and come, and of the others none.
    private func show(_ chain: FirewallChange.Chain, _ page: inout Page) {
        let base = chain.old.base == chain.new.base ? "" : ", was \(chain.old.base?.phrase ?? "without a hook")"
        page.item(.change, chain.new.phrase + base)
        for step in chain.new.rules.difference(from: chain.old.rules) {
            switch step {
            case .remove(_, let rule, _): page.item(.remove, depth: 2, rule.phrase)
            case .insert(_, let rule, _): page.item(.add, depth: 2, rule.phrase)
            }
        }
    }

    func tunnelSections(_ page: inout Page) {
        let rules = plan.operations.filter { $0.operation.kind == .rule }
        if !rules.isEmpty {
            page.section("policy rules")
            for planned in rules {
                guard case .rule(let rule) = planned.operation else { continue }
                let effect = planned.effect == .hitless ? "" : page.effect(of: planned)
                page.item(Sign(rule.action), rule.rule.phrase + effect)
            }
        }
        for planned in plan.operations {
            guard case .resolver(let resolver) = planned.operation else { continue }
            page.section("name resolution")
            page.item(Sign(resolver.action), resolver.phrase)
        }
    }
}
