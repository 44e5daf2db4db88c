// A network: an address and a length, with no bit set after the length.
// Public where it must be inlined in other modules: package declarations are not, in Swift 6.3. Documented as if package.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// An IP network in canonical form: the bits after `length` are zero.
@frozen
public struct IPPrefix: Hashable, Sendable {
    /// The network's first address.
    public let address: IPAddress
    /// The prefix length in bits: 0…32 or 0…128.
    public let length: UInt8

    /// Clears the host bits of `address`. `length` is clamped to the family's width.
    @inlinable
    public init(_ address: IPAddress, length: Int) {
        self.address = address.masked(to: length)
        self.length = UInt8(max(0, min(address.family.bitWidth, length)))
    }

    /// The /32 or /128 of one address.
    @inlinable
    public init(host address: IPAddress) {
        self.address = address
        length = UInt8(address.family.bitWidth)
    }

    /// Trusts that `address` has no host bits: for what the kernel has masked already.
    @inlinable
    public init(canonical address: IPAddress, length: UInt8) {
        self.address = address
        self.length = length
    }

    @inlinable public var family: IPAddress.Family { address.family }
    @inlinable public var isHost: Bool { Int(length) == family.bitWidth }
    /// Whether this is 0.0.0.0/0 or ::/0.
    @inlinable public var isDefault: Bool { length == 0 }

    @inlinable
    public static func == (left: Self, right: Self) -> Bool {
        left.address == right.address && left.length == right.length
    }

    @inlinable
    public func hash(into hasher: inout Hasher) {
        hasher.combine(address)
        hasher.combine(length)
    }

    public func contains(_ other: IPAddress) -> Bool {
        other.family == family && other.masked(to: Int(length)) == address
    }

    public func contains(_ other: IPPrefix) -> Bool {
        other.length >= length && contains(other.address)
    }

    public func overlaps(_ other: IPPrefix) -> Bool {
        contains(other) || other.contains(self)
    }
}

extension IPPrefix: Comparable {
    /// By family, address, then length, shortest first.
    @inlinable
    public static func < (left: Self, right: Self) -> Bool {
        left.address == right.address ? left.length < right.length : left.address < right.address
    }
}

extension IPPrefix: CustomStringConvertible {
    /// Always with its length: `10.0.0.1/32`.
    public var description: String { "\(address)/\(length)" }
}

extension IPPrefix {
    /// An address with an optional `/length`, as it was written: `address` may carry host bits.
    public struct Written: Hashable, Sendable {
        public var address: IPAddress
        /// Nil where no length was written.
        public var length: Int?

        public var prefix: IPPrefix { IPPrefix(address, length: length ?? address.family.bitWidth) }
        public var hasHostBits: Bool { prefix.address != address }
    }

    /// Parses `address` or `address/length` (decimal, no sign, no leading zero); host bits are kept for the caller to judge.
    public static func parse(_ text: Span<UInt8>) -> Written? {
        var slash: Int?
        for index in text.indices where text[index] == UInt8(ascii: "/") {
            slash = index
            break
        }
        guard let slash else { return IPAddress(text).map { Written(address: $0, length: nil) } }
        guard let address = IPAddress(text.extracting(first: slash)) else { return nil }
        let digits = text.extracting(droppingFirst: slash + 1)
        guard (1...3).contains(digits.count), digits.count == 1 || digits[0] != UInt8(ascii: "0") else { return nil }
        var length = 0
        for index in digits.indices {
            guard let digit = decimalDigit(digits[index]) else { return nil }
            length = length * 10 + Int(digit)
        }
        return length <= address.family.bitWidth ? Written(address: address, length: length) : nil
    }

    /// Parses a network; nil where host bits are set or the text is not one.
    public init?(_ text: some StringProtocol) {
        let string = String(text)
        guard let written = Self.parse(string.utf8Span.span), !written.hasHostBits else { return nil }
        self = written.prefix
    }
}

/// A sorted list of distinct prefixes that shares its storage with its neighbours, so that ten thousand peers
/// cost one allocation, not ten thousand.
@frozen
public struct PrefixList: Sendable, RandomAccessCollection {
    @usableFromInline let storage: ArraySlice<IPPrefix>

    /// Sorts, and drops what stands twice.
    public init(_ prefixes: some Sequence<IPPrefix>) {
        var sorted = Array(prefixes)
        if !Self.isAscending(sorted[...]) {
            sorted.sort()
            var last: IPPrefix?
            sorted.removeAll { prefix in
                defer { last = prefix }
                return prefix == last
            }
        }
        storage = sorted[...]
    }

    /// Takes a slice that the caller has made strictly ascending.
    @inlinable
    public init(ascending storage: ArraySlice<IPPrefix>) {
        self.storage = storage
    }

    @inlinable
    public static func isAscending(_ prefixes: ArraySlice<IPPrefix>) -> Bool {
        var index = prefixes.startIndex + 1
        while index < prefixes.endIndex {
            if !(prefixes[index - 1] < prefixes[index]) { return false }
            index += 1
        }
        return true
    }

    @inlinable public var startIndex: Int { storage.startIndex }
    @inlinable public var endIndex: Int { storage.endIndex }
    @inlinable public subscript(position: Int) -> IPPrefix { storage[position] }

    /// What stands in `self` and not in `other`, ascending.
    public func subtracting(_ other: PrefixList) -> [IPPrefix] {
        var result: [IPPrefix] = []
        var index = other.startIndex
        for prefix in self {
            while index < other.endIndex, other[index] < prefix { index += 1 }
            if index == other.endIndex || other[index] != prefix { result.append(prefix) }
        }
        return result
    }
}

extension PrefixList: Hashable {
    @inlinable @inline(__always)
    public static func == (left: Self, right: Self) -> Bool {
        let left = left.storage.span
        let right = right.storage.span
        if left.count != right.count { return false }
        for index in left.indices where left[index] != right[index] { return false }
        return true
    }

    /// Whether two peers have the same allowed IPs, compared where they lie: a copy of a list counts references.
    @inlinable @inline(__always)
    static func agree(_ left: Span<Peer>, at leftIndex: Int, _ right: Span<Peer>, at rightIndex: Int) -> Bool {
        let count = left[leftIndex].allowedIPs.storage.count
        if count != right[rightIndex].allowedIPs.storage.count { return false }
        let start = left[leftIndex].allowedIPs.storage.startIndex
        let rightStart = right[rightIndex].allowedIPs.storage.startIndex
        for offset in 0..<count {
            let prefix = left[leftIndex].allowedIPs.storage[start &+ offset]
            if prefix != right[rightIndex].allowedIPs.storage[rightStart &+ offset] { return false }
        }
        return true
    }

    @inlinable
    public func hash(into hasher: inout Hasher) {
        for prefix in self { hasher.combine(prefix) }
    }
}

extension PrefixList: ExpressibleByArrayLiteral, CustomStringConvertible {
    public init(arrayLiteral elements: IPPrefix...) { self.init(elements) }
    public var description: String { map(\.description).joined(separator: ", ") }
}
