// libyaml's complaint about a file that is not YAML, put into words that say what to do.

import WeftDiagnostics

/// What libyaml said, and where.
struct SyntaxFailure {
    var problem: String
    var place: SourcePosition
    var context: String
    var contextPlace: SourcePosition

    func diagnostic(file: UInt32, source: [UInt8]) -> Diagnostic {
        let lines = SourceLines(source)
        func range(_ start: SourcePosition, width: Int = 1) -> SourceRange {
            SourceRange(
                file: file, start: start,
                end: SourcePosition(line: start.line, column: start.column + UInt32(width)))
        }
        // What people write that is not YAML is looked for on the lines that libyaml points at, before its own words.
        for line in Set([place.line, contextPlace.line, max(place.line, 2) - 1]).sorted(by: >) {
            let text = lines.text(line)
            if let found = unquotedEndpoint(in: text) {
                let place = range(SourcePosition(line: line, column: UInt32(found.column)), width: found.text.count)
                return Diagnostic(
                    "yaml.unquoted-endpoint",
                    "an endpoint that starts with a bracket needs quotes: to YAML it is a list",
                    at: place,
                    fixIts: [Diagnostic.FixIt("write \"\(found.text)\"", replace: place, with: "\"\(found.text)\"")])
            }
        }
        for line in Set([place.line, contextPlace.line]).sorted() {
            if let (quote, column) = printedQuote(in: lines.text(line)) {
                return Diagnostic(
                    "yaml.quotes", printedQuoteMessage(quote),
                    at: range(SourcePosition(line: line, column: UInt32(column))))
            }
        }
        // Before a comment, too, libyaml takes a tab for a value.
        let text = lines.text(place.line)
        if problem.contains("cannot start any token"), text.indices.contains(Int(place.column) - 1),
            text[Int(place.column) - 1] == "\t"
        {
            return Diagnostic(
                "yaml.tab", "a tab where YAML allows only spaces", at: range(place),
                notes: [Diagnostic.Note("`expand -t 2 FILE` turns tabs into spaces")])
        }
        if let found = lines.wgQuickLine() {
            let place = range(SourcePosition(line: found.line, column: UInt32(found.column)), width: found.width)
            return Diagnostic(
                "yaml.wg-quick", "this is a wg-quick configuration, not a topology in YAML", at: place,
                notes: [
                    Diagnostic.Note(
                        "in a topology: `publicKey: …`, `allowedIPs: […]` under `nodes:`; private keys stay on their host"
                    )
                ])
        }
        if isAboutColons, let found = lines.lineWithTightColon(upTo: place.line) {
            let place = range(SourcePosition(line: found.line, column: UInt32(found.column)), width: found.width)
            return Diagnostic(
                "yaml.syntax", "expected `name: value`: \(found.what)", at: place,
                fixIts: [Diagnostic.FixIt("write \": \"", replace: place, with: ": ")])
        }
        if problem.isEmpty {
            return Diagnostic("yaml.syntax", "this cannot be read as YAML", at: range(place))
        }
        let (message, at, notes) = sentence(lines, range)
        return Diagnostic("yaml.syntax", message, at: at, notes: notes)
    }

    /// Whether libyaml missed a `:`, or found one too many: a name above may have one that it did not take for one.
    private var isAboutColons: Bool {
        problem.contains("mapping values are not allowed") || problem.contains("could not find expected ':'")
            || problem.contains("did not find expected key")
    }

    private func sentence(
        _ lines: SourceLines, _ range: (SourcePosition, Int) -> SourceRange
    ) -> (String, SourceRange, [Diagnostic.Note]) {
        let here = range(lines.lastPlace(upTo: place), 1)
        if context.contains("quoted scalar") {
            return ("this quote is never closed", range(contextPlace, 1), [])
        }
        if context.contains("flow sequence") || context.contains("flow mapping") {
            let bracket = context.contains("sequence") ? "[" : "{"
            let close = bracket == "[" ? "]" : "}"
            return (
                "expected \",\" or \"\(close)\" here", here,
                [Diagnostic.Note("the \"\(bracket)\" that is still open", at: range(contextPlace, 1))]
            )
        }
        if problem.contains("mapping values are not allowed") {
            if let line = lines.lineWithoutColon(before: place.line) {
                return (
                    "expected `name: value`: this line has no \":\" after its name",
                    range(SourcePosition(line: line.line, column: UInt32(line.column)), line.width), []
                )
            }
            return (
                "a \":\" that YAML cannot place: either the indentation does not fit the lines above, or the value holds \": \" and needs quotes",
                here, []
            )
        }
        if problem.contains("could not find expected ':'") {
            return ("expected `name: value`: this line has no \":\" after its name", range(contextPlace, 1), [])
        }
        if problem.contains("did not find expected key") || problem.contains("did not find expected '-'") {
            return (
                "this line does not fit the block that it stands in: its indentation differs, or a value above it needs quotes",
                here, [Diagnostic.Note("the block begins here", at: range(contextPlace, 1))]
            )
        }
        if problem.contains("cannot start any token") {
            return ("a value cannot start with this character: put the value in quotes", here, [])
        }
        if problem.contains("did not find expected <document start>") {
            if let line = lines.directive(upTo: place.line) {
                return (
                    "a directive cannot stand here: a topology needs none, and a value that begins with % needs quotes",
                    range(SourcePosition(line: line, column: 1), 1), []
                )
            }
            return ("more text after the end of the document", here, [])
        }
        if problem.contains("block sequence entries are not allowed") {
            return ("a list item cannot stand here: put it on a line of its own, indented under its name", here, [])
        }
        if problem.contains("expected node content") {
            return ("expected a value here, or the end of the list or mapping", here, [])
        }
        if problem.contains("found unexpected ':'") {
            return ("a \":\" that ends a value needs quotes around the value, as in [\"fd80::\"]", here, [])
        }
        if context.contains("alias") || context.contains("anchor") {
            return ("a value that begins with * or & needs quotes: to YAML it is an alias or an anchor", here, [])
        }
        if problem.contains("unknown escape character") || problem.contains("hexdecimal") {
            return ("an escape that YAML does not know: use single quotes, or double the backslash", here, [])
        }
        if problem.contains("block mapping") || problem.contains("block collection") {
            return ("the indentation does not fit the lines above", here, [])
        }
        let detail = context.isEmpty ? problem : "\(problem) \(context)"
        return ("this is not YAML: \(detail)", here, [])
    }

    /// A quote of print where a value begins, outside other quotes, and its column.
    private func printedQuote(in line: [Unicode.Scalar]) -> (quote: Unicode.Scalar, column: Int)? {
        var open: Unicode.Scalar?
        for (index, character) in line.enumerated() {
            let isStart = index == 0 || [" ", "[", "{", ","].contains(line[index - 1])
            if let quote = open {
                if character == quote { open = nil }
            } else if isStart, character == "\"" || character == "'" {
                open = character
            } else if isStart, character == "#" {
                return nil
            } else if isStart, isPrintedQuote(character.value) {
                return (character, index + 1)
            }
        }
        return nil
    }

    /// `[2001:db8::7]:51820` outside quotes, and the column where it starts.
    private func unquotedEndpoint(in line: [Unicode.Scalar]) -> (text: String, column: Int)? {
        var quote: Unicode.Scalar?
        var index = 0
        while index < line.count {
            let character = line[index]
            if let open = quote {
                if character == open { quote = nil }
            } else if character == "\"" || character == "'" {
                quote = character
            } else if character == "#", index == 0 || line[index - 1] == " " {
                return nil
            } else if character == "[" {
                var end = index + 1
                var colons = 0
                while end < line.count, line[end] == ":" || line[end] == "." || line[end].properties.isASCIIHexDigit {
                    if line[end] == ":" { colons += 1 }
                    end += 1
                }
                if colons >= 2, end + 1 < line.count, line[end] == "]", line[end + 1] == ":" {
                    var last = end + 2
                    while last < line.count, ("0"..."9").contains(line[last]) { last += 1 }
                    if last > end + 2 {
                        var text = String.UnicodeScalarView()
                        text.append(contentsOf: line[index..<last])
                        return (String(text), index + 1)
                    }
                }
            }
            index += 1
        }
        return nil
    }
}

/// A file's lines, found only when there is something to say about them.
struct SourceLines {
    private let source: [UInt8]
    private var starts: [Int] = [0]

    init(_ source: [UInt8]) {
        self.source = source
        for index in source.indices where source[index] == UInt8(ascii: "\n") { starts.append(index + 1) }
    }

    func text(_ line: UInt32) -> [Unicode.Scalar] {
        let index = Int(line) - 1
        guard starts.indices.contains(index) else { return [] }
        let end = index + 1 < starts.count ? starts[index + 1] - 1 : source.count
        return Array(String(decoding: source[starts[index]..<max(end, starts[index])], as: UTF8.self).unicodeScalars)
    }

    /// A place, and for one on the empty line after the last one the end of what stands before it.
    func lastPlace(upTo place: SourcePosition) -> SourcePosition {
        var line = place.line
        if Int(line) < starts.count || !text(line).isEmpty { return place }
        while line > 1, text(line).allSatisfy({ $0 == " " || $0 == "\r" }) { line -= 1 }
        let end = text(line).lastIndex { $0 != " " && $0 != "\r" }.map { $0 + 2 } ?? 1
        return SourcePosition(line: line, column: UInt32(end))
    }

    /// The last line up to another that begins as a directive does, such as `%YAML 1.2`.
    func directive(upTo line: UInt32) -> UInt32? {
        (1...max(line, 1)).last { text($0).first == "%" }
    }

    /// The last line before another that holds something, if it looks like a field that lost its colon.
    func lineWithoutColon(before line: UInt32) -> (line: UInt32, column: Int, width: Int)? {
        var number = line
        while number > 1 {
            number -= 1
            let scalars = text(number)
            guard let start = scalars.firstIndex(where: { $0 != " " && $0 != "\r" }), scalars[start] != "#" else {
                continue
            }
            guard scalars[start] != "-", scalars[start] != "\"", scalars[start] != "'", !scalars.contains(":") else {
                return nil
            }
            // The first word is the name.
            let end = scalars[start...].firstIndex { $0 == " " || $0 == "\r" } ?? scalars.count
            return (number, start + 1, end - start)
        }
        return nil
    }

    /// The last line with something on it, the one given or one before, if it is a name with a `:` that no blank follows.
    /// The place is that of the colon, with a blank behind it that is none to YAML.
    func lineWithTightColon(upTo line: UInt32) -> (line: UInt32, column: Int, width: Int, what: String)? {
        var number = line
        var seen = 0
        // libyaml points at the line, or at the next one that holds something.
        while number > 0, seen < 2 {
            let scalars = text(number)
            let begin = scalars.firstIndex { $0 != " " && $0 != "\r" }
            if let begin, scalars[begin] != "#" {
                seen += 1
                // Past `- `, where the line is an item of a list.
                var start = begin
                while start + 1 < scalars.count, scalars[start] == "-", scalars[start + 1] == " " { start += 2 }
                let end = scalars[start...].firstIndex { character in
                    !(character.properties.isAlphabetic || ("0"..."9").contains(character) || character == "-"
                        || character == "_")
                }
                if let end, end > start, scalars[end] == ":", end + 1 < scalars.count {
                    let next = scalars[end + 1]
                    if isForeignBlank(next.value) {
                        let blank = "\(blankName(next.value)) (\(codePoint(next.value)))"
                        return (number, end + 1, 2, "\(blank) follows the \":\"")
                    }
                    // A value that holds `: ` may be an address and its port.
                    if next != " ", next != "\r", next != ":" {
                        return (number, end + 1, 1, "a space must follow the \":\"")
                    }
                }
            }
            number -= 1
        }
        return nil
    }

    /// The first line with something on it, if it is a section of a wg-quick file.
    func wgQuickLine() -> (line: UInt32, column: Int, width: Int)? {
        for line in 1...UInt32(starts.count) {
            let scalars = text(line)
            guard let start = scalars.firstIndex(where: { $0 != " " && $0 != "\r" }), scalars[start] != "#" else {
                continue
            }
            var view = String.UnicodeScalarView()
            view.append(contentsOf: scalars[start...].filter { $0 != " " && $0 != "\r" })
            let name = String(view).lowercased()
            guard name.hasPrefix("[interface]") || name.hasPrefix("[peer]") else { return nil }
            return (line, start + 1, scalars.count - start)
        }
        return nil
    }
}
