// Asks a `LineServer`, for programs that may wait.

import CLinux
import Glibc

/// The other end of a `LineServer`.
package enum UnixClient {
    /// What is answered, line by line. The connection ends with it.
    package final class Lines {
        /// How long each wait for a line may be; nil: for ever.
        package var timeout: Duration?
        /// Readable when more has come, which may be less than a line.
        package var descriptor: Int32 { connection.number }

        private let connection: Connection
        private var bytes: [UInt8] = []
        /// Before it, all has been given.
        private var start = 0
        /// Before it, there is no line's end.
        private var searched = 0
        private var isAtEnd = false

        fileprivate init(_ connection: Connection, timeout: Duration?) {
            self.connection = connection
            self.timeout = timeout
        }

        /// The next line, without its end; nil when the server has finished.
        ///
        /// - Throws: ETIMEDOUT where none came in time.
        package func next() throws(LoopError) -> String? {
            let deadline = timeout.map { ContinuousClock.now + $0 }
            while true {
                if let end = bytes[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                    defer { (start, searched) = (end + 1, end + 1) }
                    return String(decoding: bytes[start..<end], as: UTF8.self)
                }
                searched = bytes.count
                if isAtEnd {
                    defer { start = bytes.count }
                    return start == bytes.count ? nil : String(decoding: bytes[start...], as: UTF8.self)
                }
                if start > 0 {
                    bytes.removeFirst(start)
                    (start, searched) = (0, bytes.count)
                }
                isAtEnd = try !connection.receive(into: &bytes, before: deadline)
            }
        }
    }

    /// Sends one line, and waits up to `timeout` for the connection, and as long for each line of the answer.
    ///
    /// - Throws: ENOENT and ECONNREFUSED where nobody listens, EACCES where he may not be asked, ETIMEDOUT, EINVAL for
    ///   what
    ///   is not one line.
    package static func request(_ path: String, _ line: String, timeout: Duration?) throws(LoopError) -> Lines {
        guard !line.utf8.contains(UInt8(ascii: "\n")) else { throw LoopError("ask at \(path)", errno: EINVAL) }
        let deadline = timeout.map { ContinuousClock.now + $0 }
        let connection = try Connection(path, before: deadline)
        try connection.send(Array(line.utf8) + [UInt8(ascii: "\n")], before: deadline)
        return Lines(connection, timeout: timeout)
    }
}

/// A connection on which every wait has an end.
private final class Connection {
    private let file: Descriptor
    private let operation: String

    var number: Int32 { file.number }

    init(_ path: String, before deadline: ContinuousClock.Instant?) throws(LoopError) {
        operation = "ask at \(path)"
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        file = try Descriptor(socket(AF_UNIX, type, 0), operation)
        let address = try UnixAddress(path)
        while address.withSocketAddress({ connect(file.number, $0, $1) }) != 0 {
            guard errno == EAGAIN || errno == EINTR else { throw LoopError(operation) }
            // Too many are waiting to be taken, and nothing tells when there is room.
            if let deadline, ContinuousClock.now >= deadline { throw LoopError(operation, errno: ETIMEDOUT) }
            usleep(10_000)
        }
    }

    /// Sends all; where the other end has closed already, its reason is still to be read.
    func send(_ bytes: [UInt8], before deadline: ContinuousClock.Instant?) throws(LoopError) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { bytes in
                retryingEINTR {
                    Glibc.send(
                        file.number, bytes.baseAddress?.advanced(by: sent), bytes.count - sent, Int32(MSG_NOSIGNAL))
                }
            }
            if count >= 0 {
                sent += count
            } else if errno == EAGAIN {
                try wait(for: POLLOUT, before: deadline)
            } else if errno == EPIPE || errno == ECONNRESET {
                return
            } else {
                throw LoopError(operation)
            }
        }
    }

    /// Waits for bytes, and adds them.
    ///
    /// - Returns: false at the end.
    func receive(into bytes: inout [UInt8], before deadline: ContinuousClock.Instant?) throws(LoopError) -> Bool {
        while true {
            let count = withUnsafeTemporaryAllocation(byteCount: 64 << 10, alignment: 1) { buffer in
                let count = retryingEINTR { recv(file.number, buffer.baseAddress, buffer.count, 0) }
                if count > 0 { bytes += buffer[..<count] }
                return count
            }
            if count > 0 { return true }
            // It is reset where the other end closed without having read all that we sent.
            if count == 0 || errno == ECONNRESET { return false }
            guard errno == EAGAIN else { throw LoopError(operation) }
            try wait(for: POLLIN, before: deadline)
        }
    }

    private func wait(for event: Int32, before deadline: ContinuousClock.Instant?) throws(LoopError) {
        while true {
            var milliseconds: Int64 = -1
            if let deadline {
                let left = (deadline - ContinuousClock.now).components
                milliseconds = left.seconds * 1000 + left.attoseconds / 1_000_000_000_000_000 + 1
                if milliseconds <= 0 { throw LoopError(operation, errno: ETIMEDOUT) }
            }
            var entry = pollfd(fd: file.number, events: Int16(event), revents: 0)
            let count = poll(&entry, 1, Int32(clamping: milliseconds))
            if count > 0 { return }
            if count < 0, errno != EINTR { throw LoopError(operation) }
        }
    }
}
