// Diagnostics as text, as the Swift compiler prints them: place, message, the source line, a caret, notes, fix-its.

package import WeftDiagnostics

/// Renders diagnostics for people.
package struct DiagnosticText {
    /// Whether to colour with escape sequences.
    package var usesColour: Bool

    package init(usesColour: Bool = false) {
        self.usesColour = usesColour
    }

    /// All diagnostics, one after another, and a line that counts them. Empty where there are none.
    package func render(_ diagnostics: [Diagnostic], in files: SourceFiles) -> String {
        guard !diagnostics.isEmpty else { return "" }
        var renderer = Renderer(files: files, colours: usesColour)
        for diagnostic in diagnostics { renderer.hide(diagnostic.secrets) }
        for diagnostic in diagnostics { renderer.add(diagnostic) }
        return renderer.output + Self.summary(diagnostics) + "\n"
    }

    /// `2 errors, 1 warning`; `more than 100 errors` where some are not shown.
    package static func summary(_ diagnostics: [Diagnostic]) -> String {
        let unshown = diagnostics.filter { $0.id == Diagnostic.unshownID }
        return [Severity.error, .warning, .note].compactMap { severity in
            let count = diagnostics.count { $0.severity == severity && $0.id != Diagnostic.unshownID }
            let hasMore = severity != .note && unshown.contains { ($0.severity == .error) == (severity == .error) }
            let words = "\(count) \(severity.rawValue)\(count == 1 ? "" : "s")"
            return count == 0 ? nil : hasMore ? "more than \(words)" : words
        }.joined(separator: ", ")
    }
}

private struct Renderer {
    let files: SourceFiles
    let colours: Bool
    var output = ""
    private var secrets: [SourceRange] = []
    /// The keys at these places, once one of them is asked for.
    private var hiddenKeys: Set<String>?
    /// Of each file, the keys that stand elsewhere than under `publicKey`.
    private var strayKeys: [UInt32: Set<String>] = [:]
    /// For each file, where its lines begin: found when the first of them is shown.
    private var lineStarts: [UInt32: [Int]] = [:]

    init(files: SourceFiles, colours: Bool) {
        self.files = files
        self.colours = colours
    }

    mutating func hide(_ places: [SourceRange]) {
        // Every diagnostic of a reading carries the same ones.
        if places != secrets { secrets += places }
    }

    mutating func add(_ diagnostic: Diagnostic) {
        head(diagnostic.severity, diagnostic.message, at: diagnostic.place)
        let gutter = snippet(diagnostic.place)
        for note in diagnostic.notes where note.place == nil {
            output += "\(gutter)= \(paint("note:", .note)) \(visible(note.message))\n"
        }
        for fixIt in diagnostic.fixIts {
            output += "\(gutter)= \(paint("fix:", .fix)) \(visible(fixIt.message))\n"
        }
        for note in diagnostic.notes {
            guard let place = note.place else { continue }
            head(.note, note.message, at: place)
            _ = snippet(place)
        }
    }

    private mutating func head(_ severity: Severity, _ message: String, at place: SourceRange?) {
        var location = "weft: "
        if let place {
            location = "\(visible(files[place.file].name)):\(place.start.line):\(place.start.column): "
        }
        let style: Style =
            switch severity {
            case .error: .error
            case .warning: .warning
            case .note: .note
            }
        output += paint(location, .bold) + paint("\(severity.rawValue):", style) + " \(visible(message))\n"
    }

    /// The source line with a caret under it. Returns the gutter that further remarks are indented by.
    private mutating func snippet(_ place: SourceRange?) -> String {
        guard let place else { return "  " }
        guard let bytes = line(Int(place.start.line), of: place.file) else { return "  " }
        let previous = line(Int(place.start.line) - 1, of: place.file) ?? []
        let number = String(place.start.line)
        let gutter = String(repeating: " ", count: number.count + 2)
        let line = SourceLine(bytes, previous: previous, secrets: secretColumns(place), place: place) { key in
            isHidden(key, in: place.file)
        }
        let (text, before, width) = line.window()
        output += "\(paint(" \(number) |", .dim))\(text.isEmpty ? "" : " ")\(text)\n"
        let caret = "^" + String(repeating: "~", count: max(0, width - 1))
        output += "\(paint("\(gutter)|", .dim)) \(String(repeating: " ", count: before))\(paint(caret, .fix))\n"
        return gutter
    }

    /// Whether what stands under `publicKey` is hidden elsewhere: somebody has given the private key for both.
    private mutating func isHidden(_ key: String, in file: UInt32) -> Bool {
        if hiddenKeys == nil {
            hiddenKeys = []
            for secret in secrets where secret.start.line == secret.end.line {
                guard let line = line(Int(secret.start.line), of: secret.file) else { continue }
                let columns = Int(secret.start.column) - 1..<Int(secret.end.column) - 1
                hiddenKeys?.formUnion(SourceLine.keys(in: line, columns: columns))
            }
        }
        if hiddenKeys?.contains(key) == true { return true }
        // Of a file that could not be parsed, nobody has named the places.
        if strayKeys[file] == nil {
            strayKeys[file] = []
            for line in files[file].bytes.split(separator: UInt8(ascii: "\n")) where line.count >= key.utf8.count {
                strayKeys[file]?.formUnion(SourceLine.strayKeys(in: line))
            }
        }
        return strayKeys[file]?.contains(key) == true
    }

    /// A line's bytes, without its end.
    private mutating func line(_ number: Int, of file: UInt32) -> ArraySlice<UInt8>? {
        let bytes = files[file].bytes
        let starts: [Int]
        if let known = lineStarts[file] {
            starts = known
        } else {
            var found = [0]
            for index in bytes.indices where bytes[index] == UInt8(ascii: "\n") { found.append(index + 1) }
            lineStarts[file] = found
            starts = found
        }
        let index = number - 1
        guard starts.indices.contains(index) else { return nil }
        var start = starts[index]
        var end = index + 1 < starts.count ? starts[index + 1] - 1 : bytes.count
        if end > start, bytes[end - 1] == UInt8(ascii: "\r") { end -= 1 }
        if index == 0, bytes.starts(with: [0xEF, 0xBB, 0xBF]) { start += 3 }
        return bytes[start..<max(start, end)]
    }

    /// The columns of a line that are hidden, from 0.
    private func secretColumns(_ place: SourceRange) -> [Range<Int>] {
        let line = place.start.line
        return secrets.compactMap { secret in
            guard secret.file == place.file, secret.start.line <= line, line <= secret.end.line else { return nil }
            let start = secret.start.line == line ? Int(secret.start.column) - 1 : 0
            let end = secret.end.line == line ? Int(secret.end.column) - 1 : Int.max
            return start < end ? start..<end : nil
        }
    }

    // MARK: Colour

    private enum Style: String {
        case error = "1;31"
        case warning = "1;35"
        case note = "1;36"
        case fix = "1;32"
        case bold = "1"
        case dim = "2"
    }

    private func paint(_ text: String, _ style: Style) -> String {
        colours ? "\u{1B}[\(style.rawValue)m\(text)\u{1B}[0m" : text
    }
}

/// Text in which nothing can move the cursor, or turn or hide what follows.
private func visible(_ text: String) -> String {
    if text.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }) { return text }
    var result = ""
    for scalar in text.unicodeScalars { result += DisplayCell(scalar).text }
    return result
}
