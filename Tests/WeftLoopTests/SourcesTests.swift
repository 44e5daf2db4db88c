// Signals, messages from threads, the clock's alarm and the service manager: the real ones.

import CLinux
import Glibc
import Testing
import WeftLoop

/// A thread of its own (the pool of Swift's tasks may have but one, which a test keeps waiting).
struct Thread {
    private final class Job {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }

    private var thread = pthread_t()

    init(_ body: @escaping () -> Void) {
        let argument = Unmanaged.passRetained(Job(body)).toOpaque()
        let started = pthread_create(
            &thread, nil,
            { argument in
                argument.map { Unmanaged<Job>.fromOpaque($0).takeRetainedValue().body() }
                return nil
            }, argument)
        #expect(started == 0)
    }

    func join() { pthread_join(thread, nil) }
}

/// Runs `body` on a thread that ends with it: what it does to its thread is gone then.
func onThread(_ body: @escaping () -> Void) { Thread(body).join() }

@Suite struct SignalsTests {
    /// In a process of its own: `system`, which other tests call, has SIGINT ignored for a while, and what is pending lost.
    @Test func comeThroughTheLoop() async {
        await #expect(processExitsWith: .success) {
            onThread {
                #expect(throws: Never.self) {
                    let (loop, signals) = (try EventLoop(), try Signals())
                    var taken: [Int32] = []
                    try loop.watch(signals.descriptor) { _ in
                        while let signal = signals.next() { taken.append(signal) }
                        loop.stop()
                    }
                    for signal in [SIGHUP, SIGINT, SIGTERM] { pthread_kill(pthread_self(), signal) }
                    loop.runBounded()
                    #expect(Set(taken) == [SIGHUP, SIGINT, SIGTERM])
                    #expect(signals.next() == nil)
                }
            }
        }
    }

    @Test func aStormOfOneKindIsOne() {
        onThread {
            #expect(throws: Never.self) {
                let signals = try Signals()
                for _ in 0..<10_000 { pthread_kill(pthread_self(), SIGHUP) }
                #expect(signals.next() == SIGHUP)
                #expect(signals.next() == nil)
            }
        }
    }
}

@Suite struct InboxTests {
    @Test func messagesOfManyThreadsArriveInTheirOrder() throws {
        let (loop, inbox) = (try EventLoop(), try Inbox<(thread: Int, number: Int)>())
        let (threads, each) = (4, 5000)
        var next = [Int](repeating: 0, count: threads)
        var total = 0
        try loop.watch(inbox.descriptor) { _ in
            for message in inbox.drain() {
                #expect(message.number == next[message.thread])
                next[message.thread] += 1
                total += 1
            }
            if total == threads * each { loop.stop() }
        }
        let started = (0..<threads).map { thread in
            Thread { for number in 0..<each { inbox.post((thread, number)) } }
        }
        loop.runBounded()
        for thread in started { thread.join() }
        #expect(next == [Int](repeating: each, count: threads))
        #expect(inbox.drain().isEmpty)
    }
}

@Suite(.serialized) struct WallClockAlarmTests {
    @Test func ringsOnItsTimeAndNotAgain() throws {
        let (loop, alarm) = (try EventLoop(), try WallClockAlarm())
        var (now, told) = (timespec(), [WallClockAlarm.Event]())
        clock_gettime(CLOCK_REALTIME, &now)
        alarm.set(seconds: Int64(now.tv_sec) + 1, nanoseconds: now.tv_nsec)
        #expect(alarm.read() == nil)
        try loop.watch(alarm.descriptor) { _ in
            alarm.read().map { told.append($0) }
            loop.stop()
        }
        loop.runBounded()
        var after = timespec()
        clock_gettime(CLOCK_REALTIME, &after)
        #expect(told == [.due])
        #expect((after.tv_sec, after.tv_nsec) >= (now.tv_sec + 1, now.tv_nsec))
        #expect(alarm.read() == nil)
    }

    @Test(arguments: [Int64(0), -5, 1, 1_000_000_000])
    func aTimeThatHasPassedRingsAtOnce(seconds: Int64) throws {
        let (loop, alarm) = (try EventLoop(), try WallClockAlarm())
        alarm.set(seconds: seconds)
        try loop.watch(alarm.descriptor) { _ in
            #expect(alarm.read() == .due)
            loop.stop()
        }
        loop.runBounded()
    }

    /// Whether the clock of this machine may be touched: in the nightly run.
    private static let maySetClock = getenv("WEFT_NIGHTLY") != nil

    /// Sets the clock forward by a nanosecond, which is a step like any other; whether that is allowed here.
    private func stepByAlmostNothing() -> Bool {
        var step = timex()
        step.modes = UInt32(ADJ_SETOFFSET | ADJ_NANO)
        step.time.tv_usec = 1
        return adjtimex(&step) >= 0
    }

    @Test(.enabled(if: maySetClock, "the nightly run"))
    func aStepIsToldAndTheTimeStays() throws {
        let (loop, alarm) = (try EventLoop(), try WallClockAlarm())
        var (now, told) = (timespec(), [WallClockAlarm.Event]())
        clock_gettime(CLOCK_REALTIME, &now)
        alarm.set(seconds: Int64(now.tv_sec) + 2)
        // In a container, the clock is often not ours to set.
        guard stepByAlmostNothing() else { return }
        try loop.watch(alarm.descriptor) { _ in
            alarm.read().map { told.append($0) }
            if told.last == .due { loop.stop() }
        }
        loop.runBounded()
        #expect(told.last == .due)
        guard case .stepped(let amount)? = told.first else {
            Issue.record("not told: \(told)")
            return
        }
        #expect(abs(amount.components.seconds) < 5)
    }

    @Test(.enabled(if: maySetClock, "the nightly run"))
    func aStepBeforeATimeIsSetIsToldAsWell() throws {
        let alarm = try WallClockAlarm()
        guard stepByAlmostNothing() else { return }
        alarm.set(seconds: 1)
        var told: [WallClockAlarm.Event] = []
        var entry = pollfd(fd: alarm.descriptor, events: Int16(POLLIN), revents: 0)
        while told.last != .due, poll(&entry, 1, 30_000) == 1 { alarm.read().map { told.append($0) } }
        #expect(told.count >= 2)
        #expect(told.last == .due)
        guard case .stepped? = told.first else {
            Issue.record("not told: \(told)")
            return
        }
    }

    @Test(arguments: [nil, Int64.max])
    func noTimeAndOneThatNeverComesStayQuiet(seconds: Int64?) throws {
        let (loop, alarm) = (try EventLoop(), try WallClockAlarm())
        alarm.set(seconds: 1)
        alarm.set(seconds: seconds)
        // Another test steps the clock.
        try loop.watch(alarm.descriptor) { _ in if alarm.read() == .due { Issue.record("rang") } }
        loop.schedule(after: .milliseconds(100)) { loop.stop() }
        loop.runBounded()
    }
}

/// Each in a process of its own: others' tests read the environment that these set.
@Suite struct ServiceNotifierTests {
    /// A service manager's socket, which keeps what it hears.
    private struct Manager {
        let name: String
        let socket: Int32

        init(_ name: String) throws {
            self.name = name
            socket = Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            var bytes = Array(name.utf8)
            if bytes[0] == UInt8(ascii: "@") { bytes[0] = 0 }
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
            let length = socklen_t(2 + bytes.count + (bytes[0] == 0 ? 0 : 1))
            let bound = withUnsafePointer(to: address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(socket, $0, length) }
            }
            try #require(bound == 0)
        }

        func heard() -> String? {
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = recv(socket, &bytes, bytes.count, Int32(MSG_DONTWAIT))
            return count < 0 ? nil : String(decoding: bytes[..<count], as: UTF8.self)
        }
    }

    @Test func speaksTheProtocol() async {
        await #expect(processExitsWith: .success) { try Self.speak(isAbstract: false) }
        await #expect(processExitsWith: .success) { try Self.speak(isAbstract: true) }
    }

    private static func speak(isAbstract: Bool) throws {
        let folder = TemporaryFolder()
        let manager = try Manager(isAbstract ? "@weft-loop-\(getpid())" : "\(folder.path)/notify")
        defer { close(manager.socket) }
        setenv("NOTIFY_SOCKET", manager.name, 1)
        setenv("WATCHDOG_USEC", "30000000", 1)
        setenv("WATCHDOG_PID", "\(getpid())", 1)
        let notifier = ServiceNotifier()
        #expect(notifier.isListening)
        #expect(notifier.watchdogInterval == .seconds(15))
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] { #expect(getenv(name) == nil) }
        notifier.ready()
        #expect(manager.heard() == "READY=1")
        notifier.status("wg0: 3 peers\nREADY=0")
        #expect(manager.heard() == "STATUS=wg0: 3 peers READY=0")
        notifier.reloading()
        let reload = try #require(manager.heard()).split(separator: "\n")
        #expect(reload.first == "RELOADING=1")
        #expect(reload.last?.hasPrefix("MONOTONIC_USEC=") == true)
        notifier.watchdog()
        #expect(manager.heard() == "WATCHDOG=1")
        notifier.stopping()
        #expect(manager.heard() == "STOPPING=1")
    }

    @Test func aManagerThatDoesNotListenStopsNothing() async {
        await #expect(processExitsWith: .success) {
            let folder = TemporaryFolder()
            let manager = try Manager("\(folder.path)/notify")
            setenv("NOTIFY_SOCKET", manager.name, 1)
            let notifier = ServiceNotifier()
            // Its queue is full after some of these, and nobody reads.
            for _ in 0..<5000 { notifier.watchdog() }
            close(manager.socket)
            notifier.ready()
        }
    }

    @Test func withoutAManagerThereIsSilence() async {
        await #expect(processExitsWith: .success) {
            unsetenv("NOTIFY_SOCKET")
            setenv("WATCHDOG_USEC", "30000000", 1)
            setenv("WATCHDOG_PID", "1", 1)
            let notifier = ServiceNotifier()
            #expect(!notifier.isListening)
            #expect(notifier.watchdogInterval == nil)
            notifier.ready()
        }
    }
}
