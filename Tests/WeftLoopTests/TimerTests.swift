// Timers of the loop: their order, and what they cost.

import CLinux
import Glibc
import Testing

@testable import WeftLoop

@Suite struct TimerTests {
    @Test func fireInTheOrderOfTheirDeadlines() throws {
        let loop = try EventLoop()
        var fired: [Int] = []
        var deadlines: [UInt64] = []
        for (index, delay) in [30, 10, 50, 20, 40].enumerated() {
            deadlines.append(loop.schedule(after: .milliseconds(delay)) { fired.append(index) }.deadline)
        }
        loop.schedule(after: .milliseconds(60)) { loop.stop() }
        loop.runBounded()
        // Each counts from when it was made: a pause between two may change their order.
        #expect(fired == deadlines.indices.sorted { deadlines[$0] < deadlines[$1] })
    }

    @Test func neverFireEarly() throws {
        let loop = try EventLoop()
        let start = ContinuousClock.now
        loop.schedule(after: .milliseconds(80)) { loop.stop() }
        loop.runBounded()
        #expect(ContinuousClock.now - start >= .milliseconds(80))
    }

    @Test func aCancelledOneNeverFires() throws {
        let loop = try EventLoop()
        var fired: [String] = []
        let early = loop.schedule(after: .milliseconds(5)) { fired.append("early") }
        var late: EventLoop.Timer?
        loop.schedule(after: .milliseconds(20)) { late?.cancel() }
        late = loop.schedule(after: .milliseconds(30)) { fired.append("late") }
        #expect(early.isPending)
        early.cancel()
        early.cancel()
        #expect(!early.isPending)
        loop.schedule(after: .milliseconds(60)) { loop.stop() }
        loop.runBounded()
        #expect(fired.isEmpty)
    }

    @Test func oneCancelledByAnotherThatIsDueWithItNeverFires() throws {
        let loop = try EventLoop()
        var fired = 0
        var timers: [EventLoop.Timer] = []
        for _ in 0..<10 {
            timers.append(
                loop.schedule(after: .milliseconds(1)) {
                    fired += 1
                    for timer in timers { timer.cancel() }
                })
        }
        loop.schedule(after: .milliseconds(20)) { loop.stop() }
        usleep(5000)
        loop.runBounded()
        #expect(fired == 1)
    }

    @Test func theQueueIsAlwaysInOrderWhateverIsCancelled() throws {
        let loop = try EventLoop()
        var queue = TimerQueue()
        var model: [EventLoop.Timer] = []
        for step in 0..<20_000 {
            if Int.random(in: 0..<100) < (step < 10_000 ? 60 : 40) || model.isEmpty {
                let timer = EventLoop.Timer(deadline: UInt64.random(in: 0..<500), of: loop) {}
                queue.insert(timer)
                let place = model.firstIndex { $0.deadline > timer.deadline } ?? model.count
                model.insert(timer, at: place)
            } else if Bool.random(), let index = model.indices.randomElement() {
                queue.remove(model.remove(at: index))
            } else {
                let now = UInt64.random(in: 0..<500)
                let due = queue.popDue(in: queue.beginRound(at: now))
                #expect(due === (model.first.map { $0.deadline <= now } == true ? model.removeFirst() : nil))
            }
            #expect(queue.first === model.first)
        }
    }

    @Test func oneThatSchedulesItselfForEverStarvesNobody() throws {
        let loop = try EventLoop()
        let pipe = Pipe()
        var rounds = 0
        func again() {
            rounds += 1
            loop.schedule(after: .zero, again)
        }
        again()
        loop.schedule(after: .milliseconds(20)) { pipe.write() }
        try loop.watch(pipe.reader) { _ in loop.stop() }
        loop.runBounded()
        #expect(rounds > 1)
    }

    @Test func anIdleLoopIsNotWokenUp() throws {
        let loop = try EventLoop()
        let cancelled = loop.schedule(after: .milliseconds(1)) {}
        cancelled.cancel()
        loop.schedule(after: .milliseconds(400)) { loop.stop() }
        var before = rusage()
        var after = rusage()
        getrusage(1, &before)
        loop.run()
        getrusage(1, &after)
        // Each wait that ends is one voluntary switch.
        #expect(after.ru_nvcsw - before.ru_nvcsw <= 10)
    }

    @Test func outOfRangeDelaysAreBounded() throws {
        let loop = try EventLoop()
        let far = loop.schedule(after: .seconds(Int64.max)) { Issue.record("a century has passed") }
        loop.schedule(after: .seconds(-5)) { loop.stop() }
        loop.runBounded()
        #expect(far.isPending)
    }

    @Test func aTimerOutlivesItsLoop() throws {
        var loop: EventLoop? = try EventLoop()
        let timer = try #require(loop).schedule(after: .seconds(100)) {}
        loop = nil
        timer.cancel()
    }
}
