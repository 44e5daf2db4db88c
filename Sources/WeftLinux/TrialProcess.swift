// The process that watches over a change on trial: it outlives the command, its terminal and its session.

import CLinux
import Glibc
package import Netlink

/// Another run of this program, in a session of its own, which has the lock of the interface from us.
///
/// What it writes goes to files in memory: who reads them may stand still, or be gone, and it never waits for him.
package final class TrialProcess {
    /// By which descriptor it gets the lock.
    static let lockNumber: Int32 = 3

    private let process: pid_t
    private let output: FileDescriptor
    private let errors: FileDescriptor
    private var outputEnd = 0
    private var errorsEnd = 0
    private var end: Int32?

    /// - Parameter input: what it reads on its standard input.
    package init(
        arguments: [String], environment: [String: String], input: [UInt8], lock: borrowing FileLock
    ) throws(Errno) {
        output = try StartedProgram.memoryFile()
        errors = try StartedProgram.memoryFile()
        let file = try StartedProgram.memoryFile()
        try file.writeAll(input)
        guard lseek(file.rawValue, 0, SEEK_SET) == 0 else { throw Errno(errno) }
        process = try spawnProgram(
            "/proc/self/exe", arguments, environment, input: file.rawValue, output: output.rawValue,
            errors: errors.rawValue, keeping: lock.number, staysInFolder: true)
    }

    /// What it has written since this was asked last.
    package func takeOutput() -> String { Self.take(output, &outputEnd) }

    /// The same of its standard error.
    package func takeErrors() -> String { Self.take(errors, &errorsEnd) }

    private static func take(_ file: borrowing FileDescriptor, _ position: inout Int) -> String {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = retryingEINTR { unsafe pread(file.rawValue, &piece, piece.count, off_t(position)) }
            if count <= 0 { break }
            bytes += piece[..<count]
            position += count
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Nil while it runs; afterwards its exit status, or 128 and the signal that ended it.
    package var exitStatus: Int32? {
        if let end { return end }
        var status: Int32 = 0
        guard retryingEINTR({ unsafe waitpid(process, &status, WNOHANG) }) == process else { return nil }
        end = status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
        return end
    }
}
