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

/// A set of addresses, or a map from flows to counters. Key: its name.
package struct FirewallSet: ConfiguredObject, Hashable {
    /// What a key is made of, one after another. Each field takes a multiple of four bytes.
    package enum Field: Hashable, Sendable, CaseIterable {
        case address4, address6
        /// `inet_proto`: one byte.
        case transport
        /// `inet_service`: two bytes, in network order.
        case port

        /// In bytes, without padding.
        package var size: Int {
            switch self {
            case .address4: 4
            case .address6: 16
            case .transport: 1
            case .port: 2
            }
        }

        /// In bytes, as a key holds it.
        package var paddedSize: Int { (size + 3) & ~3 }
    }

    package var name: String
    package var fields: [Field]
    /// Whether each element names a counter: the set is a map to objects then.
    package var hasCounters: Bool
    /// Ascending; no two overlap. All sets hold ranges (flag `interval`).
    package var elements: [Element]

    /// A range of keys: field by field from `lower` to `upper`, both within. Key: both bounds.
    package struct Element: ConfiguredObject, Hashable {
        package struct Key: Hashable, Comparable, Sendable {
            package var lower: FirewallKey
            package var upper: FirewallKey

            package static func < (left: Self, right: Self) -> Bool {
                left.lower == right.lower ? left.upper < right.upper : left.lower < right.lower
            }
        }

        package var key: Key
        /// The counter that counts what matches; empty in a set without counters. At most 15 bytes, so that ten thousand
        /// elements need no memory of their own.
        package var counter: String

        package init(_ lower: FirewallKey, _ upper: FirewallKey, counter: String = "") {
            key = Key(lower: lower, upper: upper)
            self.counter = counter
        }

        package var lower: FirewallKey { key.lower }
        package var upper: FirewallKey { key.upper }

        package func isSatisfied(by live: Element) -> Bool { counter == live.counter }
    }

    package init(_ name: String, _ fields: [Field], hasCounters: Bool = false, elements: [Element] = []) {
        self.name = name
        self.fields = fields
        self.hasCounters = hasCounters
        self.elements = elements
    }

    package var key: String { name }
    package func isSatisfied(by live: FirewallSet) -> Bool { self == live }

    /// Whether both differ in no more than their elements, which can be changed where they are.
    package func hasShape(of other: FirewallSet) -> Bool {
        fields == other.fields && hasCounters == other.hasCounters
    }
}

/// A set's key as the kernel has it: up to 40 bytes, in network order, each field padded to four bytes. Compares as the
/// bytes do. Public where it must be inlined: a pass reads and compares ten thousand of them.
@frozen
public struct FirewallKey: Hashable, Comparable, Sendable {
    /// Big-endian words: the first byte is the highest of `word0`.
    public var word0: UInt64 = 0
    /// The next eight bytes, and so on.
    public var word1: UInt64 = 0
    /// See `word1`.
    public var word2: UInt64 = 0
    /// See `word1`.
    public var word3: UInt64 = 0
    /// See `word1`.
    public var word4: UInt64 = 0
    /// In bytes; a multiple of four.
    public var count = 0

    /// No bytes yet.
    @inlinable public init() {}

    /// Five words, of which the first `count` bytes are the key; the others are zero.
    @inlinable
    public init(_ word0: UInt64, _ word1: UInt64, _ word2: UInt64, _ word3: UInt64, _ word4: UInt64, count: Int) {
        self.word0 = word0
        self.word1 = word1
        self.word2 = word2
        self.word3 = word3
        self.word4 = word4
        self.count = count
    }

    /// Puts four bytes behind the others.
    package mutating func append(_ value: UInt32) {
        let bits = UInt64(value) << (count % 8 == 0 ? 32 : 0)
        switch count / 8 {
        case 0: word0 |= bits
        case 1: word1 |= bits
        case 2: word2 |= bits
        case 3: word3 |= bits
        case 4: word4 |= bits
        default: preconditionFailure("a key has at most 40 bytes")
        }
        count += 4
    }

    /// The four bytes that begin at `offset`, which is a multiple of four.
    package func value(at offset: Int) -> UInt32 {
        let word =
            switch offset / 8 {
            case 0: word0
            case 1: word1
            case 2: word2
            case 3: word3
            default: word4
            }
        return UInt32(truncatingIfNeeded: offset % 8 == 0 ? word >> 32 : word)
    }

    package mutating func append(_ address: IPAddress) {
        switch address.family {
        case .v4: append(address.v4Bits)
        case .v6:
            append(UInt32(truncatingIfNeeded: address.high >> 32))
            append(UInt32(truncatingIfNeeded: address.high))
            append(UInt32(truncatingIfNeeded: address.low >> 32))
            append(UInt32(truncatingIfNeeded: address.low))
        }
    }

    /// A protocol number: its byte, then padding.
    package mutating func append(transport: UInt8) { append(UInt32(transport) << 24) }

    /// A port: two bytes, then padding.
    package mutating func append(port: UInt16) { append(UInt32(port) << 16) }

    /// By length last: keys of one set have one length.
    @inlinable
    public static func == (left: Self, right: Self) -> Bool {
        left.word0 == right.word0 && left.word1 == right.word1 && left.word2 == right.word2
            && left.word3 == right.word3 && left.word4 == right.word4 && left.count == right.count
    }

    /// As the bytes compare.
    @inlinable
    public static func < (left: Self, right: Self) -> Bool {
        if left.word0 != right.word0 { return left.word0 < right.word0 }
        if left.word1 != right.word1 { return left.word1 < right.word1 }
        if left.word2 != right.word2 { return left.word2 < right.word2 }
        if left.word3 != right.word3 { return left.word3 < right.word3 }
        return left.word4 < right.word4
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
