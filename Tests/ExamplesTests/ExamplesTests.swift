// Every topology under Examples/ is right, and means for each of its nodes what the plan beside it says.
//
// WEFT_UPDATE_GOLDENS=1 rewrites the plans; a person reads them before they are committed.

import Foundation
import Testing
import WeftDiagnostics
import WeftFiles
import WeftModel
import WeftPlan
import WeftRender
import WeftTopology

private let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("Examples")

private let examples: [String] = {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.filter { name in
        var isFolder: ObjCBool = false
        return FileManager.default.fileExists(atPath: folder.appendingPathComponent(name).path, isDirectory: &isFolder)
            && isFolder.boolValue
    }.sorted()
}()

@Suite struct ExamplesTests {
    @Test func thereAreExamples() {
        #expect(examples.count >= 3)
    }

    @Test(arguments: examples)
    func plansAreAsExpected(example: String) throws {
        let path = folder.appendingPathComponent(example).path
        let (files, problems) = TopologyFolder(path).read()
        #expect(problems.isEmpty)
        let (read, diagnostics) = TopologyReader.read(files)
        #expect(diagnostics.filter { $0.severity != .note }.isEmpty)
        let topology = try #require(read)
        let time = UnixTime(seconds: 1_800_000_000)
        var expected = Set(try names(in: "\(path)/plans"))
        for (index, node) in topology.nodes.enumerated() {
            let desired = topology.compile(for: index, facts: HostFacts(), at: time).desired
            var observed = Observation(time: time)
            // As Linux comes up, and before there is a link.
            observed.state.sysctls = desired.state.sysctls.filter { !$0.isOwn(of: desired.interface) }
                .map { Sysctl($0.path, $0.path.hasSuffix("send_redirects") ? "1" : "0") }
            let plan = Plan(mesh: desired.identity, desired: desired, observed: observed, memory: MeshMemory())
            let text = PlanText(plan, labels: PlanLabels(desired)).text
            let file = "\(path)/plans/\(node.name).txt"
            if ProcessInfo.processInfo.environment["WEFT_UPDATE_GOLDENS"] == "1" {
                try FileManager.default.createDirectory(atPath: "\(path)/plans", withIntermediateDirectories: true)
                try text.write(toFile: file, atomically: true, encoding: .utf8)
            }
            #expect(try String(contentsOfFile: file, encoding: .utf8) == text, "the plan of \(node.name)")
            expected.remove("\(node.name).txt")
        }
        #expect(expected.isEmpty, "plans of nodes that are not in the topology")
    }

    private func names(in path: String) throws -> [String] {
        FileManager.default.fileExists(atPath: path) ? try FileManager.default.contentsOfDirectory(atPath: path) : []
    }
}
