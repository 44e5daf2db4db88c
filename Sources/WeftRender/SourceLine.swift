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
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned:
                let text = "<U+\(String(value, radix: 16, uppercase: true))>"
                self.init(text: text, width: text.utf8.count)
            case .nonspacingMark, .enclosingMark:
                self.init(text: String(scalar), width: 0)
            default:
                self.init(text: String(scalar), width: Self.isWide(value) ? 2 : 1)
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

/// A line, scalar by scalar, with the part that a message is about.
struct SourceLine {
    private var cells: [DisplayCell]
    private let start: Int
    private let end: Int

    /// Columns shown at most.
    private static let windowWidth = 100
    /// Columns shown before the caret in a line that is cut.
    private static let context = 40

    /// - Parameter secrets: columns from 0 that are masked.
    init(_ bytes: ArraySlice<UInt8>, secrets: [Range<Int>], place: SourceRange) {
        let scalars = Array(String(decoding: bytes, as: UTF8.self).unicodeScalars)
        cells = scalars.map { DisplayCell($0) }
        start = min(Int(place.start.column) - 1, cells.count)
        end = place.end.line == place.start.line ? min(Int(place.end.column) - 1, cells.count) : cells.count
        for range in secrets + Self.namedSecrets(scalars) {
            mask(max(range.lowerBound, 0)..<min(range.upperBound, cells.count))
        }
    }

    private mutating func mask(_ range: Range<Int>) {
        for (offset, index) in range.enumerated() {
            cells[index] = offset == 0 ? DisplayCell(text: "(hidden)", width: 8) : DisplayCell(text: "", width: 0)
        }
    }

    /// What follows the name of a secret on its line. A file that could not be parsed has no places to go by, and it may
    /// well be one of wg-quick's.
    private static func namedSecrets(_ scalars: [Unicode.Scalar]) -> [Range<Int>] {
        guard scalars.count < 4096 else { return [] }
        let folded = scalars.map { scalar -> UInt8 in
            guard scalar.isASCII else { return 0 }
            let byte = UInt8(scalar.value)
            return (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
        }
        var found: [Range<Int>] = []
        for name in [
            "privatekey", "private_key", "private-key", "presharedkey", "preshared_key", "preshared-key", "psk",
        ] {
            let wanted = Array(name.utf8)
            guard folded.count > wanted.count else { continue }
            for start in 0...folded.count - wanted.count where Array(folded[start..<start + wanted.count]) == wanted {
                var index = start + wanted.count
                while index < folded.count,
                    [UInt8(ascii: " "), UInt8(ascii: "\""), UInt8(ascii: "'")].contains(folded[index])
                {
                    index += 1
                }
                guard index < folded.count, folded[index] == UInt8(ascii: ":") || folded[index] == UInt8(ascii: "=")
                else {
                    continue
                }
                index += 1
                while index < folded.count, folded[index] == UInt8(ascii: " ") { index += 1 }
                var end = index
                while end < folded.count, folded[end] != UInt8(ascii: ","), folded[end] != UInt8(ascii: "}") {
                    end += 1
                }
                if index < end { found.append(index..<end) }
            }
        }
        return found
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
        var text = first > 0 ? "…" : ""
        for cell in cells[first..<last] { text += cell.text }
        if last < cells.count { text += "…" }
        let before = cells[first..<start].reduce(first > 0 ? 1 : 0) { $0 + $1.width }
        let shownEnd = max(start, min(end, last))
        let width = cells[start..<shownEnd].reduce(0) { $0 + $1.width }
        return (text, before, width)
    }
}
