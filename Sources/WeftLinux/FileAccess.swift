// Whole small files: read with a limit, and replaced so that a crash leaves the old one or the new one.

internal import CLinux
internal import Glibc
internal import Netlink
internal import WeftPlan

/// An open file descriptor, closed when it is let go.
struct FileDescriptor: ~Copyable {
    let rawValue: Int32

    init(_ rawValue: Int32) { self.rawValue = rawValue }

    deinit { close(rawValue) }

    /// Opens a path; see open(2). Never inherited by programs that are started.
    static func open(_ path: String, _ flags: Int32, mode: mode_t = 0) throws(Errno) -> FileDescriptor {
        let descriptor = retryingEINTR { unsafe Glibc.open(path, flags | O_CLOEXEC, mode) }
        guard descriptor >= 0 else { throw Errno(errno) }
        return FileDescriptor(descriptor)
    }

    /// Reads to the end, or fails with EFBIG where there is more than `limit` bytes.
    func readAll(limit: Int) throws(Errno) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: min(limit + 1, 65536))
        while true {
            let count = retryingEINTR { unsafe read(rawValue, &chunk, chunk.count) }
            guard count >= 0 else { throw Errno(errno) }
            if count == 0 { return bytes }
            bytes += chunk.prefix(count)
            if bytes.count > limit { throw Errno(EFBIG) }
        }
    }

    func writeAll(_ bytes: [UInt8]) throws(Errno) {
        var done = 0
        while done < bytes.count {
            let count = unsafe bytes.withUnsafeBufferPointer { buffer in
                retryingEINTR { unsafe write(rawValue, buffer.baseAddress?.advanced(by: done), buffer.count - done) }
            }
            guard count >= 0 else { throw Errno(errno) }
            done += count
        }
    }
}

/// Calls again for as long as a signal interrupts.
func retryingEINTR<Value: SignedInteger>(_ call: () -> Value) -> Value {
    while true {
        let result = call()
        if result != -1 || errno != EINTR { return result }
    }
}

/// The bytes of a file of at most `limit` bytes; nil where there is none.
func readFile(_ path: String, limit: Int) throws(Errno) -> [UInt8]? {
    do throws(Errno) {
        // Without O_NONBLOCK, a FIFO would be waited for.
        return try FileDescriptor.open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK).readAll(limit: limit)
    } catch {
        if error.rawValue == ENOENT { return nil }
        throw error
    }
}

/// The text of a small file of the kernel, without the end of its line; nil where it cannot be read.
func readKernelText(_ path: String) -> String? {
    guard let bytes = try? readFile(path, limit: 1 << 20) else { return nil }
    var text = String(decoding: bytes, as: UTF8.self)
    while text.utf8.last == UInt8(ascii: "\n") { text.removeLast() }
    return text
}

/// Replaces a file as a whole: after a crash at any moment there is the old content or the new. The caller keeps others
/// from writing the same file.
func replaceFile(_ path: String, with bytes: [UInt8]) throws(Errno) {
    let temporary = path + ".tmp"
    // What an interrupted write left is in nobody's use.
    let file = try FileDescriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
    do throws(Errno) {
        try file.writeAll(bytes)
        guard fsync(file.rawValue) == 0 else { throw Errno(errno) }
        guard unsafe rename(temporary, path) == 0 else { throw Errno(errno) }
    } catch {
        _ = unsafe unlink(temporary)
        throw error
    }
    try syncFolder(of: path)
}

/// Makes what was renamed or removed in a file's folder durable.
func syncFolder(of path: String) throws(Errno) {
    let folder = try FileDescriptor.open(folderName(of: path), O_RDONLY | O_DIRECTORY)
    guard fsync(folder.rawValue) == 0 else { throw Errno(errno) }
}

/// Makes a folder and those above it, for the owner alone.
func makeFolder(_ path: String) throws(Errno) {
    if unsafe mkdir(path, 0o700) == 0 || errno == EEXIST { return }
    let failure = errno
    let parent = folderName(of: path)
    guard failure == ENOENT, parent != path else { throw Errno(failure) }
    try makeFolder(parent)
    guard unsafe mkdir(path, 0o700) == 0 || errno == EEXIST else { throw Errno(errno) }
}

/// Removes a folder of our own with all in it, or a file; links are not followed.
func removeTree(_ path: String) {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else { return }
    if status.st_mode & S_IFMT == S_IFDIR {
        for name in SmallFile.names(in: path) { removeTree("\(path)/\(name)") }
        _ = unsafe rmdir(path)
    } else {
        _ = unsafe unlink(path)
    }
}

/// Acts as the owner of a folder on the files in it, where root runs this and the folder is another user's: what a command
/// writes there, an agent that runs as that user can read and replace, and a symbolic link that this user put there
/// leads no further than this user may go. See setfsuid(2); where the folder is not there, all stays as it is.
func asOwner<Value: ~Copyable>(
    of folder: String, _ body: () throws(DataplaneError) -> Value
) throws(DataplaneError) -> Value {
    var status = stat()
    guard geteuid() == 0, unsafe stat(folder, &status) == 0, status.st_uid != 0 else { return try body() }
    // The group first: afterwards we may not.
    let group = setfsgid(status.st_gid)
    let user = setfsuid(status.st_uid)
    defer {
        setfsuid(uid_t(bitPattern: user))
        setfsgid(gid_t(bitPattern: group))
    }
    return try body()
}

private func folderName(of path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}

extension DataplaneError {
    /// What went wrong with a file, and what to do.
    static func file(_ error: Errno, _ action: String, _ path: String) -> DataplaneError {
        let remedy =
            switch error.rawValue {
            case EACCES, EPERM: ": run as root"
            case ENOSPC, EDQUOT: ": free some space there"
            case EROFS: ": choose another folder with --state-dir"
            case ENOTDIR: ": something on its path is not a folder"
            case EISDIR: ": there must be no folder of that name, move it away"
            default: ""
            }
        return DataplaneError(.file, "cannot \(action) \(path): \(error)\(remedy)", errno: error.rawValue)
    }
}
