// When a folder is read, and when what was read is not trusted.

import Glibc
import Testing
import WeftLoop

@testable import WeftCommand

/// A folder whose files are put in place and taken away by renaming: no file is open.
private final class Files {
    let path: String

    init(_ names: String...) {
        var template = Array("/tmp/weft-watch.XXXXXX".utf8CString)
        path = String(cString: mkdtemp(&template))
        for name in names { close(open("\(path)/.\(name)", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)) }
    }

    deinit {
        for name in all { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    private var all: [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    var names: [String] { all.filter { !$0.hasPrefix(".") } }

    func put(_ name: String) { rename("\(path)/.\(name)", "\(path)/\(name)") }
    func take(_ name: String) { rename("\(path)/\(name)", "\(path)/.\(name)") }
}

@Suite struct TopologyWatchTests {
    /// The folder cannot be used while fra's file is away, which is found; then the file comes, before it is read.
    @Test func whatComesAfterTheLookIsNotReadAlone() throws {
        let files = Files("ana.yaml", "fra.yaml")
        files.put("ana.yaml")
        files.put("fra.yaml")
        let loop = try EventLoop()
        var watch: TopologyWatch!
        var readings: [[String]?] = []
        watch = try TopologyWatch(
            files.path, in: loop, warn: { _ in },
            lacksNodes: { files.names.contains("fra.yaml") ? !files.names.contains("ana.yaml") : nil },
            seen: {
                switch readings.count {
                case 0:
                    readings.append(watch.read { files.names })
                    files.take("ana.yaml")
                    files.take("fra.yaml")
                case 1:
                    files.put("fra.yaml")
                    readings.append(watch.read { files.names })
                    loop.schedule(after: .milliseconds(200)) { files.put("ana.yaml") }
                default:
                    readings.append(watch.read { files.names })
                    loop.stop()
                }
            })
        try watch.begin()
        loop.run()
        #expect(readings == [["ana.yaml", "fra.yaml"], nil, ["ana.yaml", "fra.yaml"]])
    }

    @Test func whatComesWhileItIsReadIsReadAgain() throws {
        let files = Files("ana.yaml", "fra.yaml")
        files.put("ana.yaml")
        let loop = try EventLoop()
        var watch: TopologyWatch!
        var readings: [[String]?] = []
        watch = try TopologyWatch(
            files.path, in: loop, warn: { _ in }, lacksNodes: { false },
            seen: {
                let isFirst = readings.isEmpty
                readings.append(
                    watch.read {
                        defer { if isFirst { files.put("fra.yaml") } }
                        return files.names
                    })
                if !isFirst { loop.stop() }
            })
        try watch.begin()
        loop.run()
        #expect(readings == [nil, ["ana.yaml", "fra.yaml"]])
    }

    @Test func whoNeverStopsWritingIsNotWaitedForWithoutEnd() throws {
        let files = Files("ana.yaml")
        files.put("ana.yaml")
        let loop = try EventLoop()
        var warnings: [String] = []
        var reading: [String]?
        var writer: Int32 = -1
        var watch: TopologyWatch!
        watch = try TopologyWatch(
            files.path, in: loop, writing: .seconds(1), warn: { warnings.append($0) }, lacksNodes: { false },
            seen: {
                if writer < 0 {
                    _ = watch.read {}
                    writer = open("\(files.path)/ana.yaml", O_WRONLY | O_CLOEXEC)
                    write(writer, "a", 1)
                    return
                }
                // It goes on, right before the folder is read.
                write(writer, "b", 1)
                reading = watch.read { files.names }
                loop.stop()
            })
        try watch.begin()
        loop.run()
        close(writer)
        #expect(reading == ["ana.yaml"])
        #expect(warnings.count == 1)
        #expect(warnings.first?.contains("writing for 1 s, and is not waited for: \(files.path)/ana.yaml") == true)
    }
}
