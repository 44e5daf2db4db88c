// Each fixture is a folder of topology files and the exact text of what reading them says.
//
// `WEFT_UPDATE_GOLDENS=1 swift test --filter FixtureTests` rewrites every expected.txt; a person reads them before they
// are committed.

import Foundation
import Testing
import WeftDiagnostics
import WeftRender
import WeftTopology

private let fixtures = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")

/// The names of all fixture folders.
private let fixtureNames: [String] = {
    let names = try? FileManager.default.contentsOfDirectory(atPath: fixtures.path)
    return (names ?? []).filter { !$0.hasPrefix(".") }.sorted()
}()

@Suite struct FixtureTests {
    @Test(arguments: fixtureNames)
    func saysWhatIsExpected(name: String) throws {
        let folder = fixtures.appending(path: name)
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path)
            .filter { $0.hasSuffix(".yaml") || $0.hasSuffix(".yml") }.sorted()
            .map { SourceFiles.File(name: $0, bytes: Array(try Data(contentsOf: folder.appending(path: $0)))) }
        let sources = SourceFiles(files)
        let (topology, diagnostics) = TopologyReader.read(sources)
        #expect((topology == nil) == diagnostics.contains { $0.severity == .error })
        var text = DiagnosticText().render(diagnostics, in: sources)
        if text.isEmpty { text = "nothing to say\n" }

        let expected = folder.appending(path: "expected.txt")
        if ProcessInfo.processInfo.environment["WEFT_UPDATE_GOLDENS"] == "1" {
            try Data(text.utf8).write(to: expected)
        }
        let golden = try? String(contentsOf: expected, encoding: .utf8)
        #expect(text == golden)
    }

    /// Whatever has the shape of a key and does not stand under `publicKey` is in no message, in no form.
    @Test(arguments: fixtureNames.filter { $0.contains("secret") || $0.contains("private") || $0.contains("-key") })
    func keepsSecrets(name: String) throws {
        let folder = fixtures.appending(path: name)
        let path = folder.appending(path: "corp.yaml")
        guard let source = try? String(contentsOf: path, encoding: .utf8) else { return }
        let files = SourceFiles([SourceFiles.File(name: "corp.yaml", bytes: Array(source.utf8))])
        let diagnostics = TopologyReader.read(files).diagnostics
        let text = DiagnosticText().render(diagnostics, in: files)
        let json = String(decoding: try JSONEncoder().encode(DiagnosticReport(diagnostics, in: files)), as: UTF8.self)
            .replacing("\\/", with: "/")
        for match in source.matches(of: #/(ublicKey"?: *"?)?([A-Za-z0-9+\/]{43}=)/#) where match.1 == nil {
            #expect(!text.contains(match.2), "\(match.2)")
            #expect(!json.contains(match.2), "\(match.2)")
        }
    }

    @Test func thereAreFixtures() {
        #expect(fixtureNames.count > 120)
    }
}
