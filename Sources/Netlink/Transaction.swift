// Transactions of nfnetlink: many messages in one datagram that the kernel carries out all or none.

import CLinux
import Glibc

/// Why a transaction was not carried out. Nothing of it was, unless the answer was lost.
package struct TransactionFailure: Error, Hashable, Sendable {
    /// Which of its messages the kernel refused first, from 0; nil where it was the transaction as a whole.
    package var index: Int?
    package var error: NetlinkError

    package init(index: Int? = nil, _ error: NetlinkError) {
        self.index = index
        self.error = error
    }

    /// Whether the configuration is not any more the one that the caller has read.
    package var isOutdated: Bool { index == nil && error.errno?.rawValue == ERESTART }
}

extension Channel {
    /// The longest transaction, in bytes; the socket's buffer has the same limit.
    private static let longestTransaction = 256 << 20

    /// Sends messages of one subsystem between a begin and an end, as one datagram, and waits for what comes of them.
    ///
    /// - Parameters:
    ///   - subsystem: NFNL_SUBSYS_*
    ///   - generation: what the configuration was when it was read: the kernel carries nothing out where it has changed
    ///     since then (ERESTART).
    ///   - size: about how many bytes there will be. Where there are more, `body` is called again.
    ///   - body: encodes the messages, each from `begin` to `end`.
    package func transaction(
        _ subsystem: Int32, generation: UInt32, size: Int = 0, _ body: (inout Encoder) -> Void
    ) throws(TransactionFailure) {
        var capacity = max(size, 16 << 10)
        while true {
            var encoder = Encoder(capacity: capacity)
            encoder.putBatch(subsystem, generation, body)
            if !encoder.hasOverflowed { return try transact(&encoder) }
            capacity *= 2
            guard capacity <= Self.longestTransaction else { throw TransactionFailure(.tooLong) }
        }
    }

    /// Waits for a transaction that is just being carried out, anybody's. The kernel gives the configuration its new
    /// generation a moment before it shows what is new: whoever reads in between sees some of both. An empty transaction
    /// changes nothing and waits its turn.
    ///
    /// What it is answered, should `generation` be over, is left alone: whoever compares generations finds out.
    package func awaitTransactions(of subsystem: Int32, generation: UInt32) throws(NetlinkError) {
        var encoder = Encoder(capacity: 128)
        encoder.putBatch(subsystem, generation) { _ in }
        _ = encoder.address(from: nextSequence(2) &- 1, port: port)
        try transmit(encoder)
    }

    /// Sends what was encoded, and reads up to the acknowledgement of the last message before the end.
    private func transact(_ encoder: inout Encoder) throws(TransactionFailure) {
        let base = nextSequence(1)
        let count = encoder.address(from: base, port: port)
        guard count > 2 else { return }
        _ = nextSequence(count - 1)
        var failure: TransactionFailure?
        do throws(NetlinkError) {
            try transmit(encoder)
            while true {
                let ended = try receive { (message) throws(NetlinkError) in
                    let index = Int(message.sequence &- base)
                    guard index < count, message.type == UInt16(NLMSG_ERROR) else { return false }
                    let refusal = try Acknowledgement(message).refusal
                    // What concerns the whole is said of the begin, and nothing that follows is of any interest.
                    if let refusal, index == 0 || index == count - 1 {
                        failure = TransactionFailure(refusal)
                        return true
                    }
                    // The first refusal is the cause; many that follow are its consequences.
                    if let refusal, failure == nil { failure = TransactionFailure(index: index - 1, refusal) }
                    return index == count - 2
                }
                if ended { break }
            }
        } catch {
            throw failure ?? TransactionFailure(error)
        }
        if let failure { throw failure }
    }
}

extension Encoder {
    /// What `body` puts, between a begin and an end.
    fileprivate mutating func putBatch(_ subsystem: Int32, _ generation: UInt32, _ body: (inout Encoder) -> Void) {
        putBatchEdge(UInt16(NFNL_MSG_BATCH_BEGIN), subsystem) {
            $0.attribute(UInt16(NFNL_BATCH_GENID.rawValue), generation.bigEndian)
        }
        body(&self)
        putBatchEdge(UInt16(NFNL_MSG_BATCH_END), subsystem) { _ in }
    }

    /// A message that begins or ends a transaction of `subsystem`.
    fileprivate mutating func putBatchEdge(
        _ type: UInt16, _ subsystem: Int32, _ attributes: (inout Encoder) -> Void
    ) {
        begin(type, flags: UInt16(NLM_F_REQUEST))
        putNetfilterHeader(family: UInt8(AF_UNSPEC), resource: UInt16(subsystem))
        attributes(&self)
        end()
    }

    /// The header of nfnetlink (struct nfgenmsg).
    package mutating func putNetfilterHeader(family: UInt8, resource: UInt16 = 0) {
        put(family)
        put(UInt8(NFNETLINK_V0))
        put(resource.bigEndian)
    }
}
