// Whole outputs kept as files: WEFT_UPDATE_GOLDENS=1 rewrites them, and a person reads them before they are committed.

import Foundation
import Testing

/// Compares `text` with the golden file of that name beside this file.
func expectGolden(_ text: String, _ name: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Goldens")
    let file = folder.appending(path: name)
    if ProcessInfo.processInfo.environment["WEFT_UPDATE_GOLDENS"] == "1" {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
        return
    }
    let golden = try String(contentsOf: file, encoding: .utf8)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    let goldenLines = golden.split(separator: "\n", omittingEmptySubsequences: false)
    for (index, pair) in zip(lines, goldenLines).enumerated() where pair.0 != pair.1 {
        Issue.record(
            "\(name):\(index + 1):\n  golden: \(pair.1)\n  now:    \(pair.0)", sourceLocation: sourceLocation)
        return
    }
    #expect(lines.count == goldenLines.count, "\(name)", sourceLocation: sourceLocation)
}
