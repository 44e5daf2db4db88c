// The system's log: a line arrives as syslog's, and nobody waits for one who does not read.

import CLinux
import Glibc
import Testing

@testable import WeftLoop

@Suite struct SystemLogTests {
    @Test func aLineArrives() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/log"
        let file = try Descriptor(socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0), "")
        try #require(try UnixAddress(path).withSocketAddress { bind(file.number, $0, $1) } == 0)
        let log = SystemLog(paths: [folder.path + "/none", path])
        #expect(log.write(level: 3, "it was taken back"))
        var bytes = [UInt8](repeating: 0, count: 200)
        let count = recv(file.number, &bytes, bytes.count, Int32(MSG_DONTWAIT))
        let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        #expect(text == "<27>weft[\(getpid())]: it was taken back")
    }

    @Test func whoDoesNotReadKeepsNobodyWaiting() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/log"
        let file = try Descriptor(socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0), "")
        try #require(try UnixAddress(path).withSocketAddress { bind(file.number, $0, $1) } == 0)
        let log = SystemLog(paths: [path])
        var lost = false
        let begun = ContinuousClock.now
        for _ in 0..<10_000 where !lost { lost = !log.write(level: 5, "a line") }
        #expect(lost)
        #expect(ContinuousClock.now - begun < .seconds(60))
    }

    @Test func nobodyIsThere() throws {
        #expect(!SystemLog(paths: [TemporaryFolder().path + "/none"]).write(level: 5, "a line"))
    }
}
