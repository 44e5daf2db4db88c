// Writes `set=1` requests of the user-space protocol, with keys in guarded memory only.

internal import CLinux
internal import Netlink
internal import WeftKeys
internal import WeftModel
internal import WeftPlan

/// One request on its way to a device. `put` never throws: the first failure is kept and ends the sending.
struct UserspaceRequest: ~Copyable {
    /// The first thing that went wrong.
    enum Failure: Hashable {
        case socket(UserspaceSocketError)
        /// A key that is not in the arena, or an arena that cannot be had.
        case key(DataplaneError)
    }

    // Longer than any line: `private_key=`, 64 digits and an end; an address of 45 characters.
    private static let longestLine = 160
    private let socket: UserspaceSocket
    private let buffer: SecretBuffer
    // Asked for only when an operation needs one.
    private let secrets: () throws(DataplaneError) -> SecretArena
    private(set) var failure: Failure?

    init(
        _ socket: consuming UserspaceSocket, buffer: SecretBuffer,
        secrets: @escaping () throws(DataplaneError) -> SecretArena
    ) {
        self.socket = socket
        self.buffer = buffer
        self.secrets = secrets
        buffer.erase()
        buffer.append("set=1\n")
    }

    mutating func put(_ key: String, _ value: some CustomStringConvertible) {
        makeRoom()
        buffer.append(key)
        buffer.append(UInt8(ascii: "="))
        buffer.append(value.description)
        buffer.append(UInt8(ascii: "\n"))
    }

    mutating func put(_ key: String, _ value: PublicKey) {
        makeRoom()
        buffer.append(key)
        buffer.append(UInt8(ascii: "="))
        buffer.append(hexadecimal: value.bytes.span)
        buffer.append(UInt8(ascii: "\n"))
    }

    /// Puts a secret, or 32 zero bytes, which clear it.
    mutating func put(_ key: String, secret tag: SecretTag?) {
        makeRoom()
        buffer.append(key)
        buffer.append(UInt8(ascii: "="))
        if let tag {
            do throws(DataplaneError) {
                let found: Void? = try secrets().withSecret(tag) { buffer.append(hexadecimal: $0) }
                guard found != nil else { throw DataplaneError(.key, "its key was not loaded; plan again") }
            } catch {
                if failure == nil { failure = .key(error) }
            }
        } else {
            buffer.append(String(repeating: "0", count: 64))
        }
        buffer.append(UInt8(ascii: "\n"))
    }

    private mutating func makeRoom() {
        if buffer.free < Self.longestLine { flush() }
    }

    private mutating func flush() {
        if failure == nil {
            do throws(UserspaceSocketError) { try socket.send(buffer) } catch { failure = .socket(error) }
        }
        // Nothing of a request that has failed is sent.
        buffer.erase()
    }

    /// Ends the request and reads the answer's error number.
    consuming func finish() throws(UserspaceRequestError) -> Int32 {
        makeRoom()
        buffer.append(UInt8(ascii: "\n"))
        if case .key(let error) = failure {
            buffer.erase()
            throw .key(error)
        }
        flush()
        defer { buffer.erase() }
        // A device that refuses a line answers at once and closes, while we may be sending still.
        if let failure, failure != .socket(.closed) { throw UserspaceRequestError(failure) }
        var answer = UserspaceDump()
        do throws(UserspaceAnswerError) {
            try readAnswer(of: socket, through: buffer) { line throws(UserspaceFormatError) in try answer.take(line) }
        } catch {
            throw UserspaceRequestError(error)
        }
        guard let number = answer.errorNumber else { throw .malformed("it has no error number") }
        return number
    }
}

/// Why a request came to nothing.
enum UserspaceRequestError: Error, Hashable {
    case socket(UserspaceSocketError)
    case key(DataplaneError)
    case malformed(String)

    init(_ failure: UserspaceRequest.Failure) {
        switch failure {
        case .socket(let error): self = .socket(error)
        case .key(let error): self = .key(error)
        }
    }

    init(_ error: UserspaceAnswerError) {
        switch error {
        case .socket(let error): self = .socket(error)
        case .malformed(let reason): self = .malformed(reason)
        }
    }
}

enum UserspaceAnswerError: Error {
    case socket(UserspaceSocketError)
    case malformed(String)
}

/// Reads lines up to the empty one that ends an answer; the buffer is zeroed behind them.
func readAnswer(
    of socket: borrowing UserspaceSocket, through buffer: SecretBuffer,
    _ take: (Span<UInt8>) throws(UserspaceFormatError) -> Void
) throws(UserspaceAnswerError) {
    buffer.erase()
    defer { buffer.erase() }
    while true {
        guard buffer.free > 0 else { throw .malformed("a line is too long") }
        do throws(UserspaceSocketError) {
            guard try socket.receive(into: buffer) else { throw UserspaceSocketError.closed }
        } catch {
            throw .socket(error)
        }
        var isEnd = false
        var used = 0
        do throws(UserspaceFormatError) {
            try buffer.withBytes { bytes throws(UserspaceFormatError) in
                var start = 0
                for index in bytes.indices where bytes[index] == UInt8(ascii: "\n") {
                    if isEnd { throw UserspaceFormatError(reason: "something follows its end") }
                    if index == start {
                        isEnd = true
                    } else {
                        try take(bytes.extracting(start..<index))
                    }
                    start = index + 1
                }
                if isEnd, start < bytes.count { throw UserspaceFormatError(reason: "something follows its end") }
                used = start
            }
        } catch {
            throw .malformed(error.reason)
        }
        if isEnd { return }
        buffer.removeFirst(used)
    }
}
