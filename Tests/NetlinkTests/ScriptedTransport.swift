// A transport that plays what a test wrote down: datagrams, losses, errors.

import CLinux
import Glibc
import Netlink

/// What the other end does at one `receive`.
enum Event {
    /// A datagram. The messages' sequence numbers are those of the last request unless they say otherwise.
    case datagram([Reply])
    /// A datagram of which the kernel says that it is this long, though the buffer is shorter.
    case tooLong(Int)
    case error(Int32)
}

/// One message of an answer.
struct Reply {
    var type: UInt16
    var flags: UInt16 = 0
    /// Added to the sequence number of the first message of the last request.
    var offset: UInt32 = 0
    var port: UInt32?
    var payload: [UInt8] = []

    static func bytes(_ value: Int32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

    static func attribute(_ type: UInt16, _ payload: [UInt8]) -> [UInt8] {
        let length = UInt16(payload.count + 4)
        let padding = [UInt8](repeating: 0, count: (4 - payload.count % 4) % 4)
        return [UInt8(length & 255), UInt8(length >> 8), UInt8(type & 255), UInt8(type >> 8)] + payload + padding
    }

    /// NLMSG_ERROR: an acknowledgement, or a refusal with the kernel's text.
    static func acknowledgement(_ errno: Int32 = 0, offset: UInt32 = 0, text: String? = nil) -> Reply {
        var payload = bytes(-errno) + [UInt8](repeating: 0, count: 16)
        var flags = UInt16(NLM_F_CAPPED)
        if let text {
            flags |= UInt16(NLM_F_ACK_TLVS)
            payload += attribute(UInt16(NLMSGERR_ATTR_MSG.rawValue), Array(text.utf8) + [0])
        }
        return Reply(type: UInt16(NLMSG_ERROR), flags: flags, offset: offset, payload: payload)
    }

    /// NLMSG_DONE: the end of a dump.
    static func done(_ errno: Int32 = 0, text: String? = nil, isInterrupted: Bool = false) -> Reply {
        var reply = Reply(type: UInt16(NLMSG_DONE), flags: UInt16(NLM_F_MULTI), payload: bytes(-errno))
        if isInterrupted { reply.flags |= UInt16(NLM_F_DUMP_INTR) }
        if let text {
            reply.flags |= UInt16(NLM_F_ACK_TLVS)
            reply.payload += attribute(UInt16(NLMSGERR_ATTR_MSG.rawValue), Array(text.utf8) + [0])
        }
        return reply
    }

    /// An object of a dump, with one number in it.
    static func object(_ number: UInt32, isInterrupted: Bool = false) -> Reply {
        let flags = UInt16(NLM_F_MULTI) | (isInterrupted ? UInt16(NLM_F_DUMP_INTR) : 0)
        return Reply(type: 100, flags: flags, payload: bytes(Int32(bitPattern: number)))
    }
}

final class ScriptedTransport: Transport {
    let port: UInt32 = 4711
    private var events: [Event]
    private var sendErrors: [Int32]
    /// All datagrams that were sent.
    private(set) var sent: [[UInt8]] = []
    private var sequence: UInt32 = 0

    init(_ events: [Event] = [], sendErrors: [Int32] = []) {
        self.events = events
        self.sendErrors = sendErrors
    }

    /// Whether everything that was written down has happened.
    var isExhausted: Bool { events.isEmpty && sendErrors.isEmpty }

    func send(_ bytes: RawSpan) throws(Errno) {
        if !sendErrors.isEmpty { throw Errno(sendErrors.removeFirst()) }
        sent.append(bytes.withUnsafeBytes { Array($0) })
        sequence = bytes.load(at: 8, as: UInt32.self) ?? 0
    }

    func receive(into buffer: inout MutableRawSpan) throws(Errno) -> Int {
        // Nothing more to say: what a socket does whose answer was lost.
        if events.isEmpty { throw Errno(EAGAIN) }
        switch events.removeFirst() {
        case .error(let errno): throw Errno(errno)
        case .tooLong(let count): return count
        case .datagram(let replies):
            var bytes: [UInt8] = []
            for reply in replies {
                let length = UInt32(16 + reply.payload.count)
                bytes += withUnsafeBytes(of: length) { Array($0) }
                bytes += withUnsafeBytes(of: reply.type) { Array($0) }
                bytes += withUnsafeBytes(of: reply.flags) { Array($0) }
                bytes += withUnsafeBytes(of: sequence &+ reply.offset) { Array($0) }
                bytes += withUnsafeBytes(of: reply.port ?? port) { Array($0) }
                bytes += reply.payload + [UInt8](repeating: 0, count: (4 - reply.payload.count % 4) % 4)
            }
            for (index, byte) in bytes.enumerated() {
                buffer.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
            }
            return bytes.count
        }
    }
}

/// Collects the numbers of `Reply.object`.
struct Numbers: MessageConsumer {
    var values: [UInt32] = []
    var resets = 0

    mutating func reset() {
        values = []
        resets += 1
    }

    mutating func take(_ message: Message) -> Bool {
        guard let number = message.payload.load(at: 0, as: UInt32.self) else { return false }
        values.append(number)
        return true
    }
}
