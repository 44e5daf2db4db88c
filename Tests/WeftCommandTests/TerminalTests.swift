// The terminal: what is written arrives whole, a reader that goes away ends nothing, a full disk is kept.

import Glibc
import Testing

@testable import WeftCommand

@Suite struct TerminalTests {
    private func pipePair() -> (read: Int32, write: Int32) {
        var ends: [Int32] = [0, 0]
        pipe(&ends)
        return (ends[0], ends[1])
    }

    private func readAll(_ descriptor: Int32) -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count <= 0 { break }
            bytes += buffer.prefix(count)
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test func writesToBothStreams() {
        let (out, err) = (pipePair(), pipePair())
        let terminal = Terminal(input: 0, output: out.write, error: err.write)
        terminal.write("one")
        terminal.write("two", terminator: "")
        terminal.write("three", to: .error)
        close(out.write)
        close(err.write)
        #expect(readAll(out.read) == "one\ntwo")
        #expect(readAll(err.read) == "three\n")
        #expect(terminal.failure == nil)
    }

    @Test func aReaderThatGoesAwayEndsNothing() {
        let out = pipePair()
        close(out.read)
        let terminal = Terminal(input: 0, output: out.write, error: 2)
        terminal.write("lost")
        terminal.write("lost too")
        #expect(terminal.failure == nil)
        close(out.write)
    }

    @Test func aFullDiskIsKept() {
        let full = open("/dev/full", O_WRONLY)
        let terminal = Terminal(input: 0, output: full, error: 2)
        terminal.write("lost")
        #expect(terminal.failure == "No space left on device")
        close(full)
    }

    @Test func aNonBlockingPipeIsWaitedFor() async {
        let out = pipePair()
        _ = fcntl(out.write, F_SETFL, O_NONBLOCK)
        let text = String(repeating: "x", count: 1_000_000)
        let reader = Task.detached { self.readAll(out.read).utf8.count }
        Terminal(input: 0, output: out.write, error: 2).write(text)
        close(out.write)
        #expect(await reader.value == 1_000_001)
    }

    @Test(arguments: [
        ("y\n", true), ("YES\n", true), (" yes \r\n", true), ("n\n", false), ("\n", false), ("", false),
        ("yy\n", false),
    ])
    func asks(answer: String, expected: Bool) {
        let (input, err) = (pipePair(), pipePair())
        _ = answer.withCString { write(input.write, $0, answer.utf8.count) }
        close(input.write)
        #expect(Terminal(input: input.read, output: 1, error: err.write).confirm("Apply?") == expected)
        close(err.write)
        #expect(readAll(err.read).hasPrefix("Apply? [y/N] "))
    }

    @Test func aPipeHasNoColourAndAsksNothing() {
        let out = pipePair()
        let terminal = Terminal(input: out.read, output: out.write, error: out.write)
        #expect(!terminal.isTerminal() && !terminal.usesColor() && !terminal.canAsk)
        close(out.read)
        close(out.write)
    }
}
