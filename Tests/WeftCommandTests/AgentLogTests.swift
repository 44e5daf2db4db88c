// The agent's log: nobody waits for who reads it, and what he missed is counted.

import Glibc
import Testing
import WeftAgent

@testable import WeftCommand

/// Each is to be over in a minute, by a clock of its own: a time limit of the library also counts the wait for a thread.
@Suite struct AgentLogTests {
    @Test func whoDoesNotReadKeepsNobodyWaiting() {
        let begun = ContinuousClock.now
        var ends: [Int32] = [0, 0]
        pipe(&ends)
        // Two pages of room: with less, a pipe has room only while it is empty.
        _ = fcntl(ends[1], 1031, 8192)
        let log = AgentLog(least: .info, on: Terminal(input: 0, output: 1, error: ends[1]))
        func say(_ text: String) { log.write(AgentEvent(.notice, .agent, interface: nil, text)) }
        for number in 1...100 { say("number \(number) \(String(repeating: "x", count: 100))") }
        var text = take(ends[0])
        let written = text.split(separator: "\n").count
        #expect((1..<100).contains(written))
        #expect(text.contains("number 1 "))
        say("the next")
        text = take(ends[0])
        #expect(text.contains("\(100 - written) lines were left out here"))
        #expect(text.contains("the next"))
        say("one more")
        text = take(ends[0])
        #expect(text.contains("one more"))
        #expect(!text.contains("left out"))
        #expect(ContinuousClock.now - begun < .seconds(60))
        close(ends[0])
        close(ends[1])
    }

    @Test func aLineThatNeverFitsIsCutOffAndCounted() {
        let begun = ContinuousClock.now
        var ends: [Int32] = [0, 0]
        pipe(&ends)
        _ = fcntl(ends[1], 1031, 8192)
        let log = AgentLog(least: .info, on: Terminal(input: 0, output: 1, error: ends[1]))
        log.write(AgentEvent(.notice, .agent, interface: nil, String(repeating: "x", count: 10_000)))
        _ = take(ends[0])
        log.write(AgentEvent(.notice, .agent, interface: nil, "the next"))
        let lines = take(ends[0]).split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines.first?.contains("1 line was left out here") == true)
        #expect(lines.last?.hasSuffix("the next") == true)
        #expect(ContinuousClock.now - begun < .seconds(60))
        close(ends[0])
        close(ends[1])
    }

    /// What lies in a pipe.
    private func take(_ descriptor: Int32) -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        while poll(&entry, 1, 0) == 1 {
            let count = read(descriptor, &buffer, buffer.count)
            if count <= 0 { break }
            bytes += buffer.prefix(count)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
