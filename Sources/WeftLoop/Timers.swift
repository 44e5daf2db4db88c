// Timers of a loop, in the order in which they are due.

import CLinux
import Glibc

extension EventLoop {
    /// One call that is to come.
    package final class Timer {
        /// In nanoseconds of CLOCK_BOOTTIME.
        let deadline: UInt64
        /// Where two are due at once, the one that was scheduled first is called first.
        fileprivate(set) var sequence: UInt64 = 0
        /// Its place in the queue; nil where it is not in it.
        fileprivate(set) var place: Int?
        private var handler: (() -> Void)?
        private weak var loop: EventLoop?

        init(deadline: UInt64, of loop: EventLoop, _ handler: @escaping () -> Void) {
            self.deadline = deadline
            self.loop = loop
            self.handler = handler
        }

        /// Whether it is still to come.
        package var isPending: Bool { place != nil }

        /// Takes the call back; nothing happens where it has been made.
        package func cancel() {
            handler = nil
            if place != nil { loop?.cancel(self) }
        }

        func fire() {
            let handler = handler
            self.handler = nil
            handler?()
        }

        fileprivate func precedes(_ other: Timer) -> Bool {
            (deadline, sequence) < (other.deadline, other.sequence)
        }
    }
}

/// A binary heap in which each timer knows its place, so that one that is cancelled leaves it at once.
struct TimerQueue {
    /// What is due when a round begins.
    struct Round {
        fileprivate let now: UInt64
        fileprivate let end: UInt64
    }

    private var heap: [EventLoop.Timer] = []
    private var sequence: UInt64 = 0

    var first: EventLoop.Timer? { heap.first }

    mutating func insert(_ timer: EventLoop.Timer) {
        sequence += 1
        timer.sequence = sequence
        heap.append(timer)
        timer.place = heap.count - 1
        siftUp(heap.count - 1)
    }

    mutating func remove(_ timer: EventLoop.Timer) {
        guard let place = timer.place else { return }
        timer.place = nil
        let last = heap.removeLast()
        guard last !== timer else { return }
        put(last, at: place)
        siftDown(place)
        siftUp(place)
    }

    /// All that are in the queue now and due at `now`.
    func beginRound(at now: UInt64) -> Round { Round(now: now, end: sequence) }

    /// Takes the first that is due out of the queue; nil where no more are.
    mutating func popDue(in round: Round) -> EventLoop.Timer? {
        guard let first = heap.first, first.deadline <= round.now, first.sequence <= round.end else { return nil }
        remove(first)
        return first
    }

    private mutating func put(_ timer: EventLoop.Timer, at place: Int) {
        heap[place] = timer
        timer.place = place
    }

    private mutating func siftUp(_ start: Int) {
        var place = start
        let timer = heap[place]
        while place > 0, timer.precedes(heap[(place - 1) / 2]) {
            put(heap[(place - 1) / 2], at: place)
            place = (place - 1) / 2
        }
        put(timer, at: place)
    }

    private mutating func siftDown(_ start: Int) {
        var place = start
        let timer = heap[place]
        while true {
            var child = 2 * place + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1].precedes(heap[child]) { child += 1 }
            guard heap[child].precedes(timer) else { break }
            put(heap[child], at: place)
            place = child
        }
        put(timer, at: place)
    }
}

/// The clock that counts from the machine's start, also while it sleeps.
enum BootTime {
    /// In nanoseconds.
    static var now: UInt64 {
        var time = Glibc.timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// A delay: nothing where it is negative, a hundred years at most.
    static func nanoseconds(_ duration: Duration) -> UInt64 {
        let bounded = max(.zero, min(duration, .seconds(100 * 366 * 86400)))
        return UInt64(bounded.components.seconds) * 1_000_000_000
            + UInt64(bounded.components.attoseconds / 1_000_000_000)
    }

    static func timespec(_ nanoseconds: UInt64) -> timespec {
        Glibc.timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
    }
}
