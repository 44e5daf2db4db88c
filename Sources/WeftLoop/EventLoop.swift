// The one place where the daemon waits: descriptors by epoll, timers by one timerfd.

import CLinux
import Glibc

/// A loop for one thread: whoever makes it runs it, and handlers are called in `run`.
///
/// It costs nothing while nothing happens: no tick, no allocation, no wake-up before the first timer is due. Handlers
/// may watch, change, forget, schedule and stop. One that is busy keeps all others waiting, so each does a bounded
/// piece.
package final class EventLoop {
    /// What a descriptor is waited for.
    package struct Interest: OptionSet, Hashable, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        /// There is something to read, or the end of it.
        package static let read = Interest(rawValue: 1)
        /// There is room to write.
        package static let write = Interest(rawValue: 2)

        fileprivate var events: UInt32 {
            (contains(.read) ? EPOLLIN.rawValue : 0) | (contains(.write) ? EPOLLOUT.rawValue : 0)
        }
    }

    /// What a descriptor is ready for.
    package struct Readiness: OptionSet, Hashable, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        /// A read does not wait: there are bytes, or the end, or an error.
        package static let read = Readiness(rawValue: 1)
        /// A write does not wait.
        package static let write = Readiness(rawValue: 2)
        /// The other side is gone, or an error stands. Told whatever the interest is, and told again until the
        /// descriptor is forgotten.
        package static let ended = Readiness(rawValue: 4)

        fileprivate init(events: UInt32) {
            self = []
            if events & EPOLLIN.rawValue != 0 { insert(.read) }
            if events & EPOLLOUT.rawValue != 0 { insert(.write) }
            if events & (EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0 { insert(.ended) }
        }
    }

    private struct Watch {
        /// Tells this watch from an earlier one of the same number, of which an event may still be on its way.
        var generation: UInt32
        var handler: (Readiness) -> Void
    }

    /// How many descriptors are served before the kernel is asked again.
    private static let roundSize = 64

    private let poll: Descriptor
    private let alarm: Descriptor
    private let events: UnsafeMutableBufferPointer<epoll_event>
    /// By descriptor.
    private var watches: [Watch?] = []
    private var generation: UInt32 = 0
    private var timers = TimerQueue()
    /// What the timerfd is set to, in nanoseconds of CLOCK_BOOTTIME; 0: nothing.
    private var armed: UInt64 = 0
    private var isStopping = false

    /// - Throws: where the process or the system has no descriptors left.
    package init() throws(LoopError) {
        poll = try Descriptor(epoll_create1(Int32(EPOLL_CLOEXEC)), "make an epoll instance")
        alarm = try Descriptor(
            timerfd_create(CLOCK_BOOTTIME, Int32(TFD_CLOEXEC | TFD_NONBLOCK)), "make a timer")
        events = .allocate(capacity: Self.roundSize)
        try watch(alarm.number) { [unowned self] _ in fireTimers() }
    }

    deinit { events.deallocate() }

    // MARK: Descriptors

    /// Calls `handler` whenever `descriptor` is ready, until it is forgotten. The descriptor stays its owner's, who
    /// forgets it before closing it.
    ///
    /// - Throws: EEXIST where it is watched, EPERM where it is none that can be waited for (a regular file), ENOMEM and
    ///   ENOSPC where the kernel has no room; see epoll_ctl(2).
    package func watch(
        _ descriptor: Int32, _ interest: Interest = .read, _ handler: @escaping (Readiness) -> Void
    ) throws(LoopError) {
        generation &+= 1
        var event = Self.event(descriptor, generation, interest)
        guard epoll_ctl(poll.number, EPOLL_CTL_ADD, descriptor, &event) == 0 else {
            throw LoopError("wait for descriptor \(descriptor)")
        }
        while watches.count <= Int(descriptor) { watches.append(nil) }
        watches[Int(descriptor)] = Watch(generation: generation, handler: handler)
    }

    /// Changes what a watched descriptor is waited for; nothing happens where it is not watched.
    package func change(_ descriptor: Int32, _ interest: Interest) {
        guard let watch = watch(of: descriptor) else { return }
        var event = Self.event(descriptor, watch.generation, interest)
        // It fails only for a descriptor that was closed behind our back, and then there is nothing to wait for.
        _ = epoll_ctl(poll.number, EPOLL_CTL_MOD, descriptor, &event)
    }

    /// Ends a watch; nothing happens where there is none. Its handler is not called any more, also not for what was
    /// ready in the same round.
    package func forget(_ descriptor: Int32) {
        guard watch(of: descriptor) != nil else { return }
        watches[Int(descriptor)] = nil
        var event = epoll_event()
        _ = epoll_ctl(poll.number, EPOLL_CTL_DEL, descriptor, &event)
    }

    private func watch(of descriptor: Int32) -> Watch? {
        watches.indices.contains(Int(descriptor)) ? watches[Int(descriptor)] : nil
    }

    private static func event(_ descriptor: Int32, _ generation: UInt32, _ interest: Interest) -> epoll_event {
        var event = epoll_event()
        event.events = interest.events
        event.data.u64 = UInt64(generation) << 32 | UInt64(UInt32(bitPattern: descriptor))
        return event
    }

    // MARK: Timers

    /// Calls `handler` once, `delay` from now; time in which the machine sleeps counts, steps of the clock do not. The
    /// loop keeps the timer until then.
    @discardableResult
    package func schedule(after delay: Duration, _ handler: @escaping () -> Void) -> Timer {
        let timer = Timer(deadline: BootTime.now &+ BootTime.nanoseconds(delay), of: self, handler)
        timers.insert(timer)
        arm()
        return timer
    }

    func cancel(_ timer: Timer) {
        timers.remove(timer)
        arm()
    }

    private func fireTimers() {
        _ = alarm.readCounter()
        armed = 0
        // What a handler schedules now waits for the next round, so that one that goes on for ever stops nobody else.
        let round = timers.beginRound(at: BootTime.now)
        while !isStopping, let timer = timers.popDue(in: round) { timer.fire() }
        arm()
    }

    private func arm() {
        let next = timers.first?.deadline ?? 0
        guard next != armed else { return }
        armed = next
        var setting = itimerspec()
        setting.it_value = BootTime.timespec(next)
        // With a valid time it cannot fail; see timerfd_settime(2).
        _ = timerfd_settime(alarm.number, Int32(TFD_TIMER_ABSTIME), &setting, nil)
    }

    // MARK: Running

    /// Waits and calls handlers until one of them stops the loop. It can be run again.
    package func run() {
        while !isStopping { runRound() }
        isStopping = false
    }

    /// Makes `run` return when the handler that called this has returned; before `run`, at once. What was ready is told
    /// in the next `run`.
    package func stop() { isStopping = true }

    private func runRound() {
        guard let first = events.baseAddress else { return }
        let count = retryingEINTR { epoll_wait(poll.number, first, Int32(Self.roundSize), -1) }
        precondition(count >= 0, "epoll_wait: \(systemText(errno))")
        for event in events.prefix(Int(count)) {
            let descriptor = Int32(bitPattern: UInt32(truncatingIfNeeded: event.data.u64))
            guard let watch = watch(of: descriptor), watch.generation == UInt32(event.data.u64 >> 32) else { continue }
            watch.handler(Readiness(events: event.events))
            if isStopping { return }
        }
    }
}
