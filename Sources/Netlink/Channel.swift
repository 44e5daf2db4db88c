// Requests and their answers over a transport: sequence numbers, acknowledgements, errors and their texts.

import CLinux
import Glibc

/// One conversation with the kernel at a time. Not for several threads.
package final class Channel {
    let transport: any Transport
    let port: UInt32
    /// What answers are received into. Dumps come in pieces of up to 32 KiB.
    let buffer = Buffer(capacity: 64 << 10)
    /// The longest datagram since the buffer was last erased.
    private var used = 0
    private var sequence: UInt32 = 0
    /// Reused by all requests: a nest of 65,535 bytes with what goes before it, or 500 routes.
    private var encoder = Encoder(capacity: 128 << 10)

    /// How many messages share one datagram, and one acknowledgement, in a batch.
    package static let batchSize = 500

    package init(_ transport: any Transport) {
        self.transport = transport
        port = transport.port
    }

    // MARK: One request

    /// Sends one message that changes something and waits for its acknowledgement.
    package func request(
        _ type: UInt16, flags: Int32 = 0, _ body: (inout Encoder) -> Void
    ) throws(NetlinkError) {
        let sequence = try send(type, flags: NLM_F_REQUEST | NLM_F_ACK | flags, body)
        var nothing = Ignore()
        try answer(to: sequence, into: &nothing)
    }

    /// Sends one message that asks for one object, and gives the answer to `consumer`.
    package func get<Consumer: MessageConsumer>(
        _ type: UInt16, into consumer: inout Consumer, _ body: (inout Encoder) -> Void
    ) throws(NetlinkError) {
        let sequence = try send(type, flags: NLM_F_REQUEST | NLM_F_ACK, body)
        consumer.reset()
        try answer(to: sequence, into: &consumer)
    }

    /// Reads until the acknowledgement of `sequence`, or its refusal.
    private func answer<Consumer: MessageConsumer>(
        to sequence: UInt32, into consumer: inout Consumer
    ) throws(NetlinkError) {
        while true {
            let ended = try receive { (message) throws(NetlinkError) in
                guard message.sequence == sequence else { return false }
                if message.type == UInt16(NLMSG_ERROR) {
                    if let refusal = try Acknowledgement(message).refusal { throw refusal }
                    return true
                }
                guard consumer.take(message) else { throw .malformed("message of type \(message.type)") }
                return false
            }
            if ended { return }
        }
    }

    // MARK: Many requests

    /// Sends `count` messages, many to a datagram; only the last of each is acknowledged, because errors come back
    /// regardless. For families that answer every failed message of a datagram: rtnetlink does.
    ///
    /// - Parameter message: encodes the message of that index, from `begin` to `end`.
    /// - Returns: what failed, by index.
    package func batch(
        _ count: Int, _ message: (Int, inout Encoder) -> Void
    ) -> [Int: NetlinkError] {
        var failures: [Int: NetlinkError] = [:]
        var next = 0
        while next < count {
            let first = next
            encoder.clear()
            var starts: [Int] = []
            while next < count, starts.count < Self.batchSize {
                let start = encoder.count
                let index = next
                guard encoder.attempt({ message(index, &$0) }) else { break }
                starts.append(start)
                next += 1
            }
            guard !starts.isEmpty else {
                failures[first] = .tooLong
                next += 1
                continue
            }
            let base = sequence &+ 1
            sequence &+= UInt32(starts.count)
            for (offset, start) in starts.enumerated() {
                let isLast = offset == starts.count - 1
                encoder.address(
                    messageAt: start, sequence: base &+ UInt32(offset), port: port,
                    adding: UInt16(NLM_F_REQUEST | (isLast ? NLM_F_ACK : 0)))
            }
            collect(from: base, count: starts.count, offset: first, into: &failures)
        }
        encoder.clear()
        return failures
    }

    /// Sends the encoded datagram and sorts its answers by sequence number.
    private func collect(from base: UInt32, count: Int, offset: Int, into failures: inout [Int: NetlinkError]) {
        var refused: [Int: NetlinkError] = [:]
        var remainder: NetlinkError?
        do throws(NetlinkError) {
            try transmit(encoder)
            while true {
                let ended = try receive { (message) throws(NetlinkError) in
                    let index = message.sequence &- base
                    guard index < UInt32(count), message.type == UInt16(NLMSG_ERROR) else { return false }
                    if let refusal = try Acknowledgement(message).refusal { refused[Int(index)] = refusal }
                    return index == UInt32(count - 1)
                }
                if ended { break }
            }
        } catch {
            remainder = error
        }
        for index in 0..<count {
            if let error = refused[index] ?? remainder { failures[offset + index] = error }
        }
    }

    // MARK: Sending and receiving

    /// Encodes and sends one message.
    ///
    /// - Returns: its sequence number.
    func send(
        _ type: UInt16, flags: Int32, _ body: (inout Encoder) -> Void
    ) throws(NetlinkError) -> UInt32 {
        sequence &+= 1
        encoder.clear()
        encoder.begin(type, flags: UInt16(flags))
        body(&encoder)
        encoder.end()
        encoder.address(messageAt: 0, sequence: sequence, port: port, adding: 0)
        defer { encoder.clear() }
        try transmit(encoder)
        return sequence
    }

    /// Takes `count` sequence numbers more.
    ///
    /// - Returns: the last of them.
    func nextSequence(_ count: Int) -> UInt32 {
        sequence &+= UInt32(truncatingIfNeeded: count)
        return sequence
    }

    func transmit(_ encoder: borrowing Encoder) throws(NetlinkError) {
        let transport = self.transport
        try encoder.withMessages { (bytes) throws(NetlinkError) in
            do throws(Errno) {
                try retrying { () throws(Errno) in try transport.send(bytes) }
            } catch {
                throw .system(error)
            }
        }
    }

    /// Receives one datagram and shows each of its messages that is for us to `body`, until that returns true.
    ///
    /// - Returns: whether `body` returned true.
    func receive(_ body: (Message) throws(NetlinkError) -> Bool) throws(NetlinkError) -> Bool {
        let buffer = self.buffer
        let length: Int
        do throws(Errno) {
            length = try retrying { () throws(Errno) in
                var bytes = buffer.writableBytes()
                return try transport.receive(into: &bytes)
            }
        } catch {
            switch error.rawValue {
            // Dropped for want of room, or no answer in time: either way the answer is not to be had.
            case ENOBUFS, EAGAIN: throw .lost
            default: throw .system(error)
            }
        }
        used = max(used, min(length, buffer.capacity))
        guard length <= buffer.capacity else { throw .lost }
        var messages = Messages(buffer.bytes(length))
        while messages.next() {
            let message = messages.current
            guard message.port == port || message.port == 0 else { continue }
            if message.type == UInt16(NLMSG_NOOP) { continue }
            if message.type == UInt16(NLMSG_OVERRUN) { throw .lost }
            if try body(message) { return true }
        }
        if messages.isMalformed { throw .lost }
        return false
    }

    /// Overwrites what was received: for answers that hold secrets.
    package func eraseReceived() {
        buffer.erase(used)
        used = 0
    }

    /// The one place that deals with interrupted system calls.
    private func retrying<Result>(_ call: () throws(Errno) -> Result) throws(Errno) -> Result {
        while true {
            do throws(Errno) {
                return try call()
            } catch {
                if error.rawValue != EINTR { throw error }
            }
        }
    }
}

/// Takes answers, message by message.
package protocol MessageConsumer {
    /// Forgets all that was taken: the answer begins anew.
    mutating func reset()

    /// Takes one message.
    ///
    /// - Returns: false where it is not well formed.
    mutating func take(_ message: Message) -> Bool
}

/// For requests that are answered with an acknowledgement only.
private struct Ignore: MessageConsumer {
    mutating func reset() {}
    mutating func take(_ message: Message) -> Bool { true }
}
