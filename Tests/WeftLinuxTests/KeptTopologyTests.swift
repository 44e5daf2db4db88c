// The topology in force, kept in the state folder: found again, whole, and gone with its last interface.

import Glibc
import Testing
import WeftDiagnostics
import WeftModel
import WeftPlan

@testable import WeftLinux

extension StateFolderTests {
    @Test func remembersTheTopologyInForce() throws {
        let files = SourceFiles([SourceFiles.File(name: "/etc/weft/topology/a.yaml", bytes: Array("mesh: {}".utf8))])
        #expect(try folder().topology(inForceOn: "wg0") == nil)
        try folder().keep(files, of: "/etc/weft/topology", for: "wg0")
        let found = try folder(boot: "b").topology(inForceOn: "wg0")
        #expect(found?.root == "/etc/weft/topology")
        #expect(found?.files.files.map(\.bytes) == files.files.map(\.bytes))
        // It outlives what else is remembered of the interface.
        try folder().store(try memory(), of: "wg0")
        #expect(try folder().topology(inForceOn: "wg0") != nil)
        // Damaged, it is not used.
        let kept = try #require(SmallFile.names(in: "\(temporary.path)/state/host").first { $0.hasSuffix(".kept") })
        temporary.write("weft-topology 1 0000\n", to: "state/host/\(kept)")
        #expect(throws: DataplaneError.self) { try folder().topology(inForceOn: "wg0") }
        try folder().forget("wg0")
        #expect(try folder().topology(inForceOn: "wg0") == nil)
        #expect(SmallFile.names(in: "\(temporary.path)/state/host").isEmpty)
    }

    /// One copy is kept for an interface, by whatever path the next topology comes.
    @Test func aCopyGoesWithItsLastInterface() throws {
        func keep(_ text: String, of root: String, for interface: String) throws {
            let files = SourceFiles([
                .init(name: root.hasSuffix("/") ? root + "a" : root + "/a", bytes: Array(text.utf8))
            ])
            try folder().keep(files, of: root, for: interface)
        }
        func copies() -> Int {
            SmallFile.names(in: "\(temporary.path)/state/host").filter { $0.hasSuffix(".kept") }.count
        }
        func found(_ interface: String) throws -> String? {
            let kept = try folder().topology(inForceOn: interface)
            return kept.map { "\($0.root): \(String(decoding: $0.files[0].bytes, as: UTF8.self))" }
        }
        try keep("1", of: "/t", for: "wg0")
        try keep("2", of: "/releases/2", for: "wg0")
        #expect(try copies() == 1 && found("wg0") == "/releases/2: 2")
        // What another interface has stays, until that lets it go.
        try keep("2", of: "/releases/2", for: "wg1")
        try keep("3", of: "/releases/3", for: "wg0")
        #expect(try copies() == 2 && found("wg1") == "/releases/2: 2" && found("wg0") == "/releases/3: 3")
        try keep("3", of: "/releases/3", for: "wg1")
        #expect(copies() == 1)
        try folder().forget("wg0")
        #expect(try copies() == 1 && found("wg0") == nil && found("wg1") == "/releases/3: 3")
        // A record that cannot be read may name it.
        temporary.write("nonsense", to: "state/host/wg2.json")
        try keep("4", of: "/t", for: "wg1")
        #expect(try copies() == 2 && found("wg1") == "/t: 4")
        temporary.remove("state/host/wg2.json")
        try folder().forget("wg1")
        #expect(copies() == 1 && folder().interfaces.isEmpty)
    }

    @Test func spellingsOfAPathAreOne() throws {
        let current = try #require(getcwd(nil, 0).map { String(cString: $0) })
        for (root, place) in [
            ("/t/u", "/t/u"), ("/t/u/", "/t/u"), ("/t/./u", "/t/u"), ("//t//u", "/t/u"), (".", current),
            ("x/", "\(current)/x"), ("/t/../u", "/t/../u"),
        ] {
            let file = root.hasSuffix("/") ? "\(root)a.yaml" : "\(root)/a.yaml"
            let files = SourceFiles([.init(name: file, bytes: Array("nodes: {}".utf8))])
            try folder().keep(files, of: root, for: "wg0")
            let found = try #require(try folder().keptTopology(of: place))
            #expect(found.root == place && found.files.files.map(\.name) == ["\(place)/a.yaml"], "\(root)")
            #expect(found.files.revision(below: place) == files.revision(below: root), "\(root)")
            #expect(try folder().topology(inForceOn: "wg0")?.root == place)
            #expect(SmallFile.names(in: "\(temporary.path)/state/host").filter { $0.hasSuffix(".kept") }.count == 1)
        }
        // A single file.
        let file = SourceFiles([.init(name: "./m.yaml", bytes: [7])])
        try folder().keep(file, of: "./m.yaml", for: "wg0")
        #expect(try folder().keptTopology(of: "m.yaml")?.files.files.map(\.name) == ["\(current)/m.yaml"])
    }

    /// As an earlier weft wrote it: by the path as it was given.
    @Test func aCopyOfAnEarlierWeftIsReadAndReplaced() throws {
        let files = SourceFiles([.init(name: "t/a.yaml", bytes: [7])])
        try folder().store(try memory(), of: "wg0")
        let hash = String(MeshIdentity.hash("t/"), radix: 16)
        temporary.write(
            String(decoding: files.kept(below: "t/"), as: UTF8.self), to: "state/host/topology-\(hash).kept")
        #expect(try folder().store(topology: "t/", of: "wg0") == nil)
        #expect(try folder().topology(inForceOn: "wg0")?.files.files.map(\.name) == ["t/a.yaml"])
        try folder().keep(files, of: "t/", for: "wg0")
        #expect(try folder().topology(inForceOn: "wg0")?.root.hasSuffix("/t") == true)
        #expect(folder().strayTopologies == [])
    }

    /// Wherever it is killed, the record names a copy that is there.
    @Test func killedAtAnyMomentTheRecordsCopyIsThere() async throws {
        let path = "\(temporary.path)/state"
        for delay in stride(from: 2_000, to: 42_000, by: 2_000) as StrideTo<UInt32> {
            await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, delay = delay as UInt32] in
                let state = StateFolder(path: path, namespace: "host", bootID: "a")
                alarmKill(after: delay)
                for number in 0..<Int.max {
                    let root = "/releases/\(number % 3)"
                    let files = SourceFiles([.init(name: "\(root)/a.yaml", bytes: Array("\(number)".utf8))])
                    try? state.keep(files, of: root, for: number % 2 == 0 ? "wg0" : "wg1")
                    if number % 50 == 49 { try? state.forget("wg0") }
                }
            }
            let state = folder()
            for interface in ["wg0", "wg1"] where state.wasInForce(on: interface) {
                #expect(try state.topology(inForceOn: interface) != nil)
            }
            #expect(state.problems.isEmpty)
        }
    }

    /// A record is lost, and with it which topology was in force: that it lies there is said, at once and when the mesh goes.
    @Test func aTopologyWithoutARecordIsNamed() throws {
        let files = SourceFiles([.init(name: "/t/mesh.yaml", bytes: Array("mesh: {}".utf8))])
        for (root, interface) in [("/t", "wg0"), ("/u", "wg1")] { try folder().keep(files, of: root, for: interface) }
        #expect(folder().keptAside(of: "wg0") == [])
        temporary.write("nonsense", to: "state/host/wg0.json")
        let state = folder()
        _ = try state.meshMemory(of: "wg0")
        let strays = state.strayTopologies
        #expect(strays.count == 1 && strays[0].hasSuffix(".kept"))
        #expect(state.problems.first?.message.contains("nor is the topology that was in force (\(strays[0]))") == true)
        // The same problem is one, however it is read.
        _ = try state.programToken(of: "wg0")
        #expect(state.problems.count == 1)
        try state.forget("wg0")
        #expect(folder().keptAside(of: "wg0") == strays)
        // Kept anew, it is nobody's no longer.
        try folder().keep(files, of: "/t", for: "wg0")
        #expect(folder().keptAside(of: "wg0") == [])
    }
}
