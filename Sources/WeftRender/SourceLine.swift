// One line of source, made safe and short enough to show: secrets masked, control characters visible, carets in place.

import WeftDiagnostics

/// How a scalar is shown, and how many columns of a terminal it takes.
struct DisplayCell {
    var text: String
    var width: Int

    init(text: String, width: Int) {
        self.text = text
        self.width = width
    }

    init(_ scalar: Unicode.Scalar) {
        let value = scalar.value
        switch value {
        case 0x20..<0x7F:
            self.init(text: String(scalar), width: 1)
        case 0..<0x20:
            self.init(text: Unicode.Scalar(0x2400 + value).map(String.init) ?? "?", width: 1)
        case 0x7F:
            self.init(text: "\u{2421}", width: 1)
        default:
            if !scalar.isPrintable {
                let text = "<U+\(String(value, radix: 16, uppercase: true))>"
                self.init(text: text, width: text.utf8.count)
                return
            }
            switch scalar.properties.generalCategory {
            case .nonspacingMark, .enclosingMark: self.init(text: String(scalar), width: 0)
            default: self.init(text: String(scalar), width: Self.isWide(value) ? 2 : 1)
            }
        }
    }

    /// East Asian wide characters and emoji (the blocks of Unicode's EastAsianWidth that are W or F).
    private static func isWide(_ value: UInt32) -> Bool {
        switch value {
        case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x33FF, 0x3400...0x4DBF, 0x4E00...0xA4CF, 0xAC00...0xD7A3,
            0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1F64F, 0x1F680...0x1F6FF,
            0x1F900...0x1FAFF, 0x20000...0x3FFFD:
            true
        default: false
        }
    }
}

/// A line, scalar by scalar, with the part that a message is about. Of a line that is megabytes long, only what lies
/// around that part is looked at.
struct SourceLine {
    private var cells: [DisplayCell]
    /// The part, as indices of `cells`.
    private let start: Int
    private let end: Int
    private let isCutBefore: Bool
    private let isCutAfter: Bool

    /// Columns shown at most.
    private static let windowWidth = 100
    /// Columns shown before the caret in a line that is cut.
    private static let context = 40
    /// Scalars looked at before the part and from its beginning on: enough to find the name that a secret stands under.
    private static let reach = 2048

    /// - Parameters:
    ///   - previous: The line before it: a secret's name may end it.
    ///   - secrets: Columns from 0 that are masked.
    ///   - isHidden: Asked whether a key that stands under `publicKey` is masked all the same.
    init(
        _ bytes: ArraySlice<UInt8>, previous: ArraySlice<UInt8>, secrets: [Range<Int>], place: SourceRange,
        isHidden: (String) -> Bool
    ) {
        let column = Int(place.start.column) - 1
        let origin = max(0, column - Self.reach)
        let (slice, isCutAfter) = Self.scalars(origin..<column + Self.reach, of: bytes)
        let scalars = Array(String(decoding: slice, as: UTF8.self).unicodeScalars)
        isCutBefore = origin > 0
        self.isCutAfter = isCutAfter
        cells = scalars.map { DisplayCell($0) }
        start = min(column - origin, cells.count)
        let isOneLine = place.end.line == place.start.line
        end = isOneLine ? max(start, min(Int(place.end.column) - 1 - origin, cells.count)) : cells.count
        for range in secrets {
            let shifted = (max(range.lowerBound, origin) - origin)..<(max(range.upperBound, origin) - origin)
            mask(shifted.clamped(to: 0..<cells.count))
        }
        for range in Self.namedSecrets(Array(slice), scalars) { mask(range.clamped(to: 0..<cells.count)) }
        for key in Self.keys(scalars) where !key.isPublic || isHidden(key.text) { maskRest(key.range) }
        if Self.endsWithSecretName(previous) { mask(0..<cells.count) }
    }

    /// The bytes of some scalars of a line, and whether more follow.
    private static func scalars(_ range: Range<Int>, of bytes: ArraySlice<UInt8>) -> (ArraySlice<UInt8>, Bool) {
        var count = 0
        var first = bytes.endIndex
        for index in bytes.indices where bytes[index] & 0xC0 != 0x80 {
            if count == range.lowerBound { first = index }
            if count == range.upperBound { return (bytes[first..<index], true) }
            count += 1
        }
        return (bytes[first...], false)
    }

    private mutating func mask(_ range: Range<Int>) {
        for (offset, index) in range.enumerated() {
            cells[index] = offset == 0 ? DisplayCell(text: "(hidden)", width: 8) : DisplayCell(text: "", width: 0)
        }
    }

    /// The same for a range of which some may be masked already: the word is not said twice.
    private mutating func maskRest(_ range: Range<Int>) {
        guard cells[range].contains(where: { $0.text.isEmpty }) else { return mask(range) }
        for index in range where cells[index].text != "(hidden)" { cells[index] = DisplayCell(text: "", width: 0) }
    }

    private static let secretNames: [[UInt8]] = [
        "privatekey", "private_key", "private-key", "presharedkey", "preshared_key", "preshared-key", "psk",
    ].map { Array($0.utf8) }

    /// What follows the name of a secret on its line. A file that could not be parsed has no places to go by, and it may
    /// well be one of wg-quick's.
    private static func namedSecrets(_ bytes: [UInt8], _ scalars: [Unicode.Scalar]) -> [Range<Int>] {
        // Most lines hold no such name: the bytes tell that quickest.
        guard containsName(bytes) else { return [] }
        let folded = scalars.map { $0.isASCII ? lowercase(UInt8($0.value)) : 0 }
        var found: [Range<Int>] = []
        for name in secretNames where folded.count > name.count {
            for start in 0...folded.count - name.count where folded[start..<start + name.count].elementsEqual(name) {
                var index = start + name.count
                while index < folded.count, isBlankOrQuote(folded[index]) { index += 1 }
                guard index < folded.count, isSeparator(folded[index]) else { continue }
                index += 1
                while index < folded.count, folded[index] == UInt8(ascii: " ") { index += 1 }
                let end = folded[index...].firstIndex { $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "}") }
                if index < end ?? folded.count { found.append(index..<(end ?? folded.count)) }
            }
        }
        return found
    }

    private struct Key {
        var range: Range<Int>
        /// Without what ends base64.
        var text: String
        /// Whether it stands under `publicKey`.
        var isPublic: Bool
    }

    /// What has the shape of a key. What does not stand under `publicKey` may be a secret: `privateKey` without its colon,
    /// a key alone on a line, one in the wrong field. A place that another part of the house has named is not needed for
    /// these.
    private static func keys(_ scalars: [Unicode.Scalar]) -> [Key] {
        keyShapedRanges(scalars.map(\.value)).map { range in
            // A zero between the characters is UTF-16.
            let before = scalars[..<range.lowerBound].suffix(80).compactMap { scalar -> UInt8? in
                scalar.isASCII && scalar.value != 0 ? lowercase(UInt8(scalar.value)) : nil
            }
            var text = String.UnicodeScalarView()
            text.append(contentsOf: scalars[range].filter { $0 != "=" && $0.value != 0 })
            guard let last = before.lastIndex(where: { !isBlankOrQuote($0) && !isSeparator($0) }) else {
                return Key(range: range, text: String(text), isPublic: false)
            }
            let isPublic = last + 1 < before.count && before[...last].suffix(publicName.count).elementsEqual(publicName)
            return Key(range: range, text: String(text), isPublic: isPublic)
        }
    }

    /// The texts of keys on a line that do not stand under `publicKey`.
    static func strayKeys(in line: ArraySlice<UInt8>) -> [String] {
        keys(Array(String(decoding: line, as: UTF8.self).unicodeScalars)).filter { !$0.isPublic }.map(\.text)
    }

    /// The texts of keys in some columns of a line, from 0.
    static func keys(in line: ArraySlice<UInt8>, columns: Range<Int>) -> [String] {
        let scalars = Array(String(decoding: line, as: UTF8.self).unicodeScalars)
        return keys(Array(scalars[columns.clamped(to: scalars.indices)])).map(\.text)
    }

    private static let publicName: [UInt8] = Array("publickey".utf8)

    /// Whether nothing follows a secret's name on a line but what announces a value: that is on the next line then.
    private static func endsWithSecretName(_ bytes: ArraySlice<UInt8>) -> Bool {
        let tail = bytes.suffix(80).map(lowercase)
        guard containsName(tail) else { return false }
        let announcing: [UInt8] = Array(" :=|>-+?\"'\r".utf8)
        guard let last = tail.lastIndex(where: { !announcing.contains($0) }), last + 1 < tail.count else {
            return false
        }
        return secretNames.contains { tail[...last].suffix($0.count).elementsEqual($0) }
            && tail[(last + 1)...].contains(where: isSeparator)
    }

    private static func containsName(_ bytes: [UInt8]) -> Bool {
        for index in bytes.indices {
            switch lowercase(bytes[index]) {
            case UInt8(ascii: "p"):
                let rest = bytes[index...].prefix(14).map(lowercase)
                if secretNames.contains(where: { rest.starts(with: $0) }) { return true }
            default: continue
            }
        }
        return false
    }

    private static func lowercase(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
    }

    private static func isBlankOrQuote(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'")
    }

    private static func isSeparator(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: ":") || byte == UInt8(ascii: "=")
    }

    /// The text to show, the columns before the caret, and the width of what it points at.
    func window() -> (text: String, before: Int, width: Int) {
        var first = 0
        var last = cells.count
        let total = cells.reduce(0) { $0 + $1.width }
        if total > Self.windowWidth {
            // From a little before the caret, as far as fits.
            var width = 0
            first = start
            while first > 0, width + cells[first - 1].width <= Self.context {
                first -= 1
                width += cells[first].width
            }
            last = start
            while last < cells.count, width + cells[last].width <= Self.windowWidth {
                width += cells[last].width
                last += 1
            }
        }
        let isCut = first > 0 || isCutBefore
        var text = isCut ? "…" : ""
        for cell in cells[first..<last] { text += cell.text }
        if last < cells.count || isCutAfter { text += "…" }
        let before = cells[first..<start].reduce(isCut ? 1 : 0) { $0 + $1.width }
        let shownEnd = max(start, min(end, last))
        let width = cells[start..<shownEnd].reduce(0) { $0 + $1.width }
        return (text, before, width)
    }
}
