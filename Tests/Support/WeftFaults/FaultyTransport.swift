// A netlink socket that goes wrong when a script says so; all else goes to the real one.

import CLinux
import Glibc
package import Netlink

/// Wraps a transport. What is struck is a datagram and the answers to it, until the next datagram is sent.
package final class FaultyTransport: Transport {
    private let base: any Transport
    private let script: FaultScript
    private let bus: Bus
    /// Of the datagram that was sent last.
    private var fault: Fault?
    private var signals = 0
    /// Answers that the kernel never gave, or gives a second time.
    private var answers: [[UInt8]] = []
    /// The sequence number of the last message that was sent; its answer is the last one.
    private var lastSequence: UInt32 = 0
    /// The last answer was spoilt: whoever waits for more waits in vain, here without the five seconds.
    private var isOver = false

    package init(_ base: any Transport, _ script: FaultScript, _ bus: Bus = .route) {
        self.base = base
        self.bus = bus
        self.script = script
    }

    package var port: UInt32 { base.port }

    package func send(_ bytes: RawSpan) throws(Errno) {
        if case .signals = fault, signals > 0 {
            signals -= 1
            throw Errno(EINTR)
        }
        let datagram = bytes.withUnsafeBytes { Array($0) }
        let headers = MessageHeader.all(of: datagram)
        if case .signals = fault {
            // The signals are over: this is the datagram that they held up.
            fault = nil
            return try base.send(bytes)
        }
        answers = []
        isOver = false
        // The end of a transaction is not answered.
        let isTransaction = bus == .netfilter && headers.contains { $0.isMutation(on: bus) }
        lastSequence = (isTransaction ? headers.dropLast().last : headers.last)?.sequence ?? 0
        fault = script.next(isDump: headers.first?.isDump ?? false)
        switch fault {
        case .send(let errno): throw Errno(errno)
        case .signals(let count):
            signals = count - 1
            throw Errno(EINTR)
        case .refuse(let errno):
            guard let first = headers.first else { return try base.send(bytes) }
            answers = [first.refusal(errno, to: port)]
            // A transaction that is refused is refused as a whole.
            if first.next < datagram.count, !isTransaction {
                let rest = Array(datagram[first.next...])
                try base.send(rest.span.bytes)
            }
        case .refuseAll(let errno):
            answers = headers.map { $0.refusal(errno, to: port) }
        default:
            try base.send(bytes)
        }
    }

    package func receive(into buffer: inout MutableRawSpan) throws(Errno) -> Int {
        if !answers.isEmpty {
            let answer = answers.removeFirst()
            buffer.withUnsafeMutableBytes { $0.copyBytes(from: answer.prefix($0.count)) }
            return answer.count
        }
        if isOver { throw Errno(EAGAIN) }
        switch fault {
        case .delay:
            fault = nil
            throw Errno(EAGAIN)
        case .lose:
            fault = nil
            try spoil(&buffer)
            throw Errno(ENOBUFS)
        case .overlong:
            fault = nil
            try spoil(&buffer)
            return buffer.byteCount + 1
        case .cut:
            return try spoil(&buffer) / 2
        case .duplicate:
            let length = try base.receive(into: &buffer)
            answers = [buffer.withUnsafeBytes { Array($0.prefix(length)) }]
            return length
        case .interrupt:
            let length = try base.receive(into: &buffer)
            flag(&buffer, length)
            return length
        default:
            return try base.receive(into: &buffer)
        }
    }

    /// Receives what the caller is not to see, or not whole.
    @discardableResult
    private func spoil(_ buffer: inout MutableRawSpan) throws(Errno) -> Int {
        let length = try base.receive(into: &buffer)
        let headers = buffer.withUnsafeBytes { MessageHeader.all(of: Array($0.prefix(length))) }
        isOver = headers.contains { header in
            header.type == UInt16(NLMSG_DONE) || header.type == UInt16(NLMSG_ERROR) && header.sequence == lastSequence
        }
        return length
    }

    /// Sets NLM_F_DUMP_INTR in every message.
    private func flag(_ buffer: inout MutableRawSpan, _ length: Int) {
        buffer.withUnsafeMutableBytes { bytes in
            for header in MessageHeader.all(of: Array(bytes.prefix(length))) {
                let flags = header.flags | UInt16(NLM_F_DUMP_INTR)
                bytes.storeBytes(of: flags, toByteOffset: header.start + 6, as: UInt16.self)
            }
        }
    }
}
