// What is wrong with a file before it is read as YAML: its size, its encoding, control characters, tabs and other blanks
// in its indentation, and merges that were left undone.

import WeftDiagnostics

/// One pass over the bytes. What it refuses would make libyaml count lines otherwise than editors do, or fail with a
/// message about something else.
struct SourceCheck {
    let file: UInt32
    private(set) var problems: [Diagnostic] = []
    private var firstTab: SourceRange?
    private var tabLines = 0
    private var firstBlank: (place: SourceRange, scalar: UInt32)?
    private var blankLines = 0
    private var conflicts = ConflictMarkers()
    private var refused = 0

    /// Files past this are refused unread: 64 MiB, three times what 100,000 nodes need.
    static let sizeLimit = 64 << 20
    private static let shownCharacters = 20

    init(file: UInt32) {
        self.file = file
    }

    mutating func run(_ bytes: [UInt8]) {
        guard bytes.count <= Self.sizeLimit else {
            problems.append(
                Diagnostic(
                    "yaml.too-large", "the file has \(bytes.count >> 20) MiB; at most 64 MiB are read",
                    at: position(1, 1, width: 0)))
            return
        }
        if let encoding = foreignEncoding(bytes.span) {
            // Between zeros a key has not the shape by which it would be known and hidden.
            problems.append(
                Diagnostic(
                    "yaml.not-utf8", "this file is \(encoding): save it as UTF-8", at: position(1, 1, width: 1),
                    notes: [Diagnostic.Note("`iconv -f \(encoding) -t UTF-8 FILE` prints it so")],
                    secrets: [position(1, 1, width: UInt32.max - 1)]))
            return
        }
        do throws(UTF8.ValidationError) {
            _ = try UTF8Span(validating: bytes.span)
        } catch {
            reportBadUTF8(bytes, at: error.byteOffsets.lowerBound)
            return
        }
        scan(bytes)
        if let firstTab {
            let more = tabLines > 1 ? "; \(tabLines) lines of this file have tabs there" : ""
            problems.append(
                Diagnostic(
                    "yaml.tab", "a tab in the indentation: YAML is indented with spaces\(more)", at: firstTab,
                    notes: [Diagnostic.Note("`expand -t 2 FILE` turns tabs into spaces")]))
        }
        if let firstBlank {
            let more = blankLines > 1 ? "; \(blankLines) lines of this file have such blanks there" : ""
            let width = Int(firstBlank.place.end.column - firstBlank.place.start.column)
            problems.append(
                Diagnostic(
                    "yaml.blank",
                    "\(blankName(firstBlank.scalar)) (\(codePoint(firstBlank.scalar))) in the indentation: YAML is indented "
                        + "with plain spaces\(more)", at: firstBlank.place,
                    fixIts: [
                        Diagnostic.FixIt(
                            "write plain spaces", replace: firstBlank.place, with: String(repeating: " ", count: width))
                    ]))
        }
        if let conflict = conflicts.diagnostic(file: file) { problems.append(conflict) }
        if refused > Self.shownCharacters {
            problems.append(
                Diagnostic(
                    "yaml.control-character", "\(refused - Self.shownCharacters) more such characters in this file",
                    at: problems.last?.place))
        }
    }

    private mutating func scan(_ bytes: [UInt8]) {
        let span = bytes.span
        var index = 0
        var line: UInt32 = 1
        var lineStart = 0
        if span.count >= 3, span[0] == 0xEF, span[1] == 0xBB, span[2] == 0xBF {
            index = 3
            lineStart = 3
        }
        checkStart(span, of: line, at: index)
        while index < span.count {
            index = Self.skipPlain(span, from: index)
            guard index < span.count else { break }
            let byte = span[index]
            if byte >= 0x20, byte < 0x7F {
                index += 1
                continue
            }
            switch byte {
            case UInt8(ascii: "\n"):
                line += 1
                index += 1
                lineStart = index
                checkStart(span, of: line, at: index)
            case UInt8(ascii: "\t"):
                index += 1
            case UInt8(ascii: "\r") where index + 1 < span.count && span[index + 1] == UInt8(ascii: "\n"):
                index += 1
            default:
                let (scalar, width) = Self.scalar(span, at: index)
                if let name = refusedName(scalar) {
                    report(name, scalar, position(line, column(span, from: lineStart, to: index), width: 1))
                }
                index += width
            }
        }
    }

    /// Skips eight printable ASCII characters at a time. What stops it may still be one.
    private static func skipPlain(_ span: Span<UInt8>, from start: Int) -> Int {
        let high: UInt64 = 0x8080_8080_8080_8080
        var index = start
        while index + 8 <= span.count {
            let word = unsafe span.bytes.unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self)
            // A byte under 0x20 borrows, 0x7F carries into its high bit, and others beyond ASCII have theirs set.
            let isPlain = (word | (word &- 0x2020_2020_2020_2020) | (word &+ 0x0101_0101_0101_0101)) & high == 0
            if !isPlain { break }
            index += 8
        }
        return index
    }

    /// Notes a tab, or a blank of another kind, before anything else on a line, and markers of a merge. Before a comment, or
    /// alone, libyaml refuses most of them too, in words about something else, or about the next line.
    private mutating func checkStart(_ span: Span<UInt8>, of line: UInt32, at start: Int) {
        var index = start
        while index < span.count, span[index] == UInt8(ascii: " ") { index += 1 }
        guard index < span.count else { return }
        let byte = span[index]
        let column = UInt32(index - start + 1)
        if byte == UInt8(ascii: "\t") {
            tabLines += 1
            if firstTab == nil { firstTab = position(line, column, width: 1) }
        } else if byte >= 0x80 {
            let (scalar, width) = Self.scalar(span, at: index)
            guard isForeignBlank(scalar) else { return }
            blankLines += 1
            if firstBlank != nil { return }
            var count: UInt32 = 1
            index += width
            while index < span.count {
                let (next, width) = Self.scalar(span, at: index)
                guard isForeignBlank(next) || next == 0x20 else { break }
                count += 1
                index += width
            }
            firstBlank = (position(line, column, width: count), scalar)
        } else if index == start {
            conflicts.look(at: span, from: start, line: line)
        }
    }

    private mutating func report(_ name: String, _ scalar: UInt32, _ place: SourceRange) {
        refused += 1
        guard refused <= Self.shownCharacters else { return }
        problems.append(
            Diagnostic(
                "yaml.control-character", "\(name) (\(codePoint(scalar))) is not accepted in a topology", at: place,
                fixIts: [Diagnostic.FixIt("remove it", replace: place, with: "")]))
    }

    private mutating func reportBadUTF8(_ bytes: [UInt8], at offset: Int) {
        var line: UInt32 = 1
        var lineStart = 0
        for index in 0..<offset where bytes[index] == UInt8(ascii: "\n") {
            line += 1
            lineStart = index + 1
        }
        let digits = String(bytes[offset], radix: 16, uppercase: true)
        let message = "byte 0x\(digits.count < 2 ? "0" : "")\(digits) is not UTF-8 here (offset \(offset))"
        problems.append(
            Diagnostic(
                "yaml.not-utf8", message,
                at: position(line, column(bytes.span, from: lineStart, to: offset), width: 1)))
    }

    private func column(_ span: Span<UInt8>, from start: Int, to end: Int) -> UInt32 {
        var column: UInt32 = 1
        for index in start..<end where span[index] & 0xC0 != 0x80 { column += 1 }
        return column
    }

    private func position(_ line: UInt32, _ column: UInt32, width: UInt32) -> SourceRange {
        SourceRange(
            file: file, start: SourcePosition(line: line, column: column),
            end: SourcePosition(line: line, column: column + width))
    }

    /// The scalar that starts at `index` of valid UTF-8, and its count of bytes.
    private static func scalar(_ span: Span<UInt8>, at index: Int) -> (UInt32, Int) {
        let first = UInt32(span[index])
        func rest(_ offset: Int) -> UInt32 { UInt32(span[index + offset] & 0x3F) }
        switch first {
        case ..<0x80: return (first, 1)
        case ..<0xE0: return ((first & 0x1F) << 6 | rest(1), 2)
        case ..<0xF0: return ((first & 0x0F) << 12 | rest(1) << 6 | rest(2), 3)
        default: return ((first & 0x07) << 18 | rest(1) << 12 | rest(2) << 6 | rest(3), 4)
        }
    }
}

/// What a character is called that no file may hold, because it hides what a reader sees; nil for all others.
private func refusedName(_ scalar: UInt32) -> String? {
    switch scalar {
    case 0x0D: "a carriage return without a line feed"
    case 0x1B: "an escape character"
    case 0x00..<0x20, 0x7F..<0xA0: "a control character"
    case 0x061C, 0x200E, 0x200F, 0x202A...0x202E, 0x2066...0x2069: "a character that turns the direction of text"
    case 0x2028, 0x2029: "a line separator"
    case 0xFEFF: "a byte-order mark inside the file"
    case 0xFFFE, 0xFFFF: "a noncharacter"
    default: nil
    }
}

/// `U+202E`.
package func codePoint(_ scalar: UInt32) -> String {
    let digits = String(scalar, radix: 16, uppercase: true)
    return "U+" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits
}
