// What Weft writes into nf_tables: one table for each mesh, of chains, sets and counters that are wholly its own.

/// The contents of the table `inet weft-<interface>`. Each collection is sorted by name where it is desired.
package struct Firewall: Hashable, Sendable {
    package var chains: [FirewallChain]
    package var sets: [FirewallSet]
    package var counters: [FirewallCounter]
    /// What a live table has that Weft never makes: a flag, a flowtable, an object of another type; as `nft` would name
    /// it. Empty in a desired state. Such a table is made anew.
    package var strangers: [String]

    package init(
        chains: [FirewallChain] = [], sets: [FirewallSet] = [], counters: [FirewallCounter] = [],
        strangers: [String] = []
    ) {
        self.chains = chains
        self.sets = sets
        self.counters = counters
        self.strangers = strangers
    }
}

extension Firewall {
    /// The names of all chains that Weft makes.
    package static let chainNames: Set<String> = [
        "guard", "restore", "save", "clamp", "input", "forward", "output", "postrouting", "source",
        "access", "access-in", "access-out",
    ]

    /// Whether a table of the mesh's name has chains, and Weft makes none of them: then all of it is somebody else's. With
    /// one of Weft's in it, others are drift. No chain of Weft's drops what reaches its end.
    package var isForeign: Bool {
        !chains.isEmpty && !chains.contains { Self.chainNames.contains($0.name) && $0.base?.dropsByDefault != true }
    }
}

extension Firewall {
    /// Whether this host's own packets are refused: of what Weft makes, only a kill switch does that where they go out.
    package var hasKillSwitch: Bool {
        chains.contains { chain in
            chain.base?.hook == .output
                && chain.rules.contains { rule in
                    rule.expressions.contains { if case .reject = $0 { true } else { false } }
                }
        }
    }
}

extension Firewall {
    /// Whether it tells packets by the connection that they belong to, or translates the addresses of one.
    package var knowsConnections: Bool {
        chains.contains { chain in
            chain.base?.kind == .nat
                || chain.rules.contains { rule in
                    rule.expressions.contains { expression in
                        switch expression {
                        case .conntrack, .setConntrack, .tuple: true
                        default: false
                        }
                    }
                }
        }
    }
}

/// A chain with its rules. Key: its name.
package struct FirewallChain: ConfiguredObject, Hashable {
    /// Where a base chain is hooked in. Nil for a chain that others jump to.
    package struct Base: Hashable, Sendable {
        package enum Kind: String, Hashable, Sendable { case filter, nat, route }
        package enum Hook: String, Hashable, Sendable, CaseIterable {
            case prerouting, input, forward, output, postrouting
        }

        package var kind: Kind
        package var hook: Hook
        /// Lower comes first: `raw` -300, `mangle` -150, `filter` 0, `srcnat` 100.
        package var priority: Int32
        /// Whether what reaches the chain's end is dropped; Weft's own chains let it go on.
        package var dropsByDefault: Bool

        package init(_ kind: Kind, _ hook: Hook, priority: Int32, dropsByDefault: Bool = false) {
            self.kind = kind
            self.hook = hook
            self.priority = priority
            self.dropsByDefault = dropsByDefault
        }
    }

    package var name: String
    package var base: Base?
    package var rules: [FirewallRule]

    package init(_ name: String, base: Base? = nil, rules: [FirewallRule] = []) {
        self.name = name
        self.base = base
        self.rules = rules
    }

    package var key: String { name }
    package func isSatisfied(by live: FirewallChain) -> Bool { self == live }
}

/// A rule: its expressions, and a comment that says what it is for. Counter values take no part in it.
package struct FirewallRule: Hashable, Sendable {
    package var expressions: [FirewallExpression]
    /// What `nft` shows as the rule's comment; at most 128 bytes. Empty: none.
    package var comment: String

    package init(_ expressions: [FirewallExpression], comment: String = "") {
        self.expressions = expressions
        self.comment = comment
    }
}

/// A named counter. Its values are statistics, and stand beside the state. Key: its name.
package struct FirewallCounter: ConfiguredObject, Hashable {
    /// At most 15 bytes.
    package var name: String
    /// What it counts, for people; at most 128 bytes.
    package var comment: String

    package init(_ name: String, comment: String = "") {
        self.name = name
        self.comment = comment
    }

    package var key: String { name }
    package func isSatisfied(by live: FirewallCounter) -> Bool { self == live }
}

/// What a named counter has counted. `weft status` prints it under these names.
package struct FirewallCount: Codable, Hashable, Sendable {
    package var name: String
    /// What it counts; may be empty.
    package var comment: String
    package var packets: UInt64
    package var bytes: UInt64

    package init(name: String, comment: String, packets: UInt64, bytes: UInt64) {
        self.name = name
        self.comment = comment
        self.packets = packets
        self.bytes = bytes
    }
}

extension Firewall {
    /// The same, where packets with one more mark pass for the tunnel's own: what is refused must bear neither.
    package func passing(_ other: UInt32, besides mark: UInt32) -> Self {
        var result = self
        for chain in result.chains.indices {
            for rule in result.chains[chain].rules.indices {
                let old = result.chains[chain].rules[rule].expressions
                for index in old.indices.dropFirst().reversed() {
                    guard case .meta(.mark, _) = old[index - 1],
                        case .compare(.notEqual, Self.bytes(mark), let register) = old[index]
                    else { continue }
                    result.chains[chain].rules[rule].expressions.insert(
                        contentsOf: [old[index - 1], .compare(.notEqual, Self.bytes(other), at: register)],
                        at: index + 1)
                }
            }
        }
        return result
    }

    /// As the kernel has a mark.
    private static func bytes(_ mark: UInt32) -> [UInt8] { withUnsafeBytes(of: mark) { Array($0) } }

    /// The same for a tunnel whose own packets bear another mark.
    package func marked(_ mark: UInt32, insteadOf old: UInt32) -> Self {
        let (before, after) = (Self.bytes(old), Self.bytes(mark))
        if before == after { return self }
        var result = self
        for chain in result.chains.indices {
            for rule in result.chains[chain].rules.indices {
                var expressions = result.chains[chain].rules[rule].expressions
                for index in expressions.indices.dropFirst() {
                    switch (expressions[index - 1], expressions[index]) {
                    case (.meta(.mark, _), .compare(let comparison, before, let register)),
                        (.conntrack(.mark, _), .compare(let comparison, before, let register)):
                        expressions[index] = .compare(comparison, after, at: register)
                    default: break
                    }
                }
                result.chains[chain].rules[rule].expressions = expressions
            }
        }
        return result
    }
}
