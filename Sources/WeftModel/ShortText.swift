// Text so short that it needs no memory of its own: thousands of names are copied and compared as two numbers each.
// Public where it must be inlined in other modules: package declarations are not, in Swift 6.3. Documented as if package.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// At most 15 bytes, none of them NUL: nf_tables' names of expressions, and Weft's names of counters.
@frozen
public struct ShortText: Hashable, Sendable {
    /// The first eight bytes, the first one lowest; zeros follow the last one.
    @usableFromInline let word0: UInt64
    /// The other seven.
    @usableFromInline let word1: UInt64

    /// Sixteen bytes, the first one lowest, with zeros behind the text; nil where that takes all of them.
    @inlinable @inline(__always)
    public init?(_ word0: UInt64, _ word1: UInt64) {
        if word1 >> 56 != 0 { return nil }
        self.word0 = word0
        self.word1 = word1
    }

    /// Nil where it is too long, or has a NUL in it.
    public init?(_ text: String) {
        var words: (UInt64, UInt64) = (0, 0)
        for (index, byte) in text.utf8.enumerated() {
            if index == 15 || byte == 0 { return nil }
            Self.put(byte, at: index, into: &words)
        }
        (word0, word1) = words
    }

    /// Appends a byte to what is to become sixteen of them.
    @inlinable @inline(__always)
    public static func put(_ byte: UInt8, at index: Int, into words: inout (UInt64, UInt64)) {
        if index < 8 {
            words.0 |= UInt64(byte) << UInt64(index * 8)
        } else {
            words.1 |= UInt64(byte) << UInt64(index * 8 - 64)
        }
    }

    @inlinable public var isEmpty: Bool { word0 == 0 }

    @inlinable
    public static func == (left: Self, right: Self) -> Bool { left.word0 == right.word0 && left.word1 == right.word1 }
}

extension ShortText: ExpressibleByStringLiteral {
    /// Becomes two constants where it is inlined.
    @inlinable @inline(__always)
    public init(stringLiteral text: StaticString) {
        precondition(text.utf8CodeUnitCount <= 15)
        var words: (UInt64, UInt64) = (0, 0)
        for index in 0..<text.utf8CodeUnitCount { Self.put(text.utf8Start[index], at: index, into: &words) }
        (word0, word1) = words
    }
}

extension ShortText: CustomStringConvertible {
    public var description: String {
        let bytes = (0..<15).map { UInt8(truncatingIfNeeded: ($0 < 8 ? word0 : word1) >> UInt64($0 % 8 * 8)) }
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
}
