// What a scalar without quotes means to the YAML readers of the world, where they differ from what people mean.

/// What YAML 1.1 or 1.2 readers take a plain scalar for. A topology never guesses: where text was wanted, all but `text`
/// needs quotes; where a number was wanted, only `decimal` is one.
package enum PlainMeaning: Hashable, Sendable {
    case text
    case null
    /// `true`, `yes`, `on`, `y` and their spellings, and the opposites.
    case boolean(Bool)
    /// Digits, no sign, no leading zero.
    case decimal
    /// `010`: eight or ten, by reader.
    case leadingZero
    /// `0xca6c`, `0o17`, `0b11`.
    case otherBase
    /// `1_000`.
    case underscored
    /// `1e3`, `1.5`, `.inf`, `-3`, `+3`.
    case otherNumber
    /// `12:30:45`, `1:30`: base 60 in YAML 1.1. The value is in the last unit.
    case sexagesimal(UInt64)
    /// `2027-01-01`, `2027-01-01T00:00:00Z`.
    case timestamp

    package init(_ text: Span<UInt8>) {
        guard text.count > 0 else {
            self = .null
            return
        }
        switch text[0] {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."):
            self = Self.number(text)
        case UInt8(ascii: "~"):
            self = text.count == 1 ? .null : .text
        default:
            self = text.count <= 5 ? Self.word(text) : .text
        }
    }

    private static func word(_ text: Span<UInt8>) -> Self {
        var word: UInt64 = 0
        for index in text.indices { word = word << 8 | UInt64(text[index] | 0x20) }
        func packed(_ text: StaticString) -> UInt64 {
            var word: UInt64 = 0
            for character in text.description.utf8 { word = word << 8 | UInt64(character) }
            return word
        }
        switch word {
        case packed("true"), packed("yes"), packed("on"), packed("y"): return .boolean(true)
        case packed("false"), packed("no"), packed("off"), packed("n"): return .boolean(false)
        case packed("null"): return .null
        default: return .text
        }
    }

    private static func number(_ text: Span<UInt8>) -> Self {
        let zero = UInt8(ascii: "0")
        var digits = 0
        var colons = 0
        var dots = 0
        var underscores = 0
        var dashes = 0
        var exponents = 0
        var others = 0
        for index in text.indices {
            switch text[index] {
            case zero...UInt8(ascii: "9"): digits += 1
            case UInt8(ascii: ":"): colons += 1
            case UInt8(ascii: "."): dots += 1
            case UInt8(ascii: "_"): underscores += 1
            case UInt8(ascii: "-"), UInt8(ascii: "+"): if index > 0 { dashes += 1 }
            case UInt8(ascii: "e"), UInt8(ascii: "E"): exponents += 1
            default: others += 1
            }
        }
        let isSigned = text[0] == UInt8(ascii: "-") || text[0] == UInt8(ascii: "+")
        let bare = digits == text.count
        if bare { return text.count > 1 && text[0] == zero ? .leadingZero : .decimal }
        if text.count > 2, text[0] == zero, let digit = radixDigit(text[1]) {
            for index in 2..<text.count where !digit(text[index]) { return .text }
            return .otherBase
        }
        if isDate(text) { return .timestamp }
        if others > 0 { return isInfinity(text) ? .otherNumber : .text }
        if digits == 0 { return .text }
        if colons > 0 {
            guard dots + underscores + dashes + exponents == 0, !isSigned, let value = sexagesimal(text) else {
                return .text
            }
            return .sexagesimal(value)
        }
        if exponents > 1 || dots > 1 || (exponents == 0 && dashes > 0) || dashes > 1 { return .text }
        if exponents == 1, text[text.count - 1] > UInt8(ascii: "9") { return .text }
        if underscores > 0, exponents == 0, dots == 0 { return .underscored }
        return .otherNumber
    }

    private static func radixDigit(_ letter: UInt8) -> ((UInt8) -> Bool)? {
        switch letter {
        case UInt8(ascii: "x"), UInt8(ascii: "X"):
            {
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0 | 0x20) || $0 == UInt8(ascii: "_")
            }
        case UInt8(ascii: "o"), UInt8(ascii: "O"): { (UInt8(ascii: "0")...UInt8(ascii: "7")).contains($0) }
        case UInt8(ascii: "b"), UInt8(ascii: "B"): { (UInt8(ascii: "0")...UInt8(ascii: "1")).contains($0) }
        default: nil
        }
    }

    private static func isInfinity(_ text: Span<UInt8>) -> Bool {
        let start = text[0] == UInt8(ascii: "-") || text[0] == UInt8(ascii: "+") ? 1 : 0
        guard text.count == start + 4, text[start] == UInt8(ascii: ".") else { return false }
        var word: UInt32 = 0
        for index in start + 1..<start + 4 { word = word << 8 | UInt32(text[index] | 0x20) }
        return word == 0x69_6E_66 || word == 0x6E_61_6E
    }

    /// `2027-01-01`, and whatever follows it after `T` or a blank.
    private static func isDate(_ text: Span<UInt8>) -> Bool {
        guard text.count >= 8 else { return false }
        for index in 0..<4 where !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(text[index]) { return false }
        guard text[4] == UInt8(ascii: "-") else { return false }
        var dashes = 0
        var index = 4
        while index < text.count {
            let byte = text[index]
            if byte == UInt8(ascii: "-") {
                dashes += 1
            } else if byte == UInt8(ascii: "T") || byte == UInt8(ascii: "t") || byte == UInt8(ascii: " ") {
                return dashes == 2
            } else if !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) {
                return false
            }
            index += 1
        }
        return dashes == 2
    }

    private static func sexagesimal(_ text: Span<UInt8>) -> UInt64? {
        var total: UInt64 = 0
        var part: UInt64 = 0
        var width = 0
        var parts = 0
        for index in 0...text.count {
            if index == text.count || text[index] == UInt8(ascii: ":") {
                guard width > 0, width < 10, parts == 0 || (part < 60 && width <= 2), total < 1 << 40 else {
                    return nil
                }
                total = total * 60 + part
                part = 0
                width = 0
                parts += 1
            } else {
                part = part &* 10 &+ UInt64(text[index] &- UInt8(ascii: "0"))
                width += 1
            }
        }
        return parts > 1 ? total : nil
    }
}
