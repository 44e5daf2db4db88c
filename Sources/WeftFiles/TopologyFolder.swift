// Reads a topology from disk: every file of it, as it was at one moment, or not at all.

internal import CLinux
import Glibc
package import WeftDiagnostics

/// A folder of YAML files, or one such file.
package struct TopologyFolder {
    /// As the user named it.
    package var path: String

    package init(_ path: String) {
        self.path = path
    }

    /// 64 MiB a file; a topology of 100,000 nodes is 20 MB.
    package static let maximumFileSize = 64 << 20
    /// In all files together, in bytes.
    package static let maximumSize = 256 << 20
    package static let maximumFiles = 200_000
    package static let maximumDepth = 32

    /// Reads every `*.yaml` and `*.yml` below the folder in path order, in capitals too; what begins with a dot is not read.
    /// A folder that changes meanwhile is read again, a few times.
    ///
    /// - Returns: the files, and what kept any of them from being read: errors refuse the topology.
    package func read() -> (files: SourceFiles, diagnostics: [Diagnostic]) {
        var attempt = Attempt()
        for round in 1...4 {
            attempt = Attempt()
            attempt.read(path)
            if !attempt.hasChanged { break }
            if round < 4 { usleep(20_000) }
        }
        if attempt.hasChanged {
            attempt.diagnostics = [
                Diagnostic(
                    "folder.unstable", .error,
                    attempt.writtenTo.map { "\($0) is being written to" } ?? "\(path) kept changing while it was read",
                    notes: [Diagnostic.Note("nothing was decided on it; run again when its writer is done")])
            ]
        }
        if attempt.diagnostics.isEmpty, attempt.files.isEmpty {
            attempt.diagnostics.append(
                Diagnostic(
                    "folder.empty", .error, "\(path) holds no *.yaml or *.yml file",
                    notes: [
                        Diagnostic.Note(
                            "put the topology there, in one file or several, with the sections `mesh` and `nodes`; what "
                                + "begins with a dot is not read"),
                        Diagnostic.Note(
                            "an empty folder is never read as an empty mesh: nothing is changed because of it"),
                    ]))
        }
        return (SourceFiles(attempt.diagnostics.isEmpty ? attempt.files : []), attempt.diagnostics)
    }
}

/// A name in a folder.
private struct EntryName: Equatable {
    /// Of one that is not UTF-8, to be shown: other bytes stand there as `\xfc`.
    var text: String
    /// Of one that is not UTF-8, with the zero at its end.
    var bytes: [CChar]?

    init(_ name: UnsafePointer<CChar>) {
        if let text = String(validatingCString: name) {
            self.text = text
            return
        }
        let bytes = UnsafeBufferPointer(start: name, count: strlen(name))
        self.bytes = Array(bytes) + [0]
        text = ""
        var rest = bytes.map { UInt8(bitPattern: $0) }[...]
        while let byte = rest.first {
            let lengths = 1...min(4, rest.count)
            let character = lengths.lazy.compactMap { String(validating: rest.prefix($0), as: UTF8.self) }.first
            text += character ?? "\\x" + String(byte, radix: 16)
            rest = rest.dropFirst(character?.utf8.count ?? 1)
        }
    }
}

/// One reading of the whole folder.
private struct Attempt {
    var files: [SourceFiles.File] = []
    var diagnostics: [Diagnostic] = []
    /// Something moved while it was read.
    var hasChanged = false
    /// A file that somebody had open for writing.
    var writtenTo: String?
    private var total = 0
    private var visited: [Identity] = []
    /// The folder as it was named, and without links; nil where a single file is read.
    private var root: (path: String, real: String)?
    /// The folder in it that was last asked about.
    private var parent: (path: String, real: String?)?
    /// What each file was when it was read, by the path that led to it.
    private var witnesses: [(path: String, version: FileVersion)] = []

    private struct Identity: Equatable {
        var device: UInt
        var inode: UInt

        init(_ status: stat) {
            device = UInt(status.st_dev)
            inode = UInt(status.st_ino)
        }
    }

    /// What changes when a file is written to or another one takes its place.
    private struct FileVersion: Equatable {
        var identity: Identity
        var size: Int
        var modified: timespec
        var changed: timespec

        init(_ status: stat) {
            identity = Identity(status)
            size = Int(status.st_size)
            modified = status.st_mtim
            changed = status.st_ctim
        }

        static func == (left: Self, right: Self) -> Bool {
            left.identity == right.identity && left.size == right.size
                && left.modified.tv_sec == right.modified.tv_sec && left.modified.tv_nsec == right.modified.tv_nsec
                && left.changed.tv_sec == right.changed.tv_sec && left.changed.tv_nsec == right.changed.tv_nsec
        }
    }

    mutating func read(_ path: String) {
        readAll(path)
        // A file that was read early may have become another one while later ones were read: together they would be a
        // topology that never was.
        if !hasChanged, diagnostics.isEmpty { hasChanged = witnesses.contains { !isStill($0.version, $0.path) } }
    }

    private func isStill(_ version: FileVersion, _ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && FileVersion(status) == version
    }

    private mutating func readAll(_ path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else {
            let code = errno
            if code == ENOENT, let target = target(ofLink: path) {
                failDangling(path, target)
            } else {
                fail(path, code, "cannot be read")
            }
            return
        }
        switch status.st_mode & S_IFMT {
        case S_IFDIR:
            root = realPath(path).map { (path, $0) }
            readFolder(path, depth: 0)
        default: readFile(path)
        }
    }

    private mutating func readFolder(_ path: String, depth: Int) {
        guard depth <= TopologyFolder.maximumDepth else {
            diagnostics.append(
                Diagnostic(
                    "folder.too-deep", .error, "\(path) is nested over \(TopologyFolder.maximumDepth) folders deep"))
            return
        }
        guard let before = list(path) else { return }
        for entry in before {
            if files.count > TopologyFolder.maximumFiles || !diagnostics.isEmpty && diagnostics.count > 20 { return }
            let name = entry.text
            let child = path.hasSuffix("/") ? path + name : path + "/" + name
            if let bytes = entry.bytes {
                refuse(child, bytes, in: path)
                continue
            }
            var status = stat()
            guard stat(child, &status) == 0 else {
                let code = errno
                // A link that leads nowhere may have led to a file or to a folder of this topology: without either it would
                // be another one.
                if code == ENOENT, let target = target(ofLink: child) {
                    failDangling(child, target)
                    continue
                }
                if code == ENOENT, lstatExists(child) == false { hasChanged = true }
                if isYAML(name) { fail(child, code, "cannot be read") }
                continue
            }
            if status.st_mode & S_IFMT == S_IFDIR {
                let identity = Identity(status)
                if visited.contains(identity) {
                    diagnostics.append(
                        Diagnostic(
                            "folder.loop", .error, "\(child) leads back to a folder above it",
                            notes: [Diagnostic.Note("remove the symbolic link")]))
                    continue
                }
                visited.append(identity)
                readFolder(child, depth: depth + 1)
                visited.removeLast()
            } else if isYAML(name) {
                readFile(child)
            }
        }
        if list(path) != before { hasChanged = true }
    }

    private func lstatExists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    /// Whether a file of the folder lies elsewhere. Links from one place in it to another are how Kubernetes mounts it.
    private mutating func leadsOut(_ path: String) -> Bool {
        guard let root, let slash = path.lastIndex(of: "/") else { return false }
        let folder = String(path[..<slash])
        if parent?.path != folder { parent = (folder, realPath(folder)) }
        let real = target(ofLink: path) == nil ? parent?.real.map { "\($0)/" } : realPath(path)
        return real?.hasPrefix(root.real == "/" ? "/" : "\(root.real)/") != true
    }

    private func realPath(_ path: String) -> String? {
        guard let real = realpath(path, nil) else { return nil }
        defer { free(real) }
        return String(cString: real)
    }

    /// Where a symbolic link leads, as it says so; nil where there is no link.
    private func target(ofLink path: String) -> String? {
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = bytes.withUnsafeMutableBytes { buffer in
            buffer.baseAddress.map { readlink(path, $0, buffer.count) } ?? -1
        }
        return count < 0 ? nil : String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    private mutating func failDangling(_ path: String, _ target: String) {
        diagnostics.append(
            Diagnostic(
                "folder.dangling-link", .error, "\(path) is a symbolic link to \(target), and there is nothing",
                notes: [Diagnostic.Note("remove the link, or put back what it leads to")]))
    }

    /// Also in capitals, as some editors and file systems have it.
    private func isYAML(_ name: String) -> Bool {
        let end = name.suffix(5).lowercased()
        return end == ".yaml" || end.hasSuffix(".yml")
    }

    /// Nothing is read by a name that is not UTF-8: what belongs to the topology by it is an error.
    ///
    /// - Parameters:
    ///   - child: its path, as it is shown.
    ///   - bytes: its name.
    private mutating func refuse(_ child: String, _ bytes: [CChar], in folder: String) {
        var status = stat()
        let isFolder =
            stat(folder.utf8CString.dropLast() + [CChar(UInt8(ascii: "/"))] + bytes, &status) == 0
            && status.st_mode & S_IFMT == S_IFDIR
        guard isFolder || isYAML(child) else { return }
        diagnostics.append(
            Diagnostic(
                "folder.name-not-utf8", .error, "the name of \(child) is not UTF-8",
                notes: [Diagnostic.Note("rename it; bytes that are not UTF-8 are shown as \\xNN here")]))
    }

    /// Names in a folder, without those that begin with a dot, in order. Nil after an error, which is reported.
    private mutating func list(_ path: String) -> [EntryName]? {
        guard let folder = opendir(path) else {
            fail(path, errno, "cannot be listed")
            return nil
        }
        defer { closedir(folder) }
        var names: [EntryName] = []
        while true {
            errno = 0
            guard let entry = readdir(folder) else { break }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { EntryName($0) }
            }
            if !name.text.hasPrefix(".") { names.append(name) }
        }
        if errno != 0 {
            fail(path, errno, "cannot be listed")
            return nil
        }
        return names.sorted { $0.text.utf8.lexicographicallyPrecedes($1.text.utf8) }
    }

    private mutating func readFile(_ path: String) {
        // Without O_NONBLOCK, opening a FIFO would wait for its writer.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else {
            fail(path, errno, "cannot be opened")
            return
        }
        defer { close(descriptor) }
        // A writer that makes a pause leaves half a file that stands still.
        if isBeingWritten(descriptor) {
            hasChanged = true
            writtenTo = path
            return
        }
        var before = stat()
        guard fstat(descriptor, &before) == 0 else {
            fail(path, errno, "cannot be read")
            return
        }
        guard before.st_mode & S_IFMT == S_IFREG else {
            diagnostics.append(
                Diagnostic(
                    "folder.not-a-file", .error, "\(path) is not a regular file",
                    notes: [Diagnostic.Note("a topology is plain files; move this out of the folder")]))
            return
        }
        guard before.st_mode & S_IROTH != 0 || !leadsOut(path) else {
            if let root, realPath(root.path) != root.real {
                hasChanged = true
                return
            }
            diagnostics.append(
                Diagnostic(
                    "folder.foreign-secret", .error,
                    "\(path) is a file outside the folder, by a symbolic link, that not everybody may read",
                    notes: [
                        Diagnostic.Note("what is wrong in a topology is shown to others: nothing of that file is"),
                        Diagnostic.Note("remove the link, put the file itself here, or let everybody read it"),
                    ]))
            return
        }
        guard before.st_size <= TopologyFolder.maximumFileSize, total + before.st_size <= TopologyFolder.maximumSize
        else {
            diagnostics.append(
                Diagnostic(
                    "folder.too-large", .error,
                    "\(path) is too large: a file may have 64 MiB, and all files of a topology 256 MiB"))
            return
        }
        guard before.st_size > 0 else {
            diagnostics.append(
                Diagnostic(
                    "folder.empty-file", .error, "\(path) is empty",
                    notes: [
                        Diagnostic.Note(
                            "a write that was cut short leaves such a file: it is never read as nodes that are gone. "
                                + "Write it again, or remove it")
                    ]))
            return
        }
        var failure: Int32 = 0
        // One byte more than there is to be: whether the file has grown.
        let bytes = [UInt8](unsafeUninitializedCapacity: before.st_size + 1) { buffer, count in
            while count < buffer.count, let base = buffer.baseAddress {
                let got = Glibc.read(descriptor, base + count, buffer.count - count)
                if got < 0, errno == EINTR { continue }
                if got < 0 { failure = errno }
                if got <= 0 { break }
                count += got
            }
        }
        if failure != 0 {
            fail(path, failure, "cannot be read")
            return
        }
        var after = stat()
        let version = FileVersion(before)
        let same = fstat(descriptor, &after) == 0 && bytes.count == before.st_size && FileVersion(after) == version
        witnesses.append((path, version))
        if !same { hasChanged = true }
        total += bytes.count
        files.append(SourceFiles.File(name: path, bytes: bytes))
    }

    /// Whether somebody has an open file open for writing: the kernel grants a read lease only where nobody has. Whoever
    /// opens it to write waits until this descriptor is closed, so that what is read is whole. Where the kernel does not
    /// say (another user's file, a file system without leases), the file's times have to do.
    private func isBeingWritten(_ descriptor: Int32) -> Bool {
        // By the signal the kernel asks to have the lease back. SIGIO would end the process; this one is ignored.
        _ = fcntl(descriptor, weft_f_setsig, SIGURG)
        return fcntl(descriptor, weft_f_setlease, Int32(F_RDLCK)) != 0 && errno == EAGAIN
    }

    private mutating func fail(_ path: String, _ code: Int32, _ what: String) {
        var notes: [Diagnostic.Note] = []
        switch code {
        case ENOENT:
            notes.append(
                Diagnostic.Note("name the topology's folder as the argument, or put it where weft looks for it"))
        case EACCES, EPERM:
            notes.append(Diagnostic.Note("read it as a user who may, or give this one access"))
        case ELOOP:
            notes.append(Diagnostic.Note("a symbolic link leads in a circle"))
        default: break
        }
        diagnostics.append(
            Diagnostic("folder.unreadable", .error, "\(path) \(what): \(String(cString: strerror(code)))", notes: notes)
        )
    }
}
