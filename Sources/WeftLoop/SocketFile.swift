// A listening unix socket in the file system: nobody reaches it before it is his to reach, and it replaces only a dead
// one.

import CLinux
import Glibc

/// Listens on a path for as long as it lives.
final class SocketFile {
    let file: Descriptor
    private let path: String
    private let device: dev_t
    private let inode: ino_t

    /// How many connections may wait to be taken.
    private static let backlog: Int32 = 64

    /// - Parameters:
    ///   - mode: of the socket; who may write to it may connect.
    ///   - group: to whom it is given; nil: to ours.
    /// - Throws: EADDRINUSE naming who listens there, EEXIST where something else is there, ESRCH for an unknown group.
    init(_ path: String, mode: UInt32, group: String?) throws(LoopError) {
        let operation = "listen on \(path)"
        let groupNumber = try group.map { (name) throws(LoopError) in try Self.number(ofGroup: name, operation) }
        // One at a time, so that two that start at once do not both take the place of the same dead one.
        let lock = try Self.lockFolder(of: path, operation)
        try Self.checkFree(path, operation)
        file = try Descriptor(
            socket(
                AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0),
            operation)
        let temporary = path + ".new"
        let address = try UnixAddress(temporary)
        unlink(temporary)
        // Whatever the umask is: Linux takes the mode of the new file from the socket's.
        fchmod(file.number, 0o600)
        let number = file.number
        guard address.withSocketAddress({ bind(number, $0, $1) }) == 0 else { throw LoopError(operation) }
        var status = stat()
        // A service whose own group it is may not be allowed to ask for what it has.
        var made = stat()
        let isGiven = groupNumber.map { stat(temporary, &made) == 0 && made.st_gid == $0 } ?? true
        let given = isGiven ? 0 : groupNumber.map { chown(temporary, uid_t.max, $0) } ?? 0
        guard given == 0, chmod(temporary, mode) == 0,
            listen(file.number, Self.backlog) == 0, lstat(temporary, &status) == 0, rename(temporary, path) == 0
        else {
            let error = LoopError(operation)
            unlink(temporary)
            throw error
        }
        (self.path, device, inode) = (path, status.st_dev, status.st_ino)
        _ = lock.number
    }

    /// Whether it is still what is found at its path.
    var isStanding: Bool {
        var status = stat()
        return lstat(path, &status) == 0 && status.st_dev == device && status.st_ino == inode
    }

    deinit {
        // Unless another one has taken its place.
        if isStanding { unlink(path) }
    }

    private static func lockFolder(of path: String, _ operation: String) throws(LoopError) -> Descriptor {
        let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
        let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let lock = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard lock >= 0 else { throw LoopError(operation, remedy: "make its folder, \(folder), or give access to it") }
        let file = try Descriptor(lock, operation)
        for _ in 0..<200 {
            if flock(file.number, LOCK_EX | LOCK_NB) == 0 { return file }
            guard errno == EWOULDBLOCK || errno == EINTR else { break }
            usleep(10_000)
        }
        throw LoopError(operation, remedy: "its folder, \(folder), is locked by another process")
    }

    private static func checkFree(_ path: String, _ operation: String) throws(LoopError) {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return }
            throw LoopError(operation)
        }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw LoopError(operation, errno: EEXIST, remedy: "what is there is not a socket; move it away")
        }
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let probe = try Descriptor(socket(AF_UNIX, type, 0), operation)
        let answer = try UnixAddress(path).withSocketAddress { connect(probe.number, $0, $1) == 0 ? 0 : errno }
        switch answer {
        case ECONNREFUSED, ENOENT: return
        case 0:
            let process = PeerCredentials(of: probe.number).map(\.process)
            let name = process.flatMap(Self.name).map { "\($0), " } ?? ""
            let who = process.map { "\(name)process \($0)," } ?? "another process"
            throw LoopError(operation, errno: EADDRINUSE, remedy: "\(who) listens there")
        default: throw LoopError(operation, errno: EADDRINUSE, remedy: "another process listens there")
        }
    }

    private static func name(of process: Int32) -> String? {
        guard let file = try? Descriptor(Glibc.open("/proc/\(process)/comm", O_RDONLY | O_CLOEXEC), "") else {
            return nil
        }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = read(file.number, &bytes, bytes.count)
        return count > 1 ? String(decoding: bytes[..<(count - 1)], as: UTF8.self) : nil
    }

    private static func number(ofGroup name: String, _ operation: String) throws(LoopError) -> gid_t {
        var entry = group()
        var result: UnsafeMutablePointer<group>?
        var text = [CChar](repeating: 0, count: 64 << 10)
        let failure = getgrnam_r(name, &entry, &text, text.count, &result)
        guard failure == 0, result != nil else {
            throw LoopError(
                operation, errno: failure == 0 ? ESRCH : failure,
                remedy: "there is no group \(name): make it with groupadd, or name another one")
        }
        return entry.gr_gid
    }
}

/// Who is at the other end of a unix socket; see SO_PEERCRED in unix(7).
struct PeerCredentials {
    let process: Int32
    let user: UInt32
    let group: UInt32

    init?(of socket: Int32) {
        // struct ucred, which glibc hides from Swift: process, user, group.
        var credentials: (pid_t, uid_t, gid_t) = (0, 0, 0)
        var size = socklen_t(MemoryLayout.size(ofValue: credentials))
        guard getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0 else { return nil }
        (process, user, group) = credentials
    }
}
