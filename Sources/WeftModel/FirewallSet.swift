// Sets of addresses and maps of flows in nf_tables, with their elements and keys.
// Public where it must be inlined in other modules: package declarations are not, in Swift 6.3. Documented as if package.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// A set of addresses, or a map from flows to counters. Key: its name.
public struct FirewallSet: ConfiguredObject, Hashable {
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

    /// A range of keys: field by field from `lower` to `upper`, both within. Key: both bounds. It needs no memory of its
    /// own: ten thousand of them are read, compared and dropped in each pass.
    @frozen
    public struct Element: ConfiguredObject, Hashable {
        @frozen
        public struct Key: Hashable, Comparable, Sendable {
            public var lower: FirewallKey
            public var upper: FirewallKey

            @inlinable
            public init(lower: FirewallKey, upper: FirewallKey) {
                self.lower = lower
                self.upper = upper
            }

            @inlinable
            public static func == (left: Self, right: Self) -> Bool {
                left.lower == right.lower && left.upper == right.upper
            }

            @inlinable
            public static func < (left: Self, right: Self) -> Bool {
                left.lower == right.lower ? left.upper < right.upper : left.lower < right.lower
            }
        }

        public var key: Key
        /// See `counter`.
        @usableFromInline var counterName: ShortText

        @inlinable
        public init(_ lower: FirewallKey, _ upper: FirewallKey, counterName: ShortText) {
            key = Key(lower: lower, upper: upper)
            self.counterName = counterName
        }

        package init(_ lower: FirewallKey, _ upper: FirewallKey, counter: String = "") {
            self.init(lower, upper, counterName: Self.name(counter))
        }

        @inlinable public var lower: FirewallKey { key.lower }
        @inlinable public var upper: FirewallKey { key.upper }

        /// The counter that counts what matches; empty in a set without counters. At most 15 bytes.
        package var counter: String {
            get { counterName.description }
            set { counterName = Self.name(newValue) }
        }

        private static func name(_ counter: String) -> ShortText {
            guard let name = ShortText(counter) else { preconditionFailure("a counter's name is too long") }
            return name
        }

        @inlinable
        public static func == (left: Self, right: Self) -> Bool {
            left.key == right.key && left.counterName == right.counterName
        }

        @inlinable public func isSatisfied(by live: Element) -> Bool { counterName == live.counterName }
    }

    package init(_ name: String, _ fields: [Field], hasCounters: Bool = false, elements: [Element] = []) {
        self.name = name
        self.fields = fields
        self.hasCounters = hasCounters
        self.elements = elements
    }

    public var key: String { name }
    public func isSatisfied(by live: FirewallSet) -> Bool { self == live }

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
