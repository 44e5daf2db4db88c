// What can go wrong between this process and the kernel, as values, and the script that says when.

import Synchronization

/// One way in which an exchange with the kernel goes wrong. Error numbers are errno(3)'s.
package enum Fault: Hashable, Sendable {
    /// The datagram is not sent: the system call fails.
    case send(Int32)
    /// Signals come: sending and receiving each fail with EINTR this many times first.
    case signals(Int)
    /// The kernel refuses the first message of the datagram; what follows in it is carried out.
    case refuse(Int32)
    /// The kernel refuses every message of the datagram.
    case refuseAll(Int32)
    /// The kernel does as it was asked, and its first answer is dropped for want of room (ENOBUFS).
    case lose
    /// The kernel does as it was asked, and no answer comes in time (EAGAIN); it comes later, when nobody asks.
    case delay
    /// Every answer ends in its middle.
    case cut
    /// The first answer is longer than the buffer.
    case overlong
    /// Every answer comes twice.
    case duplicate
    /// The dump is flagged as interrupted by a change (NLM_F_DUMP_INTR).
    case interrupt
}

/// Says which datagram is struck, counted over every socket that shares the script.
package final class FaultScript: Sendable {
    package enum Extent: Hashable, Sendable {
        /// That datagram alone.
        case once
        /// That one, and all that follow.
        case forEver
    }

    private struct State {
        var fault: Fault?
        var number = 0
        var extent = Extent.once
        var seen = 0
        var struck = 0
    }

    private let state = Mutex(State())

    package init() {}

    /// From here on, datagram `number` (from 0) is struck.
    package func arm(_ fault: Fault, at number: Int, _ extent: Extent = .once) {
        state.withLock { $0 = State(fault: fault, number: number, extent: extent) }
    }

    package func disarm() { state.withLock { $0 = State() } }

    /// How many datagrams were struck since it was armed.
    package var struck: Int { state.withLock { $0.struck } }

    /// What becomes of the next datagram.
    ///
    /// - Parameter isDump: an interruption strikes nothing but dumps.
    func next(isDump: Bool) -> Fault? {
        state.withLock { state in
            guard let fault = state.fault else { return nil }
            if fault == .interrupt, !isDump { return nil }
            defer { state.seen += 1 }
            guard state.seen == state.number || (state.seen > state.number && state.extent == .forEver) else {
                return nil
            }
            state.struck += 1
            return fault
        }
    }
}
