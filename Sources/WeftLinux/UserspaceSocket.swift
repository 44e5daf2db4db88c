// The socket of a user-space device: connected, written and read with a limit on every wait.

internal import CLinux
internal import Glibc
internal import Netlink
internal import WeftKeys

/// Why a user-space device could not be spoken to.
enum UserspaceSocketError: Error, Hashable {
    /// There is no socket, or nobody listens on it.
    case nobody
    /// Another user listens on it, who is not to get our keys.
    case foreignUser(UInt32)
    /// It has not moved for as long as we wait.
    case silent
    /// It closed the connection before its answer was whole.
    case closed
    case system(Errno)
}

/// A connection to a user-space device.
struct UserspaceSocket: ~Copyable {
    private let descriptor: FileDescriptor
    /// How long each wait may be.
    private let patience: Duration

    private init(_ descriptor: consuming FileDescriptor, patience: Duration) {
        self.descriptor = descriptor
        self.patience = patience
    }

    /// Connects to the first of these paths at which anybody listens.
    ///
    /// - Parameter user: who may listen there besides root and us.
    static func connect(
        to paths: [String], patience: Duration, trusting user: uid_t? = nil
    ) throws(UserspaceSocketError) -> UserspaceSocket {
        for path in paths.dropLast() {
            do throws(UserspaceSocketError) {
                return try connect(to: path, patience: patience, trusting: user)
            } catch {
                if error != .nobody { throw error }
            }
        }
        guard let last = paths.last else { throw .nobody }
        return try connect(to: last, patience: patience, trusting: user)
    }

    private static func connect(
        to path: String, patience: Duration, trusting user: uid_t?
    ) throws(UserspaceSocketError) -> UserspaceSocket {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { throw .system(Errno(ENAMETOOLONG)) }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let raw = socket(AF_UNIX, type, 0)
        guard raw >= 0 else { throw .system(Errno(errno)) }
        let connection = UserspaceSocket(FileDescriptor(raw), patience: patience)
        let deadline = ContinuousClock.now + patience
        while true {
            let result = unsafe withUnsafePointer(to: address) { address in
                unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                    unsafe Glibc.connect(raw, address, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            if result == 0 { break }
            switch errno {
            case EINTR: continue
            case ENOENT, ECONNREFUSED, ENOTDIR: throw .nobody
            case EAGAIN:
                // Its queue is full.
                guard ContinuousClock.now < deadline else { throw .silent }
                usleep(10_000)
            default: throw .system(Errno(errno))
            }
        }
        try connection.checkOwner(trusting: user)
        return connection
    }

    /// Only root, we and whom we trust may listen where keys are sent to.
    private func checkOwner(trusting user: uid_t?) throws(UserspaceSocketError) {
        // struct ucred, which glibc hides from Swift: process, user, group; see unix(7).
        var credentials: (process: pid_t, user: uid_t, group: gid_t) = (0, 0, 0)
        var size = socklen_t(MemoryLayout.size(ofValue: credentials))
        guard unsafe getsockopt(descriptor.rawValue, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0 else {
            throw .system(Errno(errno))
        }
        guard [0, geteuid(), user].contains(credentials.user) else { throw .foreignUser(credentials.user) }
    }

    /// Sends all bytes of the buffer, and zeroes it.
    func send(_ buffer: SecretBuffer) throws(UserspaceSocketError) {
        defer { buffer.erase() }
        try buffer.withBytes { bytes throws(UserspaceSocketError) in
            var done = 0
            while done < bytes.count {
                let count = unsafe bytes.withUnsafeBytes { bytes in
                    // No SIGPIPE, whatever the process has set: a device that ends must not end us.
                    unsafe Glibc.send(
                        descriptor.rawValue, bytes.baseAddress?.advanced(by: done), bytes.count - done,
                        Int32(MSG_NOSIGNAL))
                }
                if count >= 0 {
                    done += count
                } else if errno == EAGAIN {
                    try wait(for: POLLOUT)
                } else if errno == EPIPE || errno == ECONNRESET {
                    throw .closed
                } else if errno != EINTR {
                    throw .system(Errno(errno))
                }
            }
        }
    }

    /// Reads as much as is there and fits; false at the end.
    func receive(into buffer: SecretBuffer) throws(UserspaceSocketError) -> Bool {
        while true {
            var result = 0
            var failure: Int32 = 0
            unsafe buffer.fill { free in
                result = unsafe recv(descriptor.rawValue, free.baseAddress, free.count, 0)
                failure = errno
                return max(0, result)
            }
            if result > 0 { return true }
            if result == 0 { return false }
            if failure == EAGAIN {
                try wait(for: POLLIN)
            } else if failure == ECONNRESET {
                return false
            } else if failure != EINTR {
                throw .system(Errno(failure))
            }
        }
    }

    private func wait(for event: Int32) throws(UserspaceSocketError) {
        let deadline = ContinuousClock.now + patience
        while true {
            let left = (deadline - ContinuousClock.now).components
            let milliseconds = left.seconds * 1000 + left.attoseconds / 1_000_000_000_000_000
            guard milliseconds >= 0 else { throw .silent }
            var entry = pollfd(fd: descriptor.rawValue, events: Int16(event), revents: 0)
            let count = unsafe poll(&entry, 1, Int32(clamping: milliseconds + 1))
            if count > 0 { return }
            if count < 0, errno != EINTR { throw .system(Errno(errno)) }
        }
    }
}
