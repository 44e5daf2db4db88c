// Ends this process outright at a point that can be counted: before an operation, or around a datagram that changes something.

import Glibc
package import Netlink
import Synchronization

/// Where a process ends itself with SIGKILL. Operations and datagrams are counted from 0, over all sockets.
package enum KillPoint: Hashable, Sendable {
    case beforeOperation(Int)
    case beforeMutation(Int)
    /// The kernel has carried it out, and nobody has read the answer.
    case afterMutation(Int)
}

package final class KillSwitch: Sendable {
    private let point: KillPoint
    private let operations = Atomic(0)
    private let mutations = Atomic(0)

    package init(_ point: KillPoint) {
        self.point = point
    }

    package func operation() {
        let number = operations.add(1, ordering: .relaxed).oldValue
        if point == .beforeOperation(number) { Self.die() }
    }

    fileprivate func mutation(_ send: () throws(Errno) -> Void) throws(Errno) {
        let number = mutations.add(1, ordering: .relaxed).oldValue
        if point == .beforeMutation(number) { Self.die() }
        try send()
        if point == .afterMutation(number) { Self.die() }
    }

    private static func die() -> Never {
        kill(getpid(), SIGKILL)
        while true { pause() }
    }
}

/// Wraps a transport, and tells the switch of every datagram that changes something.
package final class KillingTransport: Transport {
    private let base: any Transport
    private let bus: Bus
    private let killSwitch: KillSwitch

    package init(_ base: any Transport, _ bus: Bus, _ killSwitch: KillSwitch) {
        self.base = base
        self.bus = bus
        self.killSwitch = killSwitch
    }

    package var port: UInt32 { base.port }

    package func send(_ bytes: RawSpan) throws(Errno) {
        let datagram = bytes.withUnsafeBytes { Array($0) }
        guard MessageHeader.all(of: datagram).contains(where: { $0.isMutation(on: bus) }) else {
            return try base.send(bytes)
        }
        // A span cannot go into a closure; its copy can.
        try killSwitch.mutation { () throws(Errno) in try base.send(datagram.span.bytes) }
    }

    package func receive(into buffer: inout MutableRawSpan) throws(Errno) -> Int {
        try base.receive(into: &buffer)
    }
}
