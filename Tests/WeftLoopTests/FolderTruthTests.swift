// Whatever is done to a folder: who reads it whenever the watch says so has the truth in the end.

import Glibc
import Testing
import WeftLoop

/// What a topology would be read from: each file's text by its path, along links, as `TopologyFolder` goes; circles end
/// soon.
private func snapshot(_ path: String, depth: Int = 0) -> [String: String] {
    var status = stat()
    guard depth < 5, stat(path, &status) == 0 else { return [path: "nothing"] }
    guard status.st_mode & S_IFMT == S_IFDIR else { return [path: contents(of: path)] }
    var result: [String: String] = [:]
    guard let folder = opendir(path) else { return [path: "closed"] }
    defer { closedir(folder) }
    while let entry = readdir(folder) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name.hasPrefix(".") { continue }
        let child = "\(path)/\(name)"
        let isFolder = stat(child, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
        guard isFolder || name.hasSuffix(".yaml") else { continue }
        result.merge(snapshot(child, depth: depth + 1)) { $1 }
    }
    return result
}

private func contents(of path: String) -> String {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = read(file, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
}

/// Does random things to a few names below a folder, so that they often meet.
private struct Vandal {
    let root: String
    var random = SystemRandomNumberGenerator()
    var round = 0

    private static let names = ["a.yaml", "b.yaml", "one", "two", "..data", "note"]

    private mutating func path() -> String {
        let depth = Int.random(in: 1...3, using: &random)
        let parts = (0..<depth).map { _ in Self.names.randomElement(using: &random) ?? "" }
        return ([root, "mesh"] + parts).joined(separator: "/")
    }

    mutating func act() {
        round += 1
        let (path, other) = (path(), path())
        switch Int.random(in: 0..<22, using: &random) {
        case 0..<5: write(path, O_TRUNC)
        case 5: write(path, O_APPEND)
        case 6..<9: mkdir(path, 0o755)
        case 9, 10: rename(path, other)
        case 11: unlink(path)
        case 12: rmdir(path)
        case 13: symlink(other, path)
        case 14: symlink(Self.names.randomElement(using: &random) ?? "", path)
        case 15: replaceLink(path, with: Self.names.randomElement(using: &random) ?? "")
        case 16: replaceLink(path, with: other)
        case 17: write(path, O_APPEND)
        case 18: truncate(path, 1)
        case 19: chmod(path, 0o755)
        case 20 where round % 7 == 0: moveRoot()
        case 21 where round % 5 == 0: shell("rm -rf '\(path)'")
        default: write("\(root)/beside.yaml", O_TRUNC)
        }
    }

    private func write(_ path: String, _ flag: Int32) {
        let file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flag, 0o644)
        guard file >= 0 else { return }
        let text = "\(round)\n"
        _ = text.withCString { Glibc.write(file, $0, strlen($0)) }
        close(file)
    }

    private func replaceLink(_ path: String, with target: String) {
        let temporary = "\(root)/temporary"
        symlink(target, temporary)
        if rename(temporary, path) != 0 { unlink(temporary) }
    }

    private mutating func moveRoot() {
        if rename("\(root)/mesh", "\(root)/away") != 0 { rename("\(root)/away", "\(root)/mesh") }
        if Bool.random(using: &random) { mkdir("\(root)/mesh", 0o755) }
        if Bool.random(using: &random), rename("\(root)/mesh", "\(root)/third") == 0 {
            symlink("third", "\(root)/mesh")
        }
    }
}

@Suite struct FolderTruthTests {
    @Test(arguments: 0..<8)
    func everyChangeIsTold(run: Int) throws {
        let folder = TemporaryFolder()
        var vandal = Vandal(root: folder.path)
        mkdir("\(folder.path)/mesh", 0o755)
        let watch = try FolderWatch("\(folder.path)/mesh")
        var known = snapshot("\(folder.path)/mesh")
        for _ in 0..<500 {
            for _ in 0...(run % 4) { vandal.act() }
            let change = watch.drain()
            if change.isDirty {
                watch.rearm()
                known = snapshot("\(folder.path)/mesh")
            } else {
                let truth = snapshot("\(folder.path)/mesh")
                try #require(truth == known)
            }
        }
        #expect(!watch.isBlind)
    }

    @Test func whoReadsWhileItChangesHasTheTruthInTheEnd() throws {
        for _ in 0..<20 {
            let folder = TemporaryFolder()
            mkdir("\(folder.path)/mesh", 0o755)
            let watch = try FolderWatch("\(folder.path)/mesh")
            var known = snapshot("\(folder.path)/mesh")
            let root = folder.path
            let writer = Thread {
                var vandal = Vandal(root: root)
                for _ in 0..<300 { vandal.act() }
                mkdir("\(root)/done", 0o755)
            }
            var isOver = false
            while true {
                isOver = access("\(root)/done", F_OK) == 0
                let change = watch.drain()
                if change.isDirty {
                    watch.rearm()
                    known = snapshot("\(root)/mesh")
                } else if isOver {
                    break
                }
            }
            writer.join()
            let truth = snapshot("\(root)/mesh")
            let difference = Set(truth.keys).union(known.keys).filter { truth[$0] != known[$0] }.sorted()
            try #require(difference.isEmpty)
        }
    }
}
