// Dumps: many messages that are one answer, and that are believed only when they are complete.

import CLinux
import Glibc

extension Channel {
    /// How often a dump that changes or losses interrupted is begun anew. A busy host interrupts one dump in a few; ten
    /// in a row mean that something writes all the time.
    private static let dumpAttempts = 10

    /// Asks for all objects that match, and gives them to `consumer`. Where the kernel saw a change meanwhile, or had to
    /// drop a part, `consumer` is reset and gets everything again.
    ///
    /// - Parameter body: writes the fixed header, and the attributes to filter by.
    package func dump<Consumer: MessageConsumer>(
        _ type: UInt16, into consumer: inout Consumer, _ body: (inout Encoder) -> Void
    ) throws(NetlinkError) {
        var last = NetlinkError.interrupted
        for _ in 0..<Self.dumpAttempts {
            consumer.reset()
            do throws(NetlinkError) {
                if try dumpOnce(type, into: &consumer, body) { return }
                last = .interrupted
            } catch {
                switch error {
                case .lost: last = error
                case .refused(let errno, _) where errno.rawValue == EINTR || errno.rawValue == EBUSY: last = error
                default: throw error
                }
            }
        }
        throw last
    }

    /// - Returns: false where the kernel saw a change while it dumped.
    private func dumpOnce<Consumer: MessageConsumer>(
        _ type: UInt16, into consumer: inout Consumer, _ body: (inout Encoder) -> Void
    ) throws(NetlinkError) -> Bool {
        let sequence = try send(type, flags: NLM_F_REQUEST | NLM_F_DUMP, body)
        var isInterrupted = false
        var isMalformed = false
        var isLossy = false
        while true {
            let ended: Bool
            do throws(NetlinkError) {
                ended = try receive { (message) throws(NetlinkError) in
                    guard message.sequence == sequence else { return false }
                    if message.isInterrupted { isInterrupted = true }
                    switch message.type {
                    case UInt16(NLMSG_DONE):
                        if let refusal = try Acknowledgement(endOfDump: message).refusal { throw refusal }
                        return true
                    case UInt16(NLMSG_ERROR):
                        if let refusal = try Acknowledgement(message).refusal { throw refusal }
                        return false
                    default:
                        // Once it is known to be useless, the rest is only drained: an unfinished dump would make the
                        // next one fail with EBUSY.
                        if !isMalformed, !isInterrupted, !isLossy, !consumer.take(message) { isMalformed = true }
                        return false
                    }
                }
            } catch {
                // A second loss in a row means that nothing more comes.
                guard error == .lost, !isLossy else { throw error }
                isLossy = true
                continue
            }
            if ended { break }
        }
        if isLossy { throw .lost }
        if isMalformed, !isInterrupted { throw .malformed("dump of type \(type)") }
        return !isInterrupted
    }
}
