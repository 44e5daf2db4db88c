// Requests, dumps and batches against a scripted kernel: every way in which an answer can be late, cut, wrong or absent.

import CLinux
import Glibc
import Testing

@testable import Netlink

struct ChannelTests {
    private func request(_ transport: ScriptedTransport) throws(NetlinkError) {
        try Channel(transport).request(99) { $0.put(UInt32(7)) }
    }

    private func dump(_ transport: ScriptedTransport) throws(NetlinkError) -> Numbers {
        var numbers = Numbers()
        try Channel(transport).dump(99, into: &numbers) { $0.put(UInt32(7)) }
        return numbers
    }

    // MARK: Requests

    @Test func sendsAWholeHeader() throws {
        let transport = ScriptedTransport([.datagram([.acknowledgement()])])
        try request(transport)
        let flags = UInt8(NLM_F_REQUEST | NLM_F_ACK)
        #expect(
            transport.sent == [
                [20, 0, 0, 0, 99, 0, flags, 0, 1, 0, 0, 0, 0x67, 0x12, 0, 0, 7, 0, 0, 0]
            ])
    }

    @Test func triesAgainAfterSignals() throws {
        let transport = ScriptedTransport(
            [.error(EINTR), .error(EINTR), .datagram([.acknowledgement()])], sendErrors: [EINTR, EINTR, EINTR])
        try request(transport)
        #expect(transport.isExhausted)
        #expect(transport.sent.count == 1)
    }

    @Test(arguments: Int32(1)...133)
    func keepsErrorNumberAndText(_ errno: Int32) {
        let transport = ScriptedTransport([.datagram([.acknowledgement(errno, text: "because")])])
        #expect(throws: NetlinkError.refused(Errno(errno), text: "because")) { try request(transport) }
    }

    @Test func readsTheTextBehindAnUncappedRequest() {
        // Without NETLINK_CAP_ACK the whole request stands before the attributes.
        var reply = Reply.acknowledgement(EINVAL, text: "why")
        reply.flags = UInt16(NLM_F_ACK_TLVS)
        let text = reply.payload[20...]
        reply.payload = Reply.bytes(-EINVAL) + [28, 0, 0, 0] + [UInt8](repeating: 9, count: 24) + text
        #expect(throws: NetlinkError.refused(Errno(EINVAL), text: "why")) {
            try request(ScriptedTransport([.datagram([reply])]))
        }
    }

    @Test(arguments: (1...133).filter { $0 != EINTR })
    func reportsFailedSends(_ errno: Int32) {
        #expect(throws: NetlinkError.system(Errno(errno))) { try request(ScriptedTransport(sendErrors: [errno])) }
    }

    @Test(arguments: (1...133).filter { ![EINTR, ENOBUFS, EAGAIN].contains($0) })
    func reportsFailedReceives(_ errno: Int32) {
        #expect(throws: NetlinkError.system(Errno(errno))) { try request(ScriptedTransport([.error(errno)])) }
    }

    @Test(arguments: [
        [Event.error(ENOBUFS)], [.error(EAGAIN)], [.tooLong(70_000)], [.datagram([])],
        [.datagram([Reply(type: UInt16(NLMSG_OVERRUN))])],
        // Answers to other requests, and to other sockets, are no answers.
        [.datagram([.acknowledgement(offset: 1)])], [.datagram([.acknowledgement(offset: UInt32.max)])],
        [.datagram([Reply(type: UInt16(NLMSG_ERROR), port: 1, payload: [UInt8](repeating: 0, count: 20))])],
    ])
    func saysWhenTheAnswerIsLost(_ events: [Event]) {
        #expect(throws: NetlinkError.lost) { try request(ScriptedTransport(events)) }
    }

    @Test func skipsStaleAnswers() throws {
        try request(
            ScriptedTransport([
                .datagram([.acknowledgement(EPERM, offset: UInt32.max), Reply(type: UInt16(NLMSG_NOOP))]),
                .datagram([.acknowledgement()]),
            ]))
    }

    @Test func refusesShortAcknowledgements() {
        #expect(throws: NetlinkError.malformed("acknowledgement")) {
            try request(ScriptedTransport([.datagram([Reply(type: UInt16(NLMSG_ERROR), payload: [1])])]))
        }
    }

    @Test func getsOneObject() throws {
        let transport = ScriptedTransport([.datagram([.object(5)]), .datagram([.acknowledgement()])])
        var numbers = Numbers()
        try Channel(transport).get(99, into: &numbers) { $0.put(UInt32(7)) }
        #expect(numbers.values == [5])
    }

    @Test func sendsNothingThatDoesNotFit() {
        let transport = ScriptedTransport()
        #expect(throws: NetlinkError.tooLong) {
            try Channel(transport).request(99) { $0.attribute(1, zeros: 65_532) }
        }
        #expect(transport.sent.isEmpty)
    }

    // MARK: Dumps

    @Test func dumpsInPieces() throws {
        let transport = ScriptedTransport([
            .datagram([.object(1), .object(2)]), .error(EINTR), .datagram([.object(3)]), .datagram([.done()]),
        ])
        #expect(try dump(transport).values == [1, 2, 3])
        #expect(transport.sent.count == 1)
    }

    @Test func neverTakesAnErrorAtTheEndForEmpty() {
        #expect(throws: NetlinkError.refused(Errno(ENODEV), text: "no such device")) {
            try dump(ScriptedTransport([.datagram([.done(ENODEV, text: "no such device")])]))
        }
        #expect(throws: NetlinkError.refused(Errno(EPERM), text: "")) {
            try dump(ScriptedTransport([.datagram([.acknowledgement(EPERM)])]))
        }
    }

    @Test(arguments: [
        // Interrupted in the middle, and at the very end.
        [Event.datagram([.object(1), .object(2, isInterrupted: true)]), .datagram([.object(3), .done()])],
        [.datagram([.object(1), .object(2)]), .datagram([.done(isInterrupted: true)])],
        // Datagrams dropped and cut; the rest is drained.
        [.datagram([.object(1)]), .error(ENOBUFS), .datagram([.object(3), .done()])],
        [.datagram([.object(1)]), .tooLong(100_000), .datagram([.object(3), .done()])],
        // The end itself lost.
        [.datagram([.object(1)]), .error(EAGAIN), .error(EAGAIN)],
        // The old dump still running, as the kernel sees it.
        [.datagram([.acknowledgement(EBUSY)])], [.datagram([.done(EINTR)])],
    ])
    func dumpsAgainAfter(_ trouble: [Event]) throws {
        let transport = ScriptedTransport(trouble + [.datagram([.object(8), .object(9), .done()])])
        let numbers = try dump(transport)
        #expect(numbers.values == [8, 9])
        #expect(numbers.resets == 2)
        #expect(transport.sent.count == 2)
        #expect(transport.isExhausted)
    }

    @Test func givesUpOnDumpsThatAreAlwaysInterrupted() {
        let event = Event.datagram([.object(1), .done(isInterrupted: true)])
        let transport = ScriptedTransport([Event](repeating: event, count: 100))
        #expect(throws: NetlinkError.interrupted) { try dump(transport) }
        #expect(transport.sent.count == 10)
        #expect(throws: NetlinkError.lost) { try dump(ScriptedTransport()) }
    }

    @Test func refusesMalformedObjectsAfterDraining() {
        let transport = ScriptedTransport([
            .datagram([Reply(type: 100, payload: [1])]), .datagram([.object(2), .done()]),
        ])
        #expect(throws: NetlinkError.malformed("dump of type 99")) { try dump(transport) }
        #expect(transport.isExhausted)
    }

    @Test func dumpsAskForDumps() throws {
        let transport = ScriptedTransport([.datagram([.done()])])
        _ = try dump(transport)
        #expect(UInt16(transport.sent[0][6]) | UInt16(transport.sent[0][7]) << 8 == UInt16(NLM_F_REQUEST | NLM_F_DUMP))
    }

    // MARK: Batches

    private func batch(_ count: Int, _ transport: ScriptedTransport) -> [Int: NetlinkError] {
        Channel(transport).batch(count) { index, encoder in
            encoder.begin(99, flags: 0)
            encoder.put(UInt32(index))
            encoder.end()
        }
    }

    @Test func acknowledgesOnlyTheLastOfADatagram() {
        let transport = ScriptedTransport([
            .datagram([.acknowledgement(offset: 499)]), .datagram([.acknowledgement(offset: 499)]),
            .datagram([.acknowledgement(offset: 99)]),
        ])
        #expect(batch(1_100, transport).isEmpty)
        #expect(transport.sent.map(\.count) == [10_000, 10_000, 2_000])
        let flags = transport.sent[2].indices.filter { $0 % 20 == 6 }.map { transport.sent[2][$0] }
        #expect(flags.dropLast().allSatisfy { $0 == UInt8(NLM_F_REQUEST) })
        #expect(flags.last == UInt8(NLM_F_REQUEST | NLM_F_ACK))
    }

    @Test func sortsErrorsBySequence() {
        let transport = ScriptedTransport([
            .datagram([.acknowledgement(EEXIST, offset: 3, text: "there")]),
            .datagram([.acknowledgement(EINVAL, offset: 700), .acknowledgement(EPERM, offset: 499)]),
            .datagram([.acknowledgement(ESRCH, offset: 0), .acknowledgement(offset: 1)]),
        ])
        #expect(
            batch(502, transport) == [
                3: .refused(Errno(EEXIST), text: "there"), 499: .refused(Errno(EPERM), text: ""),
                500: .refused(Errno(ESRCH), text: ""),
            ])
    }

    @Test func doesNotClaimWhatItDoesNotKnow() {
        let transport = ScriptedTransport([
            .datagram([.acknowledgement(EEXIST, offset: 1)]), .error(ENOBUFS),
        ])
        #expect(batch(3, transport) == [0: .lost, 1: .refused(Errno(EEXIST), text: ""), 2: .lost])
    }

    @Test func reportsABatchThatCannotBeSent() {
        #expect(
            batch(2, ScriptedTransport(sendErrors: [EPERM]))
                == [0: .system(Errno(EPERM)), 1: .system(Errno(EPERM))])
    }

    @Test func leavesOutAMessageThatFitsNowhere() {
        let transport = ScriptedTransport([.datagram([.acknowledgement()]), .datagram([.acknowledgement()])])
        let failures = Channel(transport).batch(3) { index, encoder in
            encoder.begin(99, flags: 0)
            if index == 1 { for _ in 0..<3 { encoder.attribute(1, zeros: 65_000) } }
            encoder.end()
        }
        #expect(failures == [1: .tooLong])
        #expect(transport.sent.count == 2)
    }

    @Test func erasesWhatItReceived() throws {
        let channel = Channel(ScriptedTransport([.datagram([.object(0xDEAD_BEEF), .done()])]))
        var numbers = Numbers()
        try channel.dump(99, into: &numbers) { _ in }
        channel.eraseReceived()
        let buffer = channel.buffer
        let rest = buffer.bytes(64).withUnsafeBytes { bytes in bytes.allSatisfy { $0 == 0 } }
        #expect(rest)
    }
}
