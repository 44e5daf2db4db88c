// Which files of a topology somebody is still writing to.

import CLinux
import Glibc

/// Files that were written to and, as far as is known, not closed since.
struct OpenFiles {
    struct Key: Hashable {
        /// Of the folder.
        var watch: Int32
        var name: String
    }

    /// How long one that nothing is heard of counts as being written, where the kernel does not say who has it open.
    private static let patience: UInt64 = 60_000_000_000
    /// The same, for one that was there before its folder was watched.
    private static let patienceWithFound = 2
    /// For so many, the kernel is asked each time; where there are more, somebody is at work.
    private static let asked = 64

    /// Until when each counts as being written, in nanoseconds since the machine's start.
    private var files: [Key: UInt64] = [:]

    /// One was made or written to.
    mutating func written(_ key: Key) { files[key] = BootTime.now &+ Self.patience }

    /// One was closed, or is not there any more.
    mutating func closed(_ key: Key) { files[key] = nil }

    /// A folder is not watched any more.
    mutating func forget(_ watch: Int32) {
        if !files.isEmpty { files = files.filter { $0.key.watch != watch } }
    }

    /// One was found, and may be open.
    mutating func found(_ key: Key, _ path: String) {
        switch Self.isOpenForWriting(path) {
        case true?: written(key)
        case false?: break
        case nil:
            var (status, now) = (stat(), timespec())
            clock_gettime(CLOCK_REALTIME, &now)
            guard stat(path, &status) == 0, abs(now.tv_sec - status.st_mtim.tv_sec) <= Self.patienceWithFound else {
                return
            }
            files[key] = BootTime.now &+ UInt64(Self.patienceWithFound) * 1_000_000_000
        }
    }

    /// One that is still being written to; nil where there is none.
    ///
    /// - Parameter path: of a file; nil where its folder is not known.
    mutating func first(path: (Key) -> String?) -> String? {
        guard !files.isEmpty else { return nil }
        if files.count <= Self.asked {
            let now = BootTime.now
            files = files.filter { key, until in
                path(key).map { Self.isOpenForWriting($0) ?? (now < until) } ?? false
            }
        }
        return files.keys.first.flatMap(path)
    }

    /// Asks the kernel whether anybody has a file open for writing: it grants a read lease only where nobody has.
    ///
    /// The lease lasts for no longer than the call; who opens the file meanwhile waits for so long, and the signal by
    /// which the kernel would ask us to give the lease back is ignored (see `FolderWatch`).
    ///
    /// - Returns: nil where the kernel does not say: another user's file, or a file system without leases.
    private static func isOpenForWriting(_ path: String) -> Bool? {
        let flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY
        guard let file = try? Descriptor(open(path, flags), "look at \(path)") else {
            return errno == ENOENT || errno == ELOOP ? false : nil
        }
        var status = stat()
        guard fstat(file.number, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return false }
        if fcntl(file.number, weft_f_setlease, Int32(F_RDLCK)) == 0 {
            _ = fcntl(file.number, weft_f_setlease, Int32(F_UNLCK))
            return false
        }
        return errno == EAGAIN ? true : nil
    }
}
