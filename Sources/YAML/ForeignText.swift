// Text that is no YAML by its nature: another encoding, blanks and quotes that only look like YAML's, markers of an undone
// merge.

import WeftDiagnostics

/// The encoding that bytes are likely in, by the name that iconv(1) knows, where it is UTF-16 or UTF-32: by their
/// byte-order mark, or without one by where the zeros of ASCII characters stand. Nil for all else.
func foreignEncoding(_ bytes: Span<UInt8>) -> String? {
    func starts(_ mark: [UInt8]) -> Bool {
        bytes.count >= mark.count && mark.indices.allSatisfy { bytes[$0] == mark[$0] }
    }
    // The mark of UTF-32 begins with that of UTF-16.
    if starts([0xFF, 0xFE, 0, 0]) || starts([0, 0, 0xFE, 0xFF]) { return "UTF-32" }
    if starts([0xFF, 0xFE]) || starts([0xFE, 0xFF]) { return "UTF-16" }
    // Zeros by the remainder of their offset by four, in the beginning.
    var zeros = (0, 0, 0, 0)
    let groups = min(bytes.count, 256) / 4
    for group in 0..<groups {
        if bytes[group * 4] == 0 { zeros.0 += 1 }
        if bytes[group * 4 + 1] == 0 { zeros.1 += 1 }
        if bytes[group * 4 + 2] == 0 { zeros.2 += 1 }
        if bytes[group * 4 + 3] == 0 { zeros.3 += 1 }
    }
    guard groups > 0 else { return nil }
    // Names and fields are ASCII; words in another script stand in comments at most.
    func isMost(_ count: Int) -> Bool { count * 2 > groups }
    switch (isMost(zeros.0), isMost(zeros.1), isMost(zeros.2), isMost(zeros.3)) {
    case (false, true, true, true): return "UTF-32LE"
    case (true, true, true, false): return "UTF-32BE"
    case (false, true, false, true): return "UTF-16LE"
    case (true, false, true, false): return "UTF-16BE"
    default: return nil
    }
}

/// Whether a character looks like a space, or like nothing, and is no blank to YAML.
func isForeignBlank(_ scalar: UInt32) -> Bool {
    switch scalar {
    case 0xA0, 0x1680, 0x2000...0x200D, 0x202F, 0x205F, 0x2060, 0x3000: true
    default: false
    }
}

/// What such a blank is called, with its article.
func blankName(_ scalar: UInt32) -> String {
    switch scalar {
    case 0xA0, 0x202F: "a no-break space"
    case 0x200B...0x200D, 0x2060: "an invisible character"
    case 0x3000: "an ideographic space"
    default: "a blank that is no space"
    }
}

/// Whether a character is a quote of print, as word processors write them: to YAML it is a letter like any other.
func isPrintedQuote(_ scalar: UInt32) -> Bool {
    switch scalar {
    case 0xAB, 0xBB, 0x2018...0x201F, 0x2039, 0x203A, 0xFF02, 0xFF07: true
    default: false
    }
}

/// What is said of one.
func printedQuoteMessage(_ scalar: Unicode.Scalar) -> String {
    "\(scalar) (\(codePoint(scalar.value))) is a typographic quote: YAML knows \" and ' alone"
}

/// What git leaves in a file where two changes met: `<<<<<<<`, `|||||||`, `=======` and `>>>>>>>` at the start of a line.
struct ConflictMarkers {
    private var places: [(line: UInt32, marker: UInt8)] = []
    private var count = 0

    private static let width = 7
    private static let shownMarkers = 8

    mutating func look(at span: Span<UInt8>, from start: Int, line: UInt32) {
        let marker = span[start]
        switch marker {
        case UInt8(ascii: "<"), UInt8(ascii: "|"), UInt8(ascii: "="), UInt8(ascii: ">"): break
        default: return
        }
        let end = start + Self.width
        guard end <= span.count, (start..<end).allSatisfy({ span[$0] == marker }) else { return }
        guard end == span.count || [0x20, 0x0A, 0x0D].contains(span[end]) else { return }
        if marker == UInt8(ascii: "<") { count += 1 }
        if places.count < Self.shownMarkers { places.append((line, marker)) }
    }

    /// One error for all of them; nil where there is none. A line of `=` alone is no conflict.
    func diagnostic(file: UInt32) -> Diagnostic? {
        func isEnd(_ marker: UInt8) -> Bool { marker == UInt8(ascii: "<") || marker == UInt8(ascii: ">") }
        guard let first = places.first(where: { isEnd($0.marker) }) else { return nil }
        func range(_ line: UInt32) -> SourceRange {
            SourceRange(
                file: file, start: SourcePosition(line: line, column: 1),
                end: SourcePosition(line: line, column: UInt32(Self.width + 1)))
        }
        let more = count > 1 ? "; \(count) conflicts in this file" : ""
        return Diagnostic(
            "yaml.merge-conflict", "unresolved merge conflict\(more): keep what is right, and remove the markers",
            at: range(first.line),
            notes: places.filter { $0.line > first.line }
                .map { Diagnostic.Note("a marker is here too", at: range($0.line)) })
    }
}
