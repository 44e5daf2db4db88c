// Trees: what is in them, where each node stands, and what is refused before it costs anything.

import Foundation
import Testing
import WeftDiagnostics
import YAML

/// Parses one file named `t.yaml`.
private func parse(_ bytes: [UInt8]) -> (tree: YAMLTree?, diagnostics: [Diagnostic]) {
    YAML.parse(SourceFiles([SourceFiles.File(name: "t.yaml", bytes: bytes)]), 0)
}

private func parse(_ text: String) -> (tree: YAMLTree?, diagnostics: [Diagnostic]) { parse(Array(text.utf8)) }

/// `3:5-3:9`
private func text(_ place: SourceRange) -> String {
    "\(place.start.line):\(place.start.column)-\(place.end.line):\(place.end.column)"
}

@Suite struct TreeTests {
    @Test func knowsPlaces() throws {
        let tree = try #require(parse("a: 1\nb: [x, \"y z\"]\n\nc:\n  d: é'\n").tree)
        let pairs = Array(tree.pairs(tree.root))
        #expect(pairs.map { tree.string($0.key) } == ["a", "b", "c"])
        #expect(pairs.map { text(tree.place($0.key)) } == ["1:1-1:2", "2:1-2:2", "4:1-4:2"])
        #expect(text(tree.place(pairs[0].value)) == "1:4-1:5")
        #expect(text(tree.place(pairs[1].value)) == "2:4-2:14")
        let items = Array(tree.items(pairs[1].value))
        #expect(items.map { tree.string($0) } == ["x", "y z"])
        #expect(items.map { text(tree.place($0)) } == ["2:5-2:6", "2:8-2:13"])
        #expect(items.map { tree.isPlain($0) } == [true, false])
        let inner = Array(tree.pairs(pairs[2].value))
        #expect(tree.string(inner[0].value) == "é'")
        #expect(text(tree.place(inner[0].value)) == "5:6-5:8")
        // A block ends where its last value does, not where the next one begins.
        #expect(text(tree.place(tree.root)) == "1:1-5:8")
        #expect(tree.count(tree.root) == 3)
    }

    @Test func walksOnlyWhatItIsAskedFor() throws {
        let tree = try #require(parse("a: {b: [1, 2, {c: d}], e: f}\ng: h\n").tree)
        #expect(Array(tree.pairs(tree.root)).map { tree.string($0.key) } == ["a", "g"])
        #expect(Array(tree.items(tree.root)).isEmpty)
        let first = try #require(Array(tree.pairs(tree.root)).first)
        #expect(Array(tree.pairs(first.value)).map { tree.string($0.key) } == ["b", "e"])
        #expect(tree.string(first.value) == "")
    }

    @Test func emptyFilesHaveNoTree() {
        for text in ["", "\n\n", "# nothing\n", "\u{FEFF}"] {
            let (tree, diagnostics) = parse(text)
            #expect(tree == nil)
            #expect(diagnostics.isEmpty, "\(text.debugDescription)")
        }
    }

    /// Editors on Windows write one. Places count as if it were not there.
    @Test(arguments: ["a: 1\nb: 2\n", "a: 1\r\nb: 2\r\n", "---\na: 1\nb: 2\n", "# a\na: 1\nb: 2\n"])
    func aByteOrderMarkChangesNothing(source: String) throws {
        let (plain, marked) = (parse(source), parse("\u{FEFF}" + source))
        #expect(marked.diagnostics.isEmpty)
        let (one, two) = (try #require(plain.tree), try #require(marked.tree))
        let pairs = Array(two.pairs(two.root))
        #expect(pairs.map { two.string($0.key) } == ["a", "b"])
        #expect(pairs.map { text(two.place($0.key)) } == Array(one.pairs(one.root)).map { text(one.place($0.key)) })
    }

    @Test func aKeyGivenTwiceIsNotRepeatedWhereItMayBeASecret() throws {
        let key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
        let (_, diagnostics) = parse("\(key): 1\n\(key): 2\n")
        #expect(diagnostics.map(\.message) == ["\"(hidden)\" is given twice"])
        // A file of wg-quick's is one long text to YAML.
        #expect(
            shown("PrivateKey = \(key) [Interface] and what follows there")
                == "PrivateKey = (hidden) [Interface] and what follows there")
        #expect(shown("of no key's shape: " + String(repeating: "0123456789", count: 5)).hasSuffix("…"))
    }

    @Test func nulls() throws {
        let tree = try #require(parse("[~, null, \"\", '~', nil, Null]\n").tree)
        #expect(tree.items(tree.root).map { tree.isNull($0) } == [true, true, false, false, false, true])
    }

    @Test(arguments: [
        ("a: &x 1\n", "yaml.anchor"), ("a: *x\n", "yaml.alias"), ("a: !!str 1\n", "yaml.tag"),
        ("<<: {a: 1}\n", "yaml.merge"), ("a: 1\n---\nb: 2\n", "yaml.documents"), ("a:\n\tb: 1\n", "yaml.tab"),
        ("a: 1\n\t# b\nc: 2\n", "yaml.tab"), ("a: 1\n  \t\nc: 2\n", "yaml.tab"),
        ("a: 1\na: 2\n", "yaml.duplicate-key"), ("{a: 1, \"a\": 2}\n", "yaml.duplicate-key"),
        ("? [a]\n: b\n", "yaml.key"), ("a: \u{202E}b\n", "yaml.control-character"),
        ("a: b\rc: d\n", "yaml.control-character"), ("a: \u{85}b\n", "yaml.control-character"),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", "yaml.tag"), ("a: [1, 2\n", "yaml.syntax"), ("a: 'b\n", "yaml.syntax"),
        ("a: [fd00::1]:51820\n", "yaml.unquoted-endpoint"), ("[Interface]\nx = 1\n", "yaml.wg-quick"),
        ("\u{0}", "yaml.control-character"),
    ])
    func refuses(text: String, id: String) {
        #expect(parse(text).diagnostics.first?.id == id)
    }

    @Test func duplicatesInLargeMappings() {
        let lines = (0..<1000).map { "k\($0): 1\n" }.joined() + "k500: 2\nk7: 3\n"
        let (_, diagnostics) = parse(lines)
        #expect(Set(diagnostics.compactMap { $0.place?.start.line }) == [1001, 1002])
        #expect(Set(diagnostics.compactMap { $0.notes.first?.place?.start.line }) == [501, 8])
    }

    @Test func badBytesAreFoundInTheirLine() throws {
        let (tree, diagnostics) = parse(Array("a: é\nb: ".utf8) + [0xC3, 0x28])
        #expect(tree == nil)
        let problem = try #require(diagnostics.first)
        #expect(problem.id == "yaml.not-utf8")
        #expect(problem.place?.start == SourcePosition(line: 2, column: 4))
        // Surrogates and overlong forms are no UTF-8 either.
        for bytes: [UInt8] in [[0xED, 0xA0, 0x80], [0xC0, 0xAF], [0xF5, 0x80, 0x80, 0x80], [0xE2, 0x82]] {
            #expect(parse(bytes).diagnostics.first?.id == "yaml.not-utf8")
        }
    }

    /// An editor's other encodings are one error, not one for each zero in them.
    @Test(arguments: [
        ("UTF-16", String.Encoding.utf16LittleEndian, [UInt8]([0xFF, 0xFE])),
        ("UTF-16", .utf16BigEndian, [0xFE, 0xFF]), ("UTF-32", .utf32LittleEndian, [0xFF, 0xFE, 0, 0]),
        ("UTF-32", .utf32BigEndian, [0, 0, 0xFE, 0xFF]), ("UTF-16LE", .utf16LittleEndian, []),
        ("UTF-16BE", .utf16BigEndian, []), ("UTF-32LE", .utf32LittleEndian, []), ("UTF-32BE", .utf32BigEndian, []),
    ])
    func otherEncodingsAreNamed(name: String, encoding: String.Encoding, mark: [UInt8]) throws {
        for text in ["mesh:\n  name: corp\n", "# Büro — 東京\nmesh:\n  name: corp\n", "a: 1"] {
            let bytes = try #require(text.data(using: encoding))
            let (tree, diagnostics) = parse(mark + bytes)
            #expect(tree == nil)
            #expect(diagnostics.map(\.id) == ["yaml.not-utf8"])
            #expect(diagnostics.first?.message == "this file is \(name): save it as UTF-8")
        }
    }

    @Test func zerosAloneAreNoEncoding() {
        let ids = parse("a:\u{0}\n  b: c\u{0}\n").diagnostics.map(\.id)
        #expect(ids == ["yaml.control-character", "yaml.control-character"])
        #expect(parse([UInt8](repeating: 0, count: 64)).diagnostics.first?.id == "yaml.control-character")
    }

    /// Each is told in its own line, not in the one where libyaml notices.
    @Test(arguments: [
        ("mesh:\n\u{A0}\u{A0}name: corp\n  x: 1\n", "yaml.blank", 2, 1, "(U+00A0) in the indentation"),
        ("mesh:\n  name: corp\n \u{A0}x: 1\n", "yaml.blank", 3, 2, "a no-break space"),
        ("mesh:\n\u{3000}name: corp\n\u{3000}x: 1\n", "yaml.blank", 2, 1, "2 lines of this file"),
        ("mesh:\n  name:\u{A0}corp\n  x: 1\n", "yaml.syntax", 2, 7, "a no-break space (U+00A0) follows the \":\""),
        ("mesh:\n  name:corp\n  x: 1\n", "yaml.syntax", 2, 7, "a space must follow the \":\""),
        ("mesh:\n  x: 1\n  name:corp\n", "yaml.syntax", 3, 7, "a space must follow the \":\""),
        ("mesh:\n  x: 1\n  name:corp\n  y: 1\n", "yaml.syntax", 3, 7, "a space must follow the \":\""),
        ("a:\n  - name:corp\n    y: 1\n", "yaml.syntax", 2, 9, "a space must follow the \":\""),
    ])
    func blanksAreToldWhereTheyAre(text: String, id: String, line: UInt32, column: UInt32, message: String) throws {
        let (tree, diagnostics) = parse(text)
        #expect(tree == nil)
        let problem = try #require(diagnostics.first)
        #expect(diagnostics.count == 1)
        #expect(problem.id == id)
        #expect(problem.place?.start == SourcePosition(line: line, column: column), "\(problem.message)")
        #expect(problem.message.contains(message), "\(problem.message)")
        #expect(problem.fixIts.count == 1)
    }

    @Test func aBlankInAValueIsText() {
        #expect(parse("a: \"\u{A0}b\"\nb: c\u{A0}d # \u{A0}\n").diagnostics.isEmpty)
    }

    @Test func mergeConflictsAreNamed() throws {
        let text = """
            nodes:
            <<<<<<< HEAD
              fra: {}
            ||||||| 1234567
            =======
              ams: {}
            >>>>>>> topic

            """
        let (tree, diagnostics) = parse(text)
        #expect(tree == nil)
        let problem = try #require(diagnostics.first)
        #expect(diagnostics.map(\.id) == ["yaml.merge-conflict"])
        #expect(problem.message.hasPrefix("unresolved merge conflict: "))
        #expect(problem.place?.start == SourcePosition(line: 2, column: 1))
        #expect(problem.notes.compactMap(\.place?.start.line) == [4, 5, 7])
        let twice = try #require(parse(text + text).diagnostics.first)
        #expect(twice.message.contains("2 conflicts in this file"))
        #expect(parse(text.replacing("\n", with: "\r\n")).diagnostics.map(\.id) == ["yaml.merge-conflict"])
        // No markers: a scalar of that many, or a comment.
        #expect(parse("a: |\n  <<<<<<< x\n# =======\n").diagnostics.isEmpty)
        #expect(parse("<<<<<<<<\n").diagnostics.isEmpty)
        #expect(parse("=======\n").diagnostics.isEmpty)
    }

    @Test func tabsAreFineElsewhere() {
        #expect(parse("a: 1\t# x\nb: \"\t\"\nc: [1,\t2]\n").diagnostics.isEmpty)
    }

    @Test func depthStopsAt32() {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(parse(nested(32)).diagnostics.isEmpty)
        #expect(parse(nested(33)).diagnostics.map(\.id) == ["yaml.depth"])
        let blocks = (0..<40).map { String(repeating: " ", count: $0) + "a:\n" }.joined()
        #expect(parse(blocks).diagnostics.map(\.id) == ["yaml.depth"])
        #expect(parse(String(repeating: "- ", count: 40)).diagnostics.map(\.id) == ["yaml.depth"])
    }

    /// libyaml takes minutes for these, if it is let.
    @Test(arguments: ["[", "{", "- ", "{a: ", "[\n", "? ", "[a, ", "\"", "a: [b, c: "])
    func hostileNestingIsQuick(unit: String) {
        let text = String(repeating: unit, count: 1_000_000 / unit.utf8.count)
        let clock = ContinuousClock()
        var problems = 0
        let time = clock.measure { problems = parse(text).diagnostics.count }
        #expect(problems > 0)
        #expect(time < .seconds(10))
    }

    @Test func manyAliasesAreNotCollected() {
        let (tree, diagnostics) = parse("a: [" + String(repeating: "*x, ", count: 100_000) + "]\n")
        #expect(tree == nil)
        #expect(diagnostics.count <= 100)
    }

    @Test func tooLarge() {
        let (tree, diagnostics) = parse([UInt8](repeating: UInt8(ascii: "\n"), count: 64 << 20 | 1))
        #expect(tree == nil)
        #expect(diagnostics.map(\.id) == ["yaml.too-large"])
    }
}

@Suite struct PlainMeaningTests {
    @Test(arguments: [
        ("", PlainMeaning.null), ("~", .null), ("null", .null), ("NULL", .null), ("true", .boolean(true)),
        ("Yes", .boolean(true)), ("on", .boolean(true)), ("y", .boolean(true)), ("OFF", .boolean(false)),
        ("n", .boolean(false)), ("no", .boolean(false)), ("False", .boolean(false)), ("12", .decimal), ("0", .decimal),
        ("010", .leadingZero), ("0x1f", .otherBase), ("0o17", .otherBase), ("0b1", .otherBase), ("1_000", .underscored),
        ("1e3", .otherNumber), ("1.5", .otherNumber), ("-3", .otherNumber), (".5", .otherNumber),
        (".inf", .otherNumber),
        ("-.INF", .otherNumber), (".nan", .otherNumber), ("1e-3", .otherNumber), ("1:30", .sexagesimal(90)),
        ("12:30:45", .sexagesimal(45045)), ("2027-01-01", .timestamp), ("2027-01-01T00:00:00Z", .timestamp),
        ("1:60", .text), ("0xg", .text), ("10.0.0.1", .text), ("fd80::1", .text), ("1a", .text), ("fra", .text),
        ("none", .text), ("1-2", .text), ("e3", .text), ("1e", .text), ("10.0.0.0/24", .text), ("-", .text),
        ("yess", .text),
        ("node-1", .text), ("2027-01", .text), ("1:2:3:4:5:6:7:8", .sexagesimal(2_895_057_742_028)),
    ])
    func reads(text: String, meaning: PlainMeaning) {
        #expect(PlainMeaning(text.utf8Span.span) == meaning, "\(text)")
    }
}
