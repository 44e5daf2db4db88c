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

    /// Waits up to `timeout`.
    ///
    /// - Parameters:
    ///   - subject: what is locked, in the words of a person; the file's name where it is nil.
    ///   - agent: the socket of the agent that takes it for as long as it lives; nil for a command.
    ///   - onWait: called once with who holds it, where it must be waited for.
    static func acquire(
        _ path: String, timeout: Duration, saying subject: String? = nil, agent: String? = nil,
        onWait: (String) -> Void = { _ in }
    ) throws(DataplaneError) -> FileLock {
        var isWaiting = false
        let deadline = ContinuousClock.now + timeout
        while true {
            let descriptor = try open(path)
            if flock(descriptor.rawValue, LOCK_EX | LOCK_NB) == 0 {
                guard hasName(descriptor, path) else { continue }
                // Who holds it is for people only, so that what goes wrong here is no failure.
                _ = ftruncate(descriptor.rawValue, 0)
                let lines = ["\(getpid())"] + (agent.map { [$0] } ?? [])
                try? descriptor.writeAll(Array(lines.map { $0 + "\n" }.joined().utf8))
                return FileLock(descriptor: descriptor, path: path)
            }
            let failure = errno
            guard failure == EWOULDBLOCK || failure == EINTR else { throw .file(Errno(failure), "lock", path) }
            let holder = Holder(path)
            // An agent does not let go: whoever wants something goes through it.
            if let holder, let agent = holder.agent {
                throw DataplaneError(
                    .inCharge,
                    "an agent (process \(holder.process)) is in charge of \(subject ?? path): change the topology that it "
                        + "watches, and `weft agent reload --socket \(agent)` makes it look at once; to do without it, "
                        + "stop it first", errno: failure)
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

    /// Removes the file and lets go of the lock. That it cannot be removed is no failure: it is empty but for a number.
    package consuming func remove() {
        _ = unsafe unlink(path)
    }

    private static func open(_ path: String) throws(DataplaneError) -> FileDescriptor {
        do throws(Errno) {
            return try FileDescriptor.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600)
        } catch {
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
        /// An agent's socket.
        var agent: String?

        init?(_ path: String) {
            let lines = (readKernelText(path) ?? "").split(separator: "\n")
            guard let process = lines.first.flatMap({ Int32($0) }) else { return nil }
            self.process = process
            agent = lines.count > 1 ? String(lines[1]) : nil
        }

        var words: String {
            guard let name = readKernelText("/proc/\(process)/comm") else { return "process \(process)" }
            return "\(name) (process \(process))"
        }
    }
}
