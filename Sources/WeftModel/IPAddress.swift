// IPv4 and IPv6 addresses as plain values: parsed strictly, printed canonically.
// Public where it must be inlined in other modules: package declarations are not, in Swift 6.3. Documented as if package.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// An IPv4 or IPv6 address without a zone. The bits are in host order; an IPv4 address is in the low 32 bits of `low`.
@frozen
public struct IPAddress: Hashable, Sendable {
    @frozen
    public enum Family: UInt8, Hashable, Sendable, CaseIterable {
        case v4 = 4
        case v6 = 6

        /// The length of an address of this family, in bits.
        @inlinable public var bitWidth: Int { self == .v4 ? 32 : 128 }
    }

    public let high: UInt64
    public let low: UInt64
    public let family: Family

    @inlinable
    public init(v4 bits: UInt32) {
        high = 0
        low = UInt64(bits)
        family = .v4
    }

    @inlinable
    public init(v6 high: UInt64, _ low: UInt64) {
        self.high = high
        self.low = low
        family = .v6
    }

    /// The IPv4 bits in host order; meaningless for IPv6.
    @inlinable public var v4Bits: UInt32 { UInt32(truncatingIfNeeded: low) }

    @inlinable
    public static func == (left: Self, right: Self) -> Bool {
        left.low == right.low && left.high == right.high && left.family == right.family
    }

    @inlinable
    public func hash(into hasher: inout Hasher) {
        hasher.combine(high)
        hasher.combine(low ^ UInt64(family.rawValue) << 56)
    }

    /// The address with all bits after the first `length` cleared. `length` is clamped to the family's width.
    @inlinable
    public func masked(to length: Int) -> IPAddress {
        switch family {
        case .v4:
            let length = max(0, min(32, length))
            return IPAddress(v4: length == 0 ? 0 : v4Bits & (UInt32.max << UInt32(32 - length)))
        case .v6:
            let length = max(0, min(128, length))
            if length <= 64 {
                return IPAddress(v6: length == 0 ? 0 : high & (UInt64.max << UInt64(64 - length)), 0)
            }
            return IPAddress(v6: high, low & (UInt64.max << UInt64(128 - length)))
        }
    }

    public var isUnspecified: Bool { high == 0 && low == 0 }

    public var isLoopback: Bool {
        family == .v4 ? v4Bits >> 24 == 127 : high == 0 && low == 1
    }

    public var isMulticast: Bool {
        family == .v4 ? v4Bits >> 28 == 0xE : high >> 56 == 0xFF
    }

    /// IPv4 169.254.0.0/16 or IPv6 fe80::/10.
    public var isLinkLocal: Bool {
        family == .v4 ? v4Bits >> 16 == 0xA9FE : high >> 54 == 0x3FA
    }

    /// RFC 1918, RFC 6598 and RFC 4193: what means another host in another network.
    public var isPrivate: Bool {
        guard family == .v4 else { return high >> 57 == 0x7E }
        let bits = v4Bits
        return bits >> 24 == 10 || bits >> 20 == 0xAC1 || bits >> 16 == 0xC0A8 || bits >> 22 == 0x191
    }
}

extension IPAddress: Comparable {
    /// IPv4 before IPv6, then by value: the order in which the kernel lists routes.
    @inlinable
    public static func < (left: Self, right: Self) -> Bool {
        if left.family != right.family { return left.family == .v4 }
        if left.high != right.high { return left.high < right.high }
        return left.low < right.low
    }
}

extension IPAddress {
    /// Parses dotted-quad IPv4 (no leading zeros, four decimal parts) or RFC 4291 IPv6 (no zone, no brackets).
    public init?(_ text: Span<UInt8>) {
        for index in text.indices where text[index] == UInt8(ascii: ":") {
            self.init(parsingV6: text)
            return
        }
        guard let bits = Self.parseV4(text, from: 0, to: text.count) else { return nil }
        self.init(v4: bits)
    }

    /// As `init(_: Span<UInt8>)`.
    public init?(_ text: some StringProtocol) {
        let string = String(text)
        self.init(string.utf8Span.span)
    }

    private static func parseV4(_ text: Span<UInt8>, from start: Int, to end: Int) -> UInt32? {
        var bits: UInt32 = 0
        var parts = 0
        var index = start
        while true {
            var value: UInt32 = 0
            let partStart = index
            while index < end, let digit = decimalDigit(text[index]) {
                value = value * 10 + UInt32(digit)
                index += 1
                if index - partStart > 3 { return nil }
            }
            let width = index - partStart
            if width == 0 || value > 255 || (width > 1 && text[partStart] == UInt8(ascii: "0")) { return nil }
            bits = bits << 8 | value
            parts += 1
            if index == end { return parts == 4 ? bits : nil }
            if parts == 4 || text[index] != UInt8(ascii: ".") { return nil }
            index += 1
        }
    }

    private init?(parsingV6 text: Span<UInt8>) {
        // Groups before the "::" fill from the left, those after it from the right.
        var head: (UInt64, UInt64) = (0, 0)
        var tail: (UInt64, UInt64) = (0, 0)
        var headCount = 0
        var tailCount = 0
        var gap = false
        let colon = UInt8(ascii: ":")
        func shift(_ value: inout (UInt64, UInt64), _ group: UInt64) {
            value = (value.0 << 16 | value.1 >> 48, value.1 << 16 | group)
        }
        var index = 0
        let end = text.count
        if end >= 2, text[0] == colon {
            if text[1] != colon { return nil }
            gap = true
            index = 2
        }
        while index < end {
            if headCount + tailCount >= 8 { return nil }
            let start = index
            var group: UInt64 = 0
            while index < end, let digit = hexDigit(text[index]), index - start < 5 {
                group = group << 4 | UInt64(digit)
                index += 1
            }
            if index < end, text[index] == UInt8(ascii: ".") {
                guard headCount + tailCount <= 6, let bits = Self.parseV4(text, from: start, to: end) else {
                    return nil
                }
                for part in [UInt64(bits >> 16), UInt64(bits & 0xFFFF)] {
                    if gap {
                        shift(&tail, part)
                        tailCount += 1
                    } else {
                        shift(&head, part)
                        headCount += 1
                    }
                }
                index = end
                break
            }
            if index == start || index - start > 4 { return nil }
            if gap {
                shift(&tail, group)
                tailCount += 1
            } else {
                shift(&head, group)
                headCount += 1
            }
            if index == end { break }
            if text[index] != colon { return nil }
            index += 1
            if index == end { return nil }
            if text[index] == colon {
                if gap { return nil }
                gap = true
                index += 1
            }
        }
        let count = headCount + tailCount
        if gap ? count > 7 : count != 8 { return nil }
        for _ in headCount..<8 { shift(&head, 0) }
        self.init(v6: head.0 | tail.0, head.1 | tail.1)
    }
}

extension IPAddress: CustomStringConvertible {
    /// Dotted quad, or RFC 5952.
    public var description: String {
        if family == .v4 {
            return "\(v4Bits >> 24).\(v4Bits >> 16 & 255).\(v4Bits >> 8 & 255).\(v4Bits & 255)"
        }
        let groups = (0..<8).map { index -> UInt16 in
            let half = index < 4 ? high : low
            return UInt16(truncatingIfNeeded: half >> UInt64(48 - (index & 3) * 16))
        }
        if high == 0, low >> 32 == 0xFFFF { return "::ffff:\(IPAddress(v4: UInt32(truncatingIfNeeded: low)))" }
        var best = 0..<0
        var index = 0
        while index < 8 {
            var end = index
            while end < 8, groups[end] == 0 { end += 1 }
            if end - index > max(1, best.count) { best = index..<end }
            index = max(end, index + 1)
        }
        func text(_ part: ArraySlice<UInt16>) -> String {
            part.map { String($0, radix: 16) }.joined(separator: ":")
        }
        if best.isEmpty { return text(groups[...]) }
        return text(groups[..<best.lowerBound]) + "::" + text(groups[best.upperBound...])
    }
}

@inlinable
public func decimalDigit(_ byte: UInt8) -> UInt8? {
    let digit = byte &- UInt8(ascii: "0")
    return digit < 10 ? digit : nil
}

@inlinable
public func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte &- UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte &- UInt8(ascii: "a") &+ 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte &- UInt8(ascii: "A") &+ 10
    default: nil
    }
}
