// Diagnostics as text and JSON: carets under the right characters, and no secret in any line.

import Foundation
import Testing
import WeftDiagnostics
import WeftRender

private func files(_ text: String) -> SourceFiles {
    SourceFiles([SourceFiles.File(name: "t.yaml", bytes: Array(text.utf8))])
}

private func range(_ line: UInt32, _ start: UInt32, _ end: UInt32, file: UInt32 = 0) -> SourceRange {
    SourceRange(
        file: file, start: SourcePosition(line: line, column: start), end: SourcePosition(line: line, column: end))
}

@Suite struct DiagnosticTextTests {
    @Test func showsEverything() {
        let problem = Diagnostic(
            "a.b", .warning, "mind this", at: range(2, 3, 5),
            notes: [Diagnostic.Note("because"), Diagnostic.Note("it is here", at: range(1, 1, 4))],
            fixIts: [Diagnostic.FixIt("write x", replace: range(2, 3, 5), with: "x")])
        let text = DiagnosticText().render(
            [problem, Diagnostic("c", "no place")], in: files("one\n  two\nthree"))
        #expect(
            text == """
                t.yaml:2:3: warning: mind this
                 2 |   two
                   |   ^~
                   = note: because
                   = fix: write x
                t.yaml:1:1: note: it is here
                 1 | one
                   | ^~~
                weft: error: no place
                1 error, 1 warning

                """)
    }

    @Test func countsWhatIsShownAndSaysThatThereIsMore() {
        let error = Diagnostic("a", .error, "wrong", at: nil)
        let warning = Diagnostic("b", .warning, "odd", at: nil)
        #expect(DiagnosticText.summary([error, error, warning]) == "2 errors, 1 warning")
        #expect(
            DiagnosticText.summary([error, error, warning, Diagnostic(Diagnostic.unshownID, .error, "more", at: nil)])
                == "more than 2 errors, 1 warning")
        #expect(
            DiagnosticText.summary([warning, Diagnostic(Diagnostic.unshownID, .note, "more", at: nil)])
                == "more than 1 warning")
    }

    @Test func nothingIsNothing() {
        #expect(DiagnosticText().render([], in: files("")) == "")
    }

    @Test func colourSurroundsOnlyWhatItMarks() {
        let text = DiagnosticText(usesColour: true).render([Diagnostic("a", "x", at: range(1, 1, 2))], in: files("y\n"))
        #expect(text.contains("\u{1B}[1;31merror:\u{1B}[0m x\n"))
        #expect(
            DiagnosticText().render([Diagnostic("a", "x", at: range(1, 1, 2))], in: files("y\n")).contains("\u{1B}")
                == false)
    }

    @Test(arguments: [
        // Wide, combining and control characters before the caret; the part itself wide.
        ("東京: x", 5, 6, "東京: x", 6, 1), ("e\u{301}: x", 5, 6, "e\u{301}: x", 3, 1), ("a\tb", 3, 4, "a␉b", 2, 1),
        ("\u{1B}[1m!", 5, 6, "␛[1m!", 4, 1), ("a\u{202E}b", 3, 4, "a<U+202E>b", 9, 1), ("x東京", 2, 4, "x東京", 1, 4),
        ("abc", 4, 4, "abc", 3, 1), ("abc\r", 2, 9, "abc", 1, 2),
    ])
    func caretsStandUnderTheirCharacters(
        line: String, start: UInt32, end: UInt32, shown: String, before: Int, width: Int
    ) {
        let text = DiagnosticText().render([Diagnostic("a", "x", at: range(1, start, end))], in: files(line + "\n"))
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines[1] == " 1 | \(shown)")
        let caret = String(repeating: " ", count: before) + "^" + String(repeating: "~", count: width - 1)
        #expect(lines[2] == "   | \(caret)")
    }

    @Test func longLinesAreCut() throws {
        let line = String(repeating: "0123456789", count: 100_000)
        for column: UInt32 in [1, 50, 500_000, 999_990, 1_000_000] {
            let text = DiagnosticText().render(
                [Diagnostic("a", "x", at: range(1, column, column + 1))], in: files(line + "\n"))
            let lines = text.split(separator: "\n")
            #expect(lines[1].count < 120)
            let caret = try #require(lines[2].firstIndex(of: "^"))
            let offset = lines[2].distance(from: lines[2].startIndex, to: caret)
            let character = lines[1][lines[1].index(lines[1].startIndex, offsetBy: offset)]
            #expect(String(character) == String((column - 1) % 10))
        }
    }

    @Test func secretsAreMaskedInEveryLine() {
        var problem = Diagnostic("a", "x", at: range(1, 20, 21))
        problem.secrets = [range(1, 4, 10), range(9, 1, 2)]
        let text = DiagnosticText().render([problem], in: files("k: hunter, and more to say\n"))
        #expect(text.contains(" 1 | k: (hidden), and more to say\n"))
        // A secret over several lines.
        problem.secrets = [
            SourceRange(
                file: 0, start: SourcePosition(line: 1, column: 4), end: SourcePosition(line: 3, column: 3))
        ]
        for line: UInt32 in 1...3 {
            problem.place = range(line, 1, 2)
            let text = DiagnosticText().render([problem], in: files("k: |\nhunter\n  2x\n"))
            #expect(!text.contains("hunter") && !text.contains(" 2x"))
        }
    }

    /// Of a file that is not YAML nobody knows where its secrets are, but by their names.
    @Test(arguments: [
        "PrivateKey = hunter2", "privateKey: hunter2", "\"privateKey\": \"hunter2\"", "  - {private_key:hunter2, a: b}",
        "PRESHAREDKEY=hunter2", "psk : hunter2 : x", "presharedKey:\nhunter2: x", "privateKey: |\n  hunter2",
        "privateKey:\r\n  hunter2", "privateKey: >-\n  hunter2",
    ])
    func namedSecretsAreMasked(source: String) {
        let lines = UInt32(source.split(separator: "\n").count)
        let problem = Diagnostic("yaml.syntax", "x", at: range(lines, 3, 4))
        #expect(!DiagnosticText().render([problem], in: files(source)).contains("hunter"))
    }

    /// A slip of the hand leaves a key where no field names it: without its colon, alone, in a wrong field, in UTF-16.
    @Test(arguments: [
        "privateKey KEY", "KEY", "  KEY:", "    interface: KEY", "    presharedKeys: [KEY]", "    key: KEY",
        "publicKey: x # KEY",
    ])
    func strayKeysAreMasked(form: String) {
        let base64 = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
        let hexadecimal = String(repeating: "4f", count: 32)
        for key in [base64, String(base64.dropLast(2)), hexadecimal] {
            let source = form.split(separator: "KEY", omittingEmptySubsequences: false).joined(separator: key)
            let wide = String(source.flatMap { [$0, "\u{0}"] })
            for source in [source, wide] {
                let problem = Diagnostic("yaml.syntax", "x", at: range(1, 1, 2))
                let text = DiagnosticText().render([problem], in: files(source)).filter { $0 != "␀" }
                #expect(!text.contains("lXXJte14") && !text.contains("4f4f"), "\(text)")
            }
        }
    }

    @Test(arguments: ["publicKey: KEY", "  PublicKey = KEY", "{\"publicKey\": \"KEY\"}", "x: {publicKey: KEY, a: b}"])
    func publicKeysAreShown(form: String) {
        let key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
        let source = form.split(separator: "KEY", omittingEmptySubsequences: false).joined(separator: key)
        let text = DiagnosticText().render([Diagnostic("a", "x", at: range(1, 1, 2))], in: files(source))
        #expect(text.contains(key))
    }

    @Test func namedSecretsAreMaskedInLongLines() {
        let filler = String(repeating: "a: b, ", count: 2000)
        let source = "{\(filler)privateKey: hunter2, \(filler)}"
        let problem = Diagnostic("yaml.syntax", "x", at: range(1, UInt32(filler.count + 20), UInt32(filler.count + 21)))
        let text = DiagnosticText().render([problem], in: files(source))
        #expect(text.contains("privateKey: (hidden), a: b"))
    }

    @Test func whatIsNoSecretIsShown() {
        let text = DiagnosticText().render(
            [Diagnostic("a", "x", at: range(1, 1, 2))], in: files("presharedKeys: external # no privateKey here\n"))
        #expect(text.contains("presharedKeys: external # no privateKey here"))
    }

    @Test func hostileNamesStayInTheirLine() {
        let hostile = SourceFiles([SourceFiles.File(name: "a\u{1B}[2J\n.yaml", bytes: [])])
        let text = DiagnosticText().render([Diagnostic("a", "b\nc\u{9B}", at: range(1, 1, 1))], in: hostile)
        #expect(text.split(separator: "\n").first == "a␛[2J␊.yaml:1:1: error: b␊c<U+9B>")
    }

    @Test func jsonHoldsAllOfIt() throws {
        let problem = Diagnostic(
            "topology.x", .error, "m", at: range(2, 3, 5),
            notes: [Diagnostic.Note("n"), Diagnostic.Note("o", at: range(1, 1, 2))],
            fixIts: [Diagnostic.FixIt("f", replace: range(2, 3, 5), with: "\"y\"")])
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let report = DiagnosticReport([problem, Diagnostic("topology.empty", "e")], in: files("one\n  two\n"))
        let text = String(decoding: try encoder.encode(report), as: UTF8.self)
        #expect(
            text == #"""
                {"diagnostics":[{"column":3,"endColumn":5,"endLine":2,"file":"t.yaml","fixIts":[{"column":3,"endColumn":5,\#
                "endLine":2,"file":"t.yaml","line":2,"message":"f","replacement":"\"y\""}],"id":"topology.x","line":2,\#
                "message":"m","notes":[{"message":"n"},{"column":1,"endColumn":2,"endLine":1,"file":"t.yaml","line":1,\#
                "message":"o"}],"severity":"error"},{"fixIts":[],"id":"topology.empty","message":"e","notes":[],\#
                "severity":"error"}],"format":"weft.check","version":1}
                """#)
        #expect(try JSONDecoder().decode(DiagnosticReport.self, from: Data(text.utf8)) == report)
    }
}
