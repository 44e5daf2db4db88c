// The one way in and out for text: standard output, standard error, and questions.

internal import Glibc
internal import Synchronization

/// Standard output, standard error and standard input of a command.
///
/// A reader that goes away (`weft apply | head`) must not kill a command between two operations: SIGPIPE is ignored
/// from the first use on, what is written to a closed pipe is dropped, and the command runs to its end. Any other
/// failure to write to standard output (a full disk) is kept, and asked for at the end.
package final class Terminal: Sendable {
    package enum Stream: Sendable, Hashable {
        case output
        case error
    }

    /// The process's own.
    package static let standard = Terminal(input: 0, output: 1, error: 2)

    private let input: Int32
    private let output: Int32
    private let error: Int32
    // The first failure to write to each stream.
    private let failures = Mutex<[Stream: Int32]>([:])

    package init(input: Int32, output: Int32, error: Int32) {
        self.input = input
        self.output = output
        self.error = error
        signal(SIGPIPE, SIG_IGN)
    }

    /// Writes a line, or with another terminator a part of one.
    package func write(_ text: String, terminator: String = "\n", to stream: Stream = .output) {
        if failures.withLock({ $0[stream] != nil }) { return }
        var whole = text + terminator
        let failure = whole.withUTF8 { Self.writeAll($0, to: descriptor(of: stream)) }
        // A log on a disk that was full goes on when there is room again; what is printed must be whole.
        guard let failure, stream == .output || failure == EPIPE else { return }
        failures.withLock { $0[stream] = failure }
    }

    /// Writes a line where that needs no waiting: who reads a pipe may stand still.
    ///
    /// - Returns: false where there was no room for all of it.
    package func offer(_ line: String, to stream: Stream) -> Bool {
        if failures.withLock({ $0[stream] != nil }) { return true }
        var whole = line + "\n"
        let number = descriptor(of: stream)
        return whole.withUTF8 { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                var room = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
                guard poll(&room, 1, 0) == 1 else { return false }
                // A pipe that has room has it for so much: see PIPE_BUF in pipe(7).
                let piece = UnsafeBufferPointer(rebasing: rest.prefix(4096))
                let count = Glibc.write(number, piece.baseAddress, piece.count)
                if count < 0 {
                    if errno == EINTR { continue }
                    let failure = errno
                    if failure == EPIPE { failures.withLock { $0[stream] = failure } }
                    return failure != EAGAIN
                }
                rest = rest.dropFirst(count)
            }
            return true
        }
    }

    /// What kept standard output from being written, in the system's words; nil where nothing did, or where only
    /// nobody was reading any more.
    package var failure: String? {
        guard let number = failures.withLock({ $0[.output] }), number != EPIPE else { return nil }
        return String(cString: strerror(number))
    }

    /// Whether whoever read standard output has gone away.
    package var hasNoReader: Bool { failures.withLock { $0[.output] } == EPIPE }

    /// Whether somebody reads this stream on a terminal.
    package func isTerminal(_ stream: Stream = .output) -> Bool { isatty(descriptor(of: stream)) == 1 }

    /// Whether questions can be answered.
    package var canAsk: Bool { isatty(input) == 1 && isatty(error) == 1 }

    /// Whether to write colours: on a terminal that knows them, unless NO_COLOR is set (see no-color.org).
    package func usesColor(_ stream: Stream = .output) -> Bool {
        guard isTerminal(stream), Self.environment("NO_COLOR") == nil else { return false }
        return Self.environment("TERM") != "dumb"
    }

    /// Columns of the terminal, or of what COLUMNS says; nil where there is no limit.
    package var width: Int? { size("COLUMNS") { $0.ws_col } }

    /// Lines of the terminal, or of what LINES says; nil where there is no limit.
    package var height: Int? { size("LINES") { $0.ws_row } }

    private func size(_ variable: String, _ field: (winsize) -> UInt16) -> Int? {
        if let number = Self.environment(variable).flatMap({ Int($0) }), number > 0 { return number }
        var size = winsize()
        guard isTerminal(.output), ioctl(output, UInt(TIOCGWINSZ), &size) == 0, field(size) > 0 else { return nil }
        return Int(field(size))
    }

    /// Asks on standard error and waits for a line; true for `y` and `yes`. End of input means no.
    package func confirm(_ question: String) -> Bool {
        write("\(question) [y/N] ", terminator: "", to: .error)
        var answer: [UInt8] = []
        while answer.count < 64 {
            var byte: UInt8 = 0
            let count = read(input, &byte, 1)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { break }
            if byte == UInt8(ascii: "\n") { return Self.isYes(answer) }
            answer.append(byte)
        }
        write("", to: .error)
        return false
    }

    /// Waits.
    package func pause(_ time: Duration) { usleep(UInt32(clamping: Int(time / .microseconds(1)))) }

    /// What a person has answered by now; nil where there is no line to read yet.
    ///
    /// - Parameter patience: how long to wait for one.
    package func takeAnswer(_ patience: Duration) -> Bool? {
        var entry = pollfd(fd: input, events: Int16(POLLIN), revents: 0)
        let milliseconds = Int32(patience / .milliseconds(1))
        guard poll(&entry, 1, milliseconds) == 1 else { return nil }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = read(input, &bytes, bytes.count)
        // The end of what can be read is no answer.
        guard count > 0 else {
            pause(patience)
            return nil
        }
        return Self.isYes(Array(bytes[..<count]))
    }

    private func descriptor(of stream: Stream) -> Int32 { stream == .output ? output : error }

    private static func isYes(_ answer: [UInt8]) -> Bool {
        let word = String(decoding: answer, as: UTF8.self).lowercased().filter { !$0.isWhitespace }
        return word == "y" || word == "yes"
    }

    /// A variable that is set, and not to nothing.
    private static func environment(_ name: String) -> String? {
        guard let value = getenv(name), value.pointee != 0 else { return nil }
        return String(cString: value)
    }

    /// The error number of the first write that failed.
    private static func writeAll(_ bytes: UnsafeBufferPointer<UInt8>, to descriptor: Int32) -> Int32? {
        var done = 0
        while done < bytes.count, let base = bytes.baseAddress {
            let count = Glibc.write(descriptor, base + done, bytes.count - done)
            if count >= 0 {
                done += count
                continue
            }
            switch errno {
            case EINTR: continue
            case EAGAIN:
                // Somebody else made the descriptor non-blocking: a shared terminal, or a parent's pipe.
                var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                _ = poll(&waiting, 1, -1)
            default: return errno
            }
        }
        return nil
    }
}
