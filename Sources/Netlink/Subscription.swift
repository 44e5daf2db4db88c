// Hears what the kernel tells to all: multicast groups of netlink.

import CLinux
import Glibc

/// A socket on which the kernel tells of changes. It keeps the namespace it was opened in, and never waits.
package final class Subscription {
    /// What came of looking for one datagram.
    package enum Reception: Hashable, Sendable {
        /// One came, and its messages were shown.
        case messages
        /// There is none (any more).
        case nothing
        /// There were more than the queue could hold, or one that is not to be read: something was not told. What is
        /// told from now on is told again.
        case overflow
    }

    /// Readable when something was told.
    package let descriptor: Int32
    /// A notice is a few hundred bytes; that of a link with many virtual functions some 16 KiB.
    private let buffer = Buffer(capacity: 64 << 10)

    /// - Parameter groups: RTNLGRP_* or NFNLGRP_*.
    /// - Throws: EPERM where only the privileged may hear a group, EPROTONOSUPPORT or ENOENT where the kernel has none
    ///   of
    ///   it.
    package init(_ bus: Bus, groups: [UInt32]) throws(Errno) {
        let type = Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        descriptor = Glibc.socket(AF_NETLINK, type, bus.number)
        guard descriptor >= 0 else { throw .current }
        do throws(Errno) {
            if !Socket.set(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, Socket.queue) {
                Socket.set(descriptor, SOL_SOCKET, SO_RCVBUF, Socket.queue)
            }
            _ = try Socket.bind(descriptor)
            for group in groups where !Socket.set(descriptor, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group) {
                throw .current
            }
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }

    deinit {
        Glibc.close(descriptor)
    }

    /// Takes one datagram, if there is one, and shows its messages to `body`.
    ///
    /// - Throws: what is neither of want of room nor passing; the socket is of no more use then.
    package func next(_ body: (Message) -> Void) throws(Errno) -> Reception {
        let buffer = self.buffer
        var length = 0
        while true {
            do throws(Errno) {
                var bytes = buffer.writableBytes()
                length = try Socket.receive(descriptor, into: &bytes)
                break
            } catch {
                switch error.rawValue {
                case EINTR: continue
                case EAGAIN: return .nothing
                case ENOBUFS: return .overflow
                default: throw error
                }
            }
        }
        guard length <= buffer.capacity else { return .overflow }
        var messages = Messages(buffer.bytes(length))
        while messages.next() { body(messages.current) }
        return messages.isMalformed ? .overflow : .messages
    }
}
