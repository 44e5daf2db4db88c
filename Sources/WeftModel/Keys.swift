// Public keys, and the tags that stand for secrets: no secret byte is ever in the model.
// Public where it must be inlined in other modules: package declarations are not, in Swift 6.3. Documented as if package.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// A Curve25519 public key: 32 bytes, kept as four big-endian words so that order is the order of the bytes.
@frozen
public struct PublicKey: Hashable, Sendable {
    public let word0: UInt64
    public let word1: UInt64
    public let word2: UInt64
    public let word3: UInt64

    /// Takes the words as loaded big-endian from the 32 bytes.
    @inlinable
    public init(bigEndianWords word0: UInt64, _ word1: UInt64, _ word2: UInt64, _ word3: UInt64) {
        self.word0 = word0
        self.word1 = word1
        self.word2 = word2
        self.word3 = word3
    }

    /// Takes 32 bytes; nil for any other count.
    public init?(bytes: Span<UInt8>) {
        guard bytes.count == 32 else { return nil }
        func word(_ index: Int) -> UInt64 {
            var value: UInt64 = 0
            for offset in 0..<8 { value = value << 8 | UInt64(bytes[index * 8 + offset]) }
            return value
        }
        self.init(bigEndianWords: word(0), word(1), word(2), word(3))
    }

    @inlinable
    public static func == (left: Self, right: Self) -> Bool {
        left.word0 == right.word0 && left.word1 == right.word1 && left.word2 == right.word2
            && left.word3 == right.word3
    }

    /// Keys are uniformly random where they are honest, and the hasher is seeded: two words tell them apart.
    @inlinable
    public func hash(into hasher: inout Hasher) {
        hasher.combine(word0)
        hasher.combine(word2)
    }

    public var isZero: Bool { word0 | word1 | word2 | word3 == 0 }

    /// The 32 bytes.
    public var bytes: [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(32)
        for word in [word0, word1, word2, word3] {
            for index: UInt64 in 0..<8 { result.append(UInt8(truncatingIfNeeded: word >> (56 - index * 8))) }
        }
        return result
    }

    /// The first eight characters of the base64 form, as people compare keys by eye.
    public var short: String { String(base64.prefix(8)) + "…" }
}

extension PublicKey: Comparable {
    @inlinable
    public static func < (left: Self, right: Self) -> Bool {
        if left.word0 != right.word0 { return left.word0 < right.word0 }
        if left.word1 != right.word1 { return left.word1 < right.word1 }
        if left.word2 != right.word2 { return left.word2 < right.word2 }
        return left.word3 < right.word3
    }
}

/// Why a text is not a key.
public enum KeyTextError: Error, Hashable, Sendable {
    /// The text has another length than 44 characters; the count is given.
    case wrongLength(Int)
    /// A character outside the base64 alphabet; its index is given.
    case badCharacter(at: Int)
    /// 32 bytes, but written so that another text means the same: the unused last bits are not zero.
    case notCanonical
}

extension PublicKey {
    /// Parses 44 characters of canonical base64 (RFC 4648, with padding), as `wg` prints keys.
    public init(base64 text: Span<UInt8>) throws(KeyTextError) {
        guard text.count == 44 else { throw .wrongLength(text.count) }
        // Ten characters fill 60 bits; what does not fit into a word any more goes on into the next.
        var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        var bits: UInt64 = 0
        var count: UInt64 = 0
        var word = 0
        let values = base64Values
        for index in 0..<43 {
            let value = UInt64(values[Int(text[index])])
            guard value < 64 else { throw .badCharacter(at: index) }
            // The last character of 43 carries four bits of the key and two that must be zero.
            if index == 42, value & 3 != 0 { throw .notCanonical }
            let width: UInt64 = index == 42 ? 4 : 6
            let field = index == 42 ? value >> 2 : value
            if count + width < 64 {
                bits = bits << width | field
                count += width
                continue
            }
            let rest = count + width - 64
            let full = bits << (width - rest) | field >> rest
            switch word {
            case 0: words.0 = full
            case 1: words.1 = full
            case 2: words.2 = full
            default: words.3 = full
            }
            word += 1
            bits = field & (1 << rest - 1)
            count = rest
        }
        guard text[43] == UInt8(ascii: "=") else { throw .badCharacter(at: 43) }
        self.init(bigEndianWords: words.0, words.1, words.2, words.3)
    }

    /// Parses as `init(base64:)`, or is nil.
    public init?(_ text: some StringProtocol) {
        let string = String(text)
        do throws(KeyTextError) { try self.init(base64: string.utf8Span.span) } catch { return nil }
    }

    /// The 44 characters that `wg` prints.
    public var base64: String {
        let bytes = self.bytes
        return String(unsafeUninitializedCapacity: 44) { output in
            for group in 0..<11 {
                let first = UInt32(bytes[group * 3]) << 16
                let second = UInt32(bytes[group * 3 + 1]) << 8
                let third = group == 10 ? 0 : UInt32(bytes[group * 3 + 2])
                let bits = first | second | third
                for position in 0..<4 {
                    output[group * 4 + position] = base64Character(UInt8(bits >> (18 - UInt32(position) * 6) & 63))
                }
            }
            output[43] = UInt8(ascii: "=")
            return 44
        }
    }
}

extension PublicKey: CustomStringConvertible {
    public var description: String { base64 }
}

/// What each byte is worth in base64; 255 for all outside of its alphabet.
private let base64Values: [UInt8] = {
    var values = [UInt8](repeating: 255, count: 256)
    for value: UInt8 in 0..<64 { values[Int(base64Character(value))] = value }
    return values
}()

private func base64Character(_ value: UInt8) -> UInt8 {
    switch value {
    case 0..<26: value + UInt8(ascii: "A")
    case 26..<52: value - 26 + UInt8(ascii: "a")
    case 52..<62: value - 52 + UInt8(ascii: "0")
    case 62: UInt8(ascii: "+")
    default: UInt8(ascii: "/")
    }
}

/// What stands for a private or preshared key wherever one could be printed or compared: a keyed hash of it under a
/// random key of this process. Equal tags mean equal secrets, within one process; nothing else can be learnt from one.
@frozen
public struct SecretTag: Hashable, Sendable, CustomStringConvertible {
    public let word0: UInt64
    public let word1: UInt64

    @inlinable
    public init(_ word0: UInt64, _ word1: UInt64) {
        self.word0 = word0
        self.word1 = word1
    }

    @inlinable
    public static func == (left: Self, right: Self) -> Bool {
        left.word0 == right.word0 && left.word1 == right.word1
    }

    public var description: String { "(hidden)" }
}
