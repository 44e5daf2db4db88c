// A firewall, or the part of one that changes, as it stands in documents: in the words of nft(8).

package import WeftModel

/// Chains with their rules, sets with their elements, and counters.
package struct FirewallDocument: Codable, Hashable, Sendable {
    package var chains: [Chain]
    package var sets: [Set]
    package var counters: [Counter]
    /// What a live table holds that Weft never makes; absent where there is nothing of the kind.
    package var strangers: [String]?

    /// A chain.
    package struct Chain: Codable, Hashable, Sendable {
        package var name: String
        /// `filter hook forward priority 0`; absent for a chain that others jump to.
        package var base: String?
        package var rules: [String]

        init(_ chain: FirewallChain) {
            name = chain.name
            base = chain.base?.phrase
            rules = chain.rules.map(\.phrase)
        }
    }

    /// A set or a map.
    package struct Set: Codable, Hashable, Sendable {
        package var name: String
        /// `ipv4_addr . ipv4_addr : counter`.
        package var type: String
        package var elements: [String]

        init(_ set: FirewallSet, elements: [FirewallSet.Element]? = nil) {
            name = set.name
            type = set.type
            self.elements = (elements ?? set.elements).map(set.phrase(of:))
        }
    }

    /// A named counter.
    package struct Counter: Codable, Hashable, Sendable {
        package var name: String
        package var comment: String

        init(_ counter: FirewallCounter) {
            name = counter.name
            comment = counter.comment
        }
    }

    package init(_ firewall: Firewall) {
        chains = firewall.chains.map(Chain.init)
        sets = firewall.sets.map { Set($0) }
        counters = firewall.counters.map(Counter.init)
        strangers = firewall.strangers.isEmpty ? nil : firewall.strangers
    }

    init(chains: [FirewallChain], sets: [Set], counters: [FirewallCounter]) {
        self.chains = chains.map(Chain.init)
        self.sets = sets
        self.counters = counters.map(Counter.init)
    }

    var isEmpty: Bool { chains.isEmpty && sets.isEmpty && counters.isEmpty && strangers == nil }
}
