// The loop on real descriptors and timers.

import CLinux
import Glibc
import Testing
import WeftLoop

/// A pipe, closed with its owner.
final class Pipe {
    private(set) var reader: Int32 = -1
    private(set) var writer: Int32 = -1

    init() {
        var ends: [Int32] = [-1, -1]
        pipe(&ends)
        (reader, writer) = (ends[0], ends[1])
    }

    deinit { closeBoth() }

    func write(_ text: String = "x") { _ = text.withCString { Glibc.write(writer, $0, strlen($0)) } }

    func read() -> String {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = Glibc.read(reader, &bytes, bytes.count)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    func closeWriter() {
        if writer >= 0 { close(writer) }
        writer = -1
    }

    func closeBoth() {
        closeWriter()
        if reader >= 0 { close(reader) }
        reader = -1
    }
}

extension EventLoop {
    /// Runs until a handler stops it; a test that hangs fails after a time that no machine needs.
    func runBounded(_ seconds: Int = 60, _ location: SourceLocation = #_sourceLocation) {
        let limit = schedule(after: .seconds(seconds)) { [self] in
            Issue.record("nothing stopped the loop", sourceLocation: location)
            stop()
        }
        run()
        limit.cancel()
    }
}

@Suite struct EventLoopTests {
    @Test func tellsWhatIsReady() throws {
        let loop = try EventLoop()
        let pipe = Pipe()
        var told: [EventLoop.Readiness] = []
        try loop.watch(pipe.reader) { readiness in
            told.append(readiness)
            _ = pipe.read()
            if told.count == 1 { pipe.closeWriter() } else { loop.stop() }
        }
        pipe.write()
        loop.runBounded()
        #expect(told.count == 2)
        #expect(told[0] == .read)
        #expect(told[1].contains(.ended))
    }

    @Test func changesWhatItWaitsFor() throws {
        let loop = try EventLoop()
        let pipe = Pipe()
        var told: [EventLoop.Readiness] = []
        try loop.watch(pipe.writer, []) { readiness in
            told.append(readiness)
            loop.stop()
        }
        loop.schedule(after: .milliseconds(20)) {
            #expect(told.isEmpty)
            loop.change(pipe.writer, .write)
        }
        loop.runBounded()
        #expect(told == [.write])
    }

    @Test func refusesWhatCannotBeWaitedFor() throws {
        let loop = try EventLoop()
        let file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)
        defer { close(file) }
        #expect(throws: LoopError("wait for descriptor \(file)", errno: EPERM)) { try loop.watch(file) { _ in } }
        let pipe = Pipe()
        try loop.watch(pipe.reader) { _ in }
        #expect(throws: LoopError("wait for descriptor \(pipe.reader)", errno: EEXIST)) {
            try loop.watch(pipe.reader) { _ in }
        }
        loop.forget(9999)
        loop.change(-1, .read)
        loop.forget(-1)
    }

    @Test func aDescriptorForgottenInTheSameRoundIsNotCalled() throws {
        let loop = try EventLoop()
        let pipes = (0..<20).map { _ in Pipe() }
        var called = 0
        for pipe in pipes {
            pipe.write()
            try loop.watch(pipe.reader) { _ in
                called += 1
                for other in pipes { loop.forget(other.reader) }
                loop.schedule(after: .milliseconds(20)) { loop.stop() }
            }
        }
        loop.runBounded()
        #expect(called == 1)
    }

    @Test func aReusedNumberIsNotTakenForTheOldOne() throws {
        let loop = try EventLoop()
        let (first, second, new) = (Pipe(), Pipe(), Pipe())
        var called: [String] = []
        // Whichever comes first ends the other one, whose number goes to another pipe. (In one call: other tests run
        // beside this one, and open and close as well.)
        func end(_ pipe: Pipe) throws {
            loop.forget(pipe.reader)
            dup2(new.reader, pipe.reader)
            try loop.watch(pipe.reader) { _ in called.append("new") }
            loop.schedule(after: .milliseconds(20)) { loop.stop() }
        }
        for (name, pipe, other) in [("first", first, second), ("second", second, first)] {
            pipe.write()
            try loop.watch(pipe.reader) { _ in
                called.append(name)
                _ = pipe.read()
                #expect(throws: Never.self) { try end(other) }
            }
        }
        loop.runBounded()
        #expect(called.count == 1)
        #expect(called != ["new"])
    }

    @Test func handlersWatchAndStopFromWithin() throws {
        let loop = try EventLoop()
        let (outer, inner) = (Pipe(), Pipe())
        var told: [String] = []
        try loop.watch(outer.reader) { _ in
            _ = outer.read()
            told.append("outer")
            inner.write()
            #expect(throws: Never.self) {
                try loop.watch(inner.reader) { _ in
                    told.append("inner")
                    loop.stop()
                }
            }
        }
        outer.write()
        loop.runBounded()
        #expect(told == ["outer", "inner"])
        // What is still ready is told again.
        loop.runBounded()
        #expect(told == ["outer", "inner", "inner"])
    }

    @Test func aStopBeforeTheRunCounts() throws {
        let loop = try EventLoop()
        loop.stop()
        loop.run()
        var ran = false
        loop.schedule(after: .zero) {
            ran = true
            loop.stop()
        }
        loop.runBounded()
        #expect(ran)
    }

    @Test func twoThousandDescriptorsAreAllServed() throws {
        var limit = rlimit()
        getrlimit(7, &limit)
        let wanted = min(2000, Int(limit.rlim_cur) / 2 - 100)
        let loop = try EventLoop()
        let pipes = (0..<wanted / 2).map { _ in Pipe() }
        var served: Set<Int32> = []
        for pipe in pipes {
            pipe.write()
            try loop.watch(pipe.reader) { [reader = pipe.reader] _ in
                // Never read: it stays ready, and must keep nobody else from being served.
                served.insert(reader)
                if served.count == pipes.count { loop.stop() }
            }
        }
        loop.runBounded()
        #expect(served.count == pipes.count)
    }
}
