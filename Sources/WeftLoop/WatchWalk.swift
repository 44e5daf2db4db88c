// Finds everything that must be watched so that no change of a topology goes unseen.

import Glibc

/// A folder that is watched, and which of its names matter.
struct WatchedFolder {
    /// Without links.
    var path: String
    /// Whether it is part of the topology: then every name matters that a topology is read from.
    var isTopology = false
    /// What the topology is reached through: parts of its path, and of the paths of links.
    var names: Set<String> = []
}

/// One walk from the root of the file system to the topology and through it, along every link. A folder is watched
/// before it is looked into: what changes later is told.
struct WatchWalk {
    let inotify: Inotify
    /// By watch.
    private(set) var folders: [Int32: WatchedFolder] = [:]
    /// The folders in which git keeps the indices of the repositories that the topology is in.
    private(set) var repositories: Set<String> = []
    /// Files of topologies in folders for which `isNew` is true, which may be open for writing: nobody has told.
    private(set) var newFiles: [(watch: Int32, name: String)] = []
    /// Why some changes will not be told; nil where all will be.
    private(set) var problem: String?

    private let isNew: (Int32) -> Bool
    private var entries = 0
    private var foldersAskedForRepositories: Set<String> = []

    private static let maximumLinks = 40
    private static let maximumDepth = 32
    private static let maximumEntries = 200_000

    /// - Parameters:
    ///   - path: absolute.
    ///   - isNew: whether the folder of that watch was not part of the topology before.
    init(_ path: String, _ inotify: Inotify, isNew: @escaping (Int32) -> Bool) {
        self.inotify = inotify
        self.isNew = isNew
        if let end = follow(path, from: "/"), end.isFolder { enter(end.path, depth: 0) }
    }

    /// Goes along a path as the kernel does, and watches for each of its names in the folder that has it, so that it is
    /// also seen when one comes, goes, or becomes another.
    ///
    /// - Parameter base: a folder's path, without links.
    /// - Returns: where it ends, without links; nil where that is nowhere.
    private mutating func follow(_ path: String, from base: String) -> (path: String, isFolder: Bool)? {
        var current = base
        var rest = Array(path.split(separator: "/").reversed())
        var links = 0
        while let name = rest.popLast().map(String.init) {
            if name == "." { continue }
            if name == ".." {
                current = Self.parent(of: current)
                continue
            }
            guard let watch = watch(current, Inotify.names) else { return nil }
            folders[watch]?.names.insert(name)
            let next = Self.join(current, name)
            var status = stat()
            guard lstat(next, &status) == 0 else { return nil }
            switch status.st_mode & S_IFMT {
            case S_IFDIR:
                current = next
            case S_IFLNK:
                links += 1
                guard links <= Self.maximumLinks, let target = Self.target(of: next) else { return nil }
                if target.hasPrefix("/") { current = "/" }
                rest += target.split(separator: "/").reversed()
            default:
                guard rest.isEmpty else { return nil }
                if self.watch(current, Inotify.contents) != nil, isNew(watch) { newFiles.append((watch, name)) }
                findRepository(of: current)
                return (next, false)
            }
        }
        findRepository(of: current)
        return (current, true)
    }

    /// Watches a folder of the topology and those below it.
    private mutating func enter(_ path: String, depth: Int) {
        guard depth <= Self.maximumDepth, let watch = watch(path, Inotify.contents) else { return }
        // A link that leads back to it: what is below is known.
        if folders[watch]?.isTopology == true { return }
        folders[watch]?.isTopology = true
        guard let folder = opendir(path) else { return }
        var below: [(name: String, isLink: Bool)] = []
        let isNew = isNew(watch)
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard !name.hasPrefix(".") else { continue }
            entries += 1
            switch kind(of: entry.pointee.d_type, path, name) {
            case S_IFDIR: below.append((name, false))
            case S_IFLNK: below.append((name, true))
            case S_IFREG: if isNew, isTopologyFile(name) { newFiles.append((watch, name)) }
            default: break
            }
        }
        closedir(folder)
        for (name, isLink) in below {
            guard entries <= Self.maximumEntries else {
                problem = "there are more than \(Self.maximumEntries) files below \(path)"
                return
            }
            if !isLink {
                enter(Self.join(path, name), depth: depth + 1)
            } else if let end = follow(name, from: path), end.isFolder {
                enter(end.path, depth: depth + 1)
            }
        }
    }

    private func kind(of type: UInt8, _ path: String, _ name: String) -> mode_t? {
        switch Int(type) {
        case DT_DIR: return S_IFDIR
        case DT_LNK: return S_IFLNK
        case DT_REG: return S_IFREG
        case DT_UNKNOWN:
            var status = stat()
            return lstat(Self.join(path, name), &status) == 0 ? status.st_mode & S_IFMT : nil
        default: return nil
        }
    }

    private mutating func watch(_ path: String, _ events: Int32) -> Int32? {
        guard let watch = inotify.add(path, events) else {
            // Gone meanwhile, and its parent's watch tells of it. A folder of the topology that may not be read is told
            // of by its parent as well, when it becomes one that may.
            let isTold = errno == ENOENT || errno == ENOTDIR || (errno == EACCES && events == Inotify.contents)
            if !isTold {
                let remedy = Inotify.remedy(errno)
                problem =
                    "cannot watch \(path): \(systemText(errno))" + (remedy.isEmpty ? "" : "; \(remedy)")
            }
            return nil
        }
        if folders[watch] == nil { folders[watch] = WatchedFolder(path: path) }
        return watch
    }

    /// Looks for the repository that a folder lies in, and watches for the lock on its index.
    private mutating func findRepository(of path: String) {
        var path = path
        while foldersAskedForRepositories.insert(path).inserted {
            // One that is made later is seen too, where the folder is watched anyway.
            if let watch = folders.first(where: { $0.value.path == path })?.key { folders[watch]?.names.insert(".git") }
            if let repository = GitLock.repository(at: path) {
                repositories.insert(repository)
                if let watch = watch(repository, Inotify.names) { folders[watch]?.names.insert(GitLock.name) }
                return
            }
            if path == "/" { return }
            path = Self.parent(of: path)
        }
    }

    // MARK: Paths

    static func join(_ folder: String, _ name: String) -> String {
        folder.hasSuffix("/") ? folder + name : folder + "/" + name
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash != path.startIndex else { return "/" }
        return String(path[..<slash])
    }

    private static func target(of path: String) -> String? { linkTarget(path) }
}

/// Whether a topology is read from files of that name. `.YAML` is no less YAML.
func isTopologyFile(_ name: String) -> Bool {
    if name.hasPrefix(".") { return false }
    let end = name.suffix(5).lowercased()
    return end == ".yaml" || end.hasSuffix(".yml")
}

/// Where a symbolic link leads, as it says so; nil where there is none.
func linkTarget(_ path: String) -> String? {
    withUnsafeTemporaryAllocation(byteCount: Int(PATH_MAX), alignment: 1) { buffer in
        guard let start = buffer.baseAddress else { return nil }
        let count = readlink(path, start.assumingMemoryBound(to: CChar.self), buffer.count)
        return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
    }
}
