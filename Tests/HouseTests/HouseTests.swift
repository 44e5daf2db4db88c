// The house's own rules, held against its sources: what each target may import, and what stands nowhere.

import Foundation
import Testing

/// What each target may import. The arrows point down; whoever adds one changes this table, and says why.
private let allowed: [String: Set<String>] = [
    "Netlink": ["CLinux", "Glibc"],
    // What an agent decides, without a clock or a socket of its own; its loop is put together where the commands are.
    "WeftAgent": ["WeftDiagnostics", "WeftModel", "WeftPlan", "WeftReconcile", "WeftStatus", "WeftTopology"],
    "WeftDiagnostics": [],
    "WeftFiles": ["CLinux", "Glibc", "WeftDiagnostics"],
    "WeftKeys": ["CLinux", "CSodium", "Glibc", "WeftModel"],
    "WeftLinux": [
        // Diagnostics for the files of a topology, which the state folder keeps.
        "CLinux", "Dispatch", "FoundationEssentials", "Glibc", "Netlink", "Synchronization", "WeftDiagnostics",
        "WeftKeys",
        "WeftModel", "WeftPlan",
    ],
    "WeftLoop": ["CLinux", "Glibc", "Synchronization"],
    "WeftModel": [],
    "WeftPlan": ["WeftModel"],
    "WeftReconcile": ["WeftModel", "WeftPlan"],
    "WeftRender": ["WeftDiagnostics", "WeftModel", "WeftPlan", "WeftStatus"],
    "WeftStatus": ["WeftModel"],
    "WeftTopology": ["WeftDiagnostics", "WeftModel", "YAML"],
    "YAML": ["CYAML", "WeftDiagnostics"],
]

/// These compute, and do nothing else: no I/O, no clock.
private let pure = [
    "WeftDiagnostics", "WeftModel", "WeftPlan", "WeftReconcile", "WeftRender", "WeftStatus", "WeftTopology",
]

private struct SourceFile: CustomTestStringConvertible, Sendable {
    var target: String
    var name: String
    var lines: [String]

    var testDescription: String { "\(target)/\(name)" }

    static let all: [SourceFile] = {
        let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Sources")
        guard let walker = FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil) else {
            return []
        }
        return walker.compactMap { item in
            guard let file = item as? URL, file.pathExtension == "swift",
                let text = try? String(contentsOf: file, encoding: .utf8)
            else { return nil }
            let parts = file.path.dropFirst(sources.path.count + 1).split(separator: "/")
            return SourceFile(
                target: String(parts[0]), name: parts.dropFirst().joined(separator: "/"),
                lines: text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init))
        }
    }()
}

@Suite struct HouseTests {
    @Test func sourcesAreFound() {
        #expect(Set(SourceFile.all.map(\.target)).isSuperset(of: allowed.keys))
    }

    @Test(arguments: SourceFile.all)
    fileprivate func importsFollowTheArrows(file: SourceFile) throws {
        guard let permitted = allowed[file.target] else { return }
        for line in file.lines {
            let words = line.split(separator: " ")
            guard let at = words.firstIndex(of: "import"), at <= 2, !line.hasPrefix(" "), !line.hasPrefix("//") else {
                continue
            }
            let module = String(words[words.count - 1].split(separator: ".")[0])
            #expect(permitted.contains(module), "\(file.target) may not import \(module)")
        }
    }

    @Test(arguments: SourceFile.all)
    fileprivate func saysItsJobFirst(file: SourceFile) {
        #expect(file.lines.first?.hasPrefix("// ") == true, "each file begins with a comment that says its one job")
    }

    /// Output goes through `Terminal`, and what is pure reads no clock.
    @Test(arguments: SourceFile.all)
    fileprivate func nothingGoesAroundTheDoors(file: SourceFile) {
        for line in file.lines where !line.trimmingCharacters(in: .whitespaces).hasPrefix("//") {
            #expect(!line.contains(" print("), "output goes through Terminal: \(line)")
            if pure.contains(file.target) {
                for clock in ["ContinuousClock", "SuspendingClock", "clock_gettime", "Date("] {
                    #expect(!line.contains(clock), "a pure target reads no clock: \(line)")
                }
            }
        }
    }

    /// One module is the door to each C library.
    @Test func eachCLibraryHasOneDoor() {
        for library in ["CSodium", "CYAML"] {
            let users = Set(
                SourceFile.all.filter { $0.lines.contains { $0.contains("import \(library)") } }.map(\.target))
            #expect(users.count == 1, "\(library) is imported by \(users.sorted())")
        }
    }
}
