// How the elements of a map change under running traffic. One transaction shows all rules at once, but not all elements: up
// to Linux 6.12, a map of ranges of several fields has a moment in which what goes is gone and what comes is not yet there,
// and a flow that stays permitted loses packets (measured with plain nft too: 5 % under a flood of pings, eight changes).

import WeftModel
import WeftPlan

/// A change in three steps, each one transaction: flows that are there already pass by a rule of their own while a map's
/// elements change. What is no longer permitted stops with the last step, some milliseconds later; new flows are judged by
/// the maps all the while. A run that is killed in between leaves that rule, which the next plan shows and removes.
struct NfTablesBridge {
    /// What the table is before, between and after the steps: the live one first, the wanted one last.
    let states: [Firewall]

    /// Nil where one transaction will do: no map loses elements.
    init?(_ change: FirewallChange, live: Firewall) {
        let maps = Set(
            change.changedSets.filter { $0.new.isConcatenation && !$0.removed.isEmpty && !$0.old.elements.isEmpty }
                .map(\.new.name))
        if maps.isEmpty { return nil }
        let wanted = live.applying(change)
        let before = live.bridged(over: maps)
        let after = wanted.bridged(over: maps)
        if before == live { return nil }
        states = [live, before, after, wanted]
    }

    /// IPS_CONFIRMED: a packet of the flow has passed all rules before.
    private static let confirmed: UInt32 = 1 << 3

    static let rule: FirewallRule = {
        func bytes(_ value: UInt32) -> [UInt8] { unsafe withUnsafeBytes(of: value) { unsafe Array($0) } }
        return FirewallRule(
            [
                .conntrack(.status), .bitwise(mask: bytes(confirmed)), .compare(.notEqual, bytes(0)), .verdict(.accept),
            ], comment: "while the maps below change")
    }()
}

extension Firewall {
    /// The same, after a bridge that was not taken to its end.
    var withoutBridge: Firewall {
        var result = self
        for index in result.chains.indices { result.chains[index].rules.removeAll { $0 == NfTablesBridge.rule } }
        return result
    }

    /// The same with the bridge's rule at the head of every chain that looks into one of these maps.
    fileprivate func bridged(over maps: Set<String>) -> Firewall {
        var result = self
        for index in result.chains.indices where result.chains[index].looks(into: maps) {
            result.chains[index].rules.removeAll { $0 == NfTablesBridge.rule }
            result.chains[index].rules.insert(NfTablesBridge.rule, at: 0)
        }
        return result
    }
}
