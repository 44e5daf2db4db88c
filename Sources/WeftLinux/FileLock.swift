// A lock between processes, that says who holds it.

internal import Glibc
internal import Netlink
internal import WeftPlan

/// An exclusive flock(2) on a file of its own, for as long as the value lives; the kernel ends it with the process.
///
/// The file stays, unless whoever holds the lock removes it. That is safe because a lock counts only while its file is the
/// one that has the name: who waited for one that was removed finds another file there, or none, and begins again.
package struct FileLock: ~Copyable {
    private let descriptor: FileDescriptor
    private let path: String

    /// What a process that holds a lock for long says about itself.
    package enum Role: Hashable, Sendable {
        /// An agent, which holds it for as long as it lives; with its socket.
        case agent(String)
        /// Who watches over a trial, which is over soon; with its socket.
        case trial(String)

        var socket: String {
            switch self {
            case .agent(let socket), .trial(let socket): socket
            }
        }

        fileprivate var word: String {
            switch self {
            case .agent: "agent"
            case .trial: "trial"
            }
        }
    }

    /// Waits up to `timeout`.
    ///
    /// - Parameters:
    ///   - subject: what is locked, in the words of a person; the file's name where it is nil.
    ///   - role: nil for a command.
    ///   - readingOnly: takes a file that is there also where the file system is read-only.
    ///   - onWait: called once with who holds it, where it must be waited for.
    static func acquire(
        _ path: String, timeout: Duration, saying subject: String? = nil, as role: Role? = nil,
        readingOnly: Bool = false, onWait: (String) -> Void = { _ in }
    ) throws(DataplaneError) -> FileLock {
        var isWaiting = false
        let begun = ContinuousClock.now
        let deadline = begun + timeout
        while true {
            let descriptor = try open(path, readingOnly)
            if flock(descriptor.rawValue, LOCK_EX | LOCK_NB) == 0 {
                guard hasName(descriptor, path) else { continue }
                sign(descriptor, role)
                return FileLock(descriptor: descriptor, path: path)
            }
            let failure = errno
            guard failure == EWOULDBLOCK || failure == EINTR else { throw .file(Errno(failure), "lock", path) }
            // Who only asks whether it is held shares it for a moment: then nobody has it, whatever its file says.
            if flock(descriptor.rawValue, LOCK_SH | LOCK_NB) == 0 {
                _ = flock(descriptor.rawValue, LOCK_UN)
                if ContinuousClock.now < max(deadline, begun + .seconds(1)) {
                    usleep(1_000)
                    continue
                }
            }
            let holder = Holder(path)
            // They do not let go: whoever wants something goes through them.
            if let refusal = holder?.refusal(of: subject ?? path) {
                throw DataplaneError(.inCharge, refusal, errno: failure)
            }
            let words = holder?.words ?? "another process"
            guard ContinuousClock.now < deadline else {
                throw DataplaneError(
                    .file,
                    "\(subject ?? path) has been locked by \(words) for more than "
                        + "\(timeout.components.seconds) s; wait for it or end it",
                    errno: failure)
            }
            if !isWaiting {
                isWaiting = true
                onWait(words)
            }
            usleep(10_000)
        }
    }

    /// Whether others still find it: nobody has removed its file.
    package var isStanding: Bool { Self.hasName(descriptor, path) }

    /// Takes over a lock that another process held when it started this one, and left it to by a descriptor: between the two
    /// it was never free.
    ///
    /// - Throws: EBADF where the descriptor is none, or not that lock's.
    static func inherit(_ number: Int32, _ path: String, as role: Role) throws(DataplaneError) -> FileLock {
        let flags = fcntl(number, F_GETFD)
        guard flags >= 0 else { throw .file(Errno(errno), "lock", path) }
        _ = fcntl(number, F_SETFD, flags | FD_CLOEXEC)
        let descriptor = FileDescriptor(number)
        guard hasName(descriptor, path), flock(number, LOCK_EX | LOCK_NB) == 0 else {
            throw .file(Errno(EBADF), "lock", path)
        }
        sign(descriptor, role)
        return FileLock(descriptor: descriptor, path: path)
    }

    /// For a process that is to inherit it.
    var number: Int32 { descriptor.rawValue }

    /// Writes down who holds it. That is for others to read, so that what goes wrong here is no failure.
    private static func sign(_ descriptor: borrowing FileDescriptor, _ role: Role?) {
        _ = ftruncate(descriptor.rawValue, 0)
        _ = lseek(descriptor.rawValue, 0, SEEK_SET)
        let lines = ["\(getpid())"] + (role.map { [$0.socket, $0.word] } ?? [])
        try? descriptor.writeAll(Array(lines.map { $0 + "\n" }.joined().utf8))
    }

    /// Who holds the lock of this file for long; nil where nobody does.
    static func holder(of path: String) -> Role? {
        guard let descriptor = try? FileDescriptor.open(path, O_RDONLY | O_NOFOLLOW, mode: 0),
            flock(descriptor.rawValue, LOCK_SH | LOCK_NB) != 0
        else { return nil }
        return Holder(path)?.role
    }

    /// Removes the file and lets go of the lock. That it cannot be removed is no failure: it is empty but for a number.
    package consuming func remove() {
        _ = unsafe unlink(path)
    }

    private static func open(_ path: String, _ readingOnly: Bool) throws(DataplaneError) -> FileDescriptor {
        do throws(Errno) {
            return try FileDescriptor.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600)
        } catch {
            // A lock needs nothing written.
            if readingOnly, error.rawValue == EROFS {
                do throws(Errno) { return try FileDescriptor.open(path, O_RDONLY | O_NOFOLLOW, mode: 0) } catch {}
            }
            throw .file(error, "open", path)
        }
    }

    /// Whether an open file is the one that has this name now.
    private static func hasName(_ descriptor: borrowing FileDescriptor, _ path: String) -> Bool {
        var own = stat()
        var named = stat()
        guard unsafe fstat(descriptor.rawValue, &own) == 0, unsafe lstat(path, &named) == 0 else { return false }
        return own.st_dev == named.st_dev && own.st_ino == named.st_ino
    }

    /// Who holds a lock, as they wrote it down.
    private struct Holder {
        var process: Int32
        var role: Role?

        init?(_ path: String) {
            let lines = (readKernelText(path) ?? "").split(separator: "\n")
            guard let process = lines.first.flatMap({ Int32($0) }) else { return nil }
            self.process = process
            guard lines.count > 1 else { return }
            role = lines.count > 2 && lines[2] == "trial" ? .trial(String(lines[1])) : .agent(String(lines[1]))
        }

        /// Why who waits would wait in vain; nil where this is another command.
        func refusal(of subject: String) -> String? {
            switch role {
            case .agent(let socket):
                "an agent (process \(process)) is in charge of \(subject): change the topology that it watches, and `weft "
                    + "agent reload --socket \(socket)` makes it look at once; to do without it, stop it first"
            case .trial:
                "a change of \(subject) is on trial (process \(process)): `weft confirm` keeps it, `weft revert` takes it "
                    + "back, and then this can be run again"
            case nil: nil
            }
        }

        var words: String {
            guard let name = readKernelText("/proc/\(process)/comm") else { return "process \(process)" }
            return "\(name) (process \(process))"
        }
    }
}
