// A table while it is being written: rules go to chains by what the chains are for.

import WeftModel

/// The mesh's table in nf_tables, before it is complete. Only chains that got a rule are made.
struct FirewallDraft {
    /// Weft's base chains.
    enum Chain: String, CaseIterable {
        /// Drops what claims to come over the tunnel and does not.
        case `guard`
        /// Gives packets that arrive for the tunnel the mark that it was sent with.
        case restore
        /// Notes the tunnel's mark at its connections.
        case save
        /// Makes TCP segments small enough for the tunnel.
        case clamp
        case input, forward, output
        /// Masquerades.
        case postrouting
        /// Drops what would go into the mesh in another name than this node's, after all that masquerades.
        case source

        var base: FirewallChain.Base {
            switch self {
            case .guard: .init(.filter, .prerouting, priority: -300)
            case .restore: .init(.filter, .prerouting, priority: -150)
            case .save: .init(.filter, .postrouting, priority: -150)
            case .clamp: .init(.filter, .forward, priority: -150)
            case .input: .init(.filter, .input, priority: 0)
            case .forward: .init(.filter, .forward, priority: 0)
            case .output: .init(.filter, .output, priority: 0)
            case .postrouting: .init(.nat, .postrouting, priority: 100)
            case .source: .init(.filter, .postrouting, priority: 110)
            }
        }
    }

    private var rules: [Chain: [FirewallRule]] = [:]
    private var chains: [FirewallChain] = []
    private var sets: [FirewallSet] = []
    private var counters: [FirewallCounter] = []

    /// Puts a rule behind the others of its chain.
    mutating func add(_ rule: FirewallRule, to chain: Chain) {
        rules[chain, default: []].append(rule)
    }

    /// Adds a chain that others jump to.
    mutating func add(_ chain: FirewallChain) { chains.append(chain) }

    mutating func add(_ set: FirewallSet) { sets.append(set) }

    mutating func add(_ counters: [FirewallCounter]) { self.counters += counters }

    /// Adds a set of the networks of one family. Returns its name; nil where there are none, and no set.
    mutating func addSet(
        _ name: String, _ family: IPAddress.Family, of prefixes: some Sequence<IPPrefix>
    ) -> String? {
        addSet(name, family, of: Ranges(prefixes.filter { $0.family == family }.map(\.range)))
    }

    /// Adds a set of ranges. Returns its name; nil where there are none, and no set.
    mutating func addSet(_ name: String, _ family: IPAddress.Family, of ranges: Ranges<UInt128>) -> String? {
        if ranges.isEmpty { return nil }
        let whole = name + (family == .v4 ? "4" : "6")
        sets.append(
            FirewallSet(
                whole, [family == .v4 ? .address4 : .address6],
                elements: ranges.list.map { FirewallSet.Element($0, family) }))
        return whole
    }

    /// The table; nil where nothing was put into it.
    var firewall: Firewall? {
        let based = Chain.allCases.compactMap { chain in
            rules[chain].map { FirewallChain(chain.rawValue, base: chain.base, rules: $0) }
        }
        if based.isEmpty { return nil }
        return Firewall(
            chains: (based + chains).sorted { $0.name < $1.name }, sets: sets.sorted { $0.name < $1.name },
            counters: counters.sorted { $0.name < $1.name })
    }
}
