// Lines in the system's log, from a process that has nobody else to tell.

import CLinux
import Glibc

/// Writes to the journal, or to syslog where that is there: see syslog(3), whose own function waits where this does not.
package struct SystemLog {
    private let paths: [String]

    /// - Parameter paths: where it may listen, the best first.
    package init(paths: [String] = ["/run/systemd/journal/dev-log", "/dev/log"]) { self.paths = paths }

    /// - Parameters:
    ///   - level: 3 error, 4 warning, 5 notice, 6 info.
    ///   - line: without secrets, as everything that is written.
    /// - Returns: whether anybody took it.
    @discardableResult
    package func write(level: Int, _ line: String) -> Bool {
        // LOG_DAEMON, and no time: whoever takes it knows that.
        let text = Array("<\(3 << 3 | level)>weft[\(getpid())]: \(line)".utf8)
        let type = Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        return paths.contains { path in
            guard let address = try? UnixAddress(path), let file = try? Descriptor(socket(AF_UNIX, type, 0), "log")
            else { return false }
            let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)
            let count = address.withSocketAddress { sendto(file.number, text, text.count, flags, $0, $1) }
            return count == text.count
        }
    }
}
