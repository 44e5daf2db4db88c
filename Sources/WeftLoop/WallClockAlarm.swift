// Tells when a moment of the calendar has come, and when somebody has set the clock.

import CLinux
import Glibc

/// An alarm at a time of CLOCK_REALTIME. It rings on that time also when the clock is set, or the machine slept past
/// it.
package final class WallClockAlarm {
    /// What has happened.
    package enum Event: Hashable, Sendable {
        /// The time that was set has come; the alarm is not set to a time any more.
        case due
        /// Somebody has set the clock, by that much since the alarm was made or last told of it. The time that was set
        /// stays, and rings by itself where the step went past it. After sleep, `by` is about zero.
        case stepped(by: Duration)
    }

    private let file: Descriptor
    /// What to ring at; nil: at steps only.
    private var target: timespec?
    /// Of CLOCK_REALTIME to CLOCK_BOOTTIME, in nanoseconds: what only a step changes.
    private var offset = WallClockAlarm.currentOffset
    /// A step that the kernel told when the alarm was set, and not when it was read.
    private var hasStepTold = false

    /// Set to no time: tells only steps.
    package init() throws(LoopError) {
        file = try Descriptor(
            timerfd_create(CLOCK_REALTIME, Int32(TFD_CLOEXEC | TFD_NONBLOCK)), "make an alarm")
        try arm()
    }

    /// Readable when there is an event.
    package var descriptor: Int32 { file.number }

    /// Rings at that time since 1970, at once where it has passed; with nil, steps only are told.
    package func set(seconds: Int64?, nanoseconds: Int = 0) {
        target = seconds.map { seconds in
            // Zero would take the alarm back.
            seconds < 0 || (seconds, nanoseconds) == (0, 0)
                ? timespec(tv_sec: 0, tv_nsec: 1) : timespec(tv_sec: Int(seconds), tv_nsec: nanoseconds)
        }
        try? arm()
    }

    /// Takes what has happened; nil where nothing has.
    package func read() -> Event? {
        if file.readCounter() != nil, !hasStepTold {
            target = nil
            try? arm()
            return .due
        }
        guard hasStepTold || errno == ECANCELED else { return nil }
        hasStepTold = false
        let before = offset
        offset = Self.currentOffset
        // The kernel forgets a time that came in the same moment: set anew, it rings.
        try? arm()
        return .stepped(by: .nanoseconds(offset - before))
    }

    private func arm() throws(LoopError) {
        // As far away as the kernel can say: it is there to be cancelled by a step.
        let never = timespec(tv_sec: Int(Int32.max) * 4, tv_nsec: 0)
        var setting = itimerspec()
        setting.it_value = hasStepTold ? timespec(tv_sec: 0, tv_nsec: 1) : target ?? never
        let flags = Int32(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)
        if timerfd_settime(file.number, flags, &setting, nil) == 0 { return }
        guard errno == ECANCELED else { throw LoopError("set an alarm") }
        // Set, but the clock was stepped since the last look, and the kernel does not tell it again: ring now.
        hasStepTold = true
        setting.it_value = timespec(tv_sec: 0, tv_nsec: 1)
        _ = timerfd_settime(file.number, flags, &setting, nil)
    }

    private static var currentOffset: Int64 {
        var (wall, boot) = (timespec(), timespec())
        clock_gettime(CLOCK_REALTIME, &wall)
        clock_gettime(CLOCK_BOOTTIME, &boot)
        return Int64(wall.tv_sec - boot.tv_sec) * 1_000_000_000 + Int64(wall.tv_nsec - boot.tv_nsec)
    }
}
