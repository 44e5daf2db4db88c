// Broken input never breaks the reader: each damaged topology is either a topology, or at least one error.

import Foundation
import Testing
import WeftDiagnostics
import WeftRender
import WeftTestSupport
import WeftTopology

private let pieces: [String] = [
    "\n", "  ", "\t", ":", ": ", "- ", "[", "]", "{", "}", ",", "\"", "'", "#", "&a ", "*a", "!!x ", "|\n", ">\n", "? ",
    "~",
    "null", "yes", "0", "-1", "4294967296", "1e3", "1:30", "10.80.0.1", "10.80.0.0/16", "0.0.0.0/0", "::/0", "fd80::1",
    "fra", "ams", "internet", "full", "hubs", "privateKey: x", "nodes:\n", "groups: {a: [a]}\n", "\u{0}", "\u{202E}",
    "é",
    "名", "\r", "%", "@", "---\n", "...\n", "<<: ", "[2001:db8::7]:51820",
]

@Suite struct MutationTests {
    private static let original: [UInt8] = {
        let path = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures/contract/corp.yaml")
        return (try? Data(contentsOf: path)).map { Array($0) } ?? []
    }()

    private func damage(_ bytes: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
        var result = bytes
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
            let position = Int.random(in: 0...result.count, using: &generator)
            let end = min(result.count, position + Int.random(in: 0...12, using: &generator))
            switch Int.random(in: 0..<6, using: &generator) {
            case 0: result.removeSubrange(position..<end)
            case 1:
                let piece = pieces.randomElement(using: &generator) ?? ""
                result.insert(contentsOf: Array(piece.utf8), at: position)
            case 2:
                let piece = pieces.randomElement(using: &generator) ?? ""
                result.replaceSubrange(position..<end, with: Array(piece.utf8))
            case 3 where position < result.count: result[position] = UInt8.random(in: 0...255, using: &generator)
            case 4:
                // A piece of the file stands somewhere else, too.
                let from = Int.random(in: 0...result.count, using: &generator)
                let to = min(result.count, from + Int.random(in: 0...200, using: &generator))
                result.insert(contentsOf: Array(result[from..<to]), at: position)
            default: result.removeSubrange(position..<min(result.count, position + 300))
            }
        }
        return result
    }

    @Test(arguments: 0..<40)
    func damagedTopologiesAreToldApart(seed: Int) {
        #expect(!Self.original.isEmpty)
        var generator = SeededGenerator(seed: UInt64(seed))
        for round in 0..<50 {
            let bytes = damage(Self.original, &generator)
            let files = SourceFiles([SourceFiles.File(name: "t.yaml", bytes: bytes)])
            let (topology, diagnostics) = TopologyReader.read(files)
            let hasErrors = diagnostics.contains { $0.severity == .error }
            #expect((topology == nil) == hasErrors, "seed \(seed), round \(round)")
            // Whatever stands there can be shown.
            let text = DiagnosticText().render(diagnostics, in: files)
            #expect(text.isEmpty == diagnostics.isEmpty)
            let hostile = text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" || $0.value == 0x202E }
            #expect(!hostile, "seed \(seed), round \(round)")
            let places = diagnostics.compactMap(\.place)
            #expect(places == places.sorted { ($0.file, $0.start) < ($1.file, $1.start) } || places == places.sorted())
        }
    }
}
