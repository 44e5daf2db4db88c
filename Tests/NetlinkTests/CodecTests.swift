// The encoder and the cursors, to the byte.

import CLinux
import Testing

@testable import Netlink

struct CodecTests {
    private func encoded(_ capacity: Int = 4096, _ body: (inout Encoder) -> Void) throws -> [UInt8] {
        var encoder = Encoder(capacity: capacity)
        body(&encoder)
        return try encoder.finish().withUnsafeBytes { Array($0) }
    }

    /// For values that may not be copied into what `#expect` records.
    private func check(_ condition: Bool, _ place: SourceLocation = #_sourceLocation) {
        #expect(condition, sourceLocation: place)
    }

    @Test func padsAttributes() throws {
        #expect(try encoded { $0.attribute(3, UInt8(9)) } == [5, 0, 3, 0, 9, 0, 0, 0])
        #expect(try encoded { $0.attribute(3, "lo") } == [7, 0, 3, 0, 108, 111, 0, 0])
        #expect(try encoded { $0.attribute(3, "") } == [5, 0, 3, 0, 0, 0, 0, 0])
        #expect(try encoded { $0.attribute(3, zeros: 0) } == [4, 0, 3, 0])
        #expect(
            try encoded { $0.attribute(3, pair: 1, 2) }
                == [20, 0, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0])
    }

    @Test func leavesNothingOfEarlierMessagesInThePadding() throws {
        var encoder = Encoder(capacity: 64)
        encoder.attribute(1, UInt64.max)
        encoder.clear()
        encoder.attribute(1, "abcde")
        let bytes = try encoder.finish().withUnsafeBytes { Array($0) }
        #expect(bytes == [10, 0, 1, 0, 97, 98, 99, 100, 101, 0, 0, 0])
    }

    @Test func nests() throws {
        let bytes = try encoded { encoder in
            encoder.nest(18) { inner in
                inner.attribute(1, "a")
                inner.nest(2) { $0.attribute(3, UInt32(7)) }
            }
        }
        #expect(
            bytes == [
                24, 0, 18, 0x80, 6, 0, 1, 0, 97, 0, 0, 0, 12, 0, 2, 0x80, 8, 0, 3, 0, 7, 0, 0, 0,
            ])
        let structure = try encoded { $0.structure(4) { $0.put(UInt16(2)) } }
        #expect(structure.prefix(6) == [6, 0, 4, 0, 2, 0])
    }

    @Test func overflowSticks() {
        var encoder = Encoder(capacity: 10)
        encoder.attribute(1, UInt32(1))
        encoder.attribute(1, UInt32(1))
        encoder.put(UInt8(0))
        check(encoder.hasOverflowed)
        check(encoder.count == 8)
        do throws(NetlinkError) {
            _ = try encoder.finish().byteCount
            Issue.record("an overflow went unnoticed")
        } catch {
            #expect(error == .tooLong)
        }
        encoder.clear()
        check(encoder.hasOverflowed == false)
    }

    @Test func rollsBackANestThatDoesNotFit() throws {
        var encoder = Encoder(capacity: 200_000)
        let outer = encoder.open(1)
        var count = 0
        while encoder.attempt(within: outer, { $0.nest(0) { $0.attribute(2, zeros: 1_000) } }) { count += 1 }
        encoder.close(outer)
        // 65,535 less the outer header hold 65 entries of 1,008 bytes.
        #expect(count == 65)
        check(encoder.hasOverflowed == false)
        let size = try encoder.finish().byteCount
        #expect(size == 4 + 65 * 1_008)

        var short = Encoder(capacity: 20)
        check(short.attempt { $0.attribute(1, UInt64(0)) })
        check(short.attempt { $0.attribute(1, UInt64(0)) } == false)
        check(short.attempt { $0.attribute(1, UInt32(0)) })
        check(short.count == 20)
    }

    @Test func refusesNestsAndAttributesOverTheLimit() {
        var nest = Encoder(capacity: 200_000)
        nest.nest(1) { encoder in for _ in 0..<70 { encoder.attribute(2, zeros: 1_000) } }
        check(nest.hasOverflowed)
        var attribute = Encoder(capacity: 200_000)
        attribute.attribute(1, zeros: 65_531)
        check(attribute.hasOverflowed == false)
        attribute.attribute(1, zeros: 65_532)
        check(attribute.hasOverflowed)
    }

    @Test func readsAttributes() {
        let bytes: [UInt8] = [
            5, 0, 1, 0, 9, 0, 0, 0, 8, 0, 2, 0xC0, 1, 2, 3, 4, 12, 0, 3, 0x80, 7, 0, 5, 0, 108, 111, 0, 0,
        ]
        var attributes = Attributes(bytes.span.bytes)
        check(attributes.next())
        check(attributes.type == 1 && attributes.count == 1 && attributes.uint8() == 9)
        check(attributes.next())
        check(attributes.type == 2)
        check(attributes.uint32() == 0x0403_0201)
        check(attributes.load(at: 1, as: UInt16.self) == 0x0302)
        check(attributes.next())
        var inner = attributes.nested()
        check(inner.next() && inner.type == 5 && inner.text() == "lo")
        check(inner.next() == false && inner.isMalformed == false)
        check(attributes.next() == false && attributes.isMalformed == false)
    }

    @Test(
        arguments: [
            [3, 0, 1, 0], [0, 0, 0, 0], [9, 0, 1, 0, 1, 2, 3, 4], [255, 255, 1, 0],
        ] as [[UInt8]])
    func noticesImpossibleLengths(_ bytes: [UInt8]) {
        var attributes = Attributes(bytes.span.bytes)
        check(attributes.next() == false)
        check(attributes.isMalformed)
    }

    @Test func readsShortPayloadsAsZeroAndSaysSo() {
        let bytes: [UInt8] = [5, 0, 1, 0, 9, 0, 0, 0]
        var attributes = Attributes(bytes.span.bytes)
        check(attributes.next())
        check(attributes.uint32() == 0)
        check(attributes.isMalformed)
        var outer = Attributes(bytes.span.bytes)
        outer.check(attributes)
        check(outer.isMalformed)
        let beyond = Attributes(bytes.span.bytes, from: 9)
        check(beyond.isMalformed)
    }

    @Test func surviveEveryCutAndEveryByte() {
        // A fuzz of small means: no length and no byte may lead outside the buffer. The address sanitizer agrees.
        let whole: [UInt8] = [
            40, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 24, 0, 1, 0x80, 8, 0, 2, 0, 1, 2, 3, 4, 12, 0, 3, 0x80, 7,
            0,
            5, 0, 108, 111, 0, 0,
        ]
        for cut in 0...whole.count {
            for position in 0..<max(1, cut) {
                for value: UInt8 in [0, 1, 3, 4, 5, 127, 128, 255] {
                    var bytes = Array(whole[..<cut])
                    if position < cut { bytes[position] = value }
                    var messages = Messages(bytes.span.bytes)
                    while messages.next() {
                        let message = messages.current
                        var attributes = Attributes(message.payload)
                        walk(&attributes, depth: 0)
                    }
                }
            }
        }
    }

    private func walk(_ attributes: inout Attributes, depth: Int) {
        while attributes.next() {
            _ = attributes.uint64()
            _ = attributes.text()
            guard depth < 4 else { continue }
            var inner = attributes.nested()
            walk(&inner, depth: depth + 1)
        }
    }
}
