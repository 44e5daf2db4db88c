// A name that one process of a network namespace has at a time.

import CLinux
import Glibc

/// A unix socket's abstract name, for as long as the value lives. Abstract names belong to the network namespace, whatever
/// folders a process sees, and the kernel takes them back from a process that ends; see unix(7).
///
/// Anybody may take one: who has it says by his user and his rights whether that counts.
package final class NameClaim {
    package let name: String
    private let socket: Descriptor

    /// Who has a name.
    package struct Holder: Hashable, Sendable {
        /// 0 where it is in another process namespace.
        package var process: Int32
        package var user: UInt32
    }

    /// - Parameter name: without the `@`.
    /// - Throws: EADDRINUSE where somebody has it.
    package init(_ name: String) throws(LoopError) {
        let operation = "claim the name \(name)"
        self.name = name
        socket = try Descriptor(Glibc.socket(AF_UNIX, Self.type, 0), operation)
        let number = socket.number
        let address = try UnixAddress("@\(name)")
        // Only who listens is known to others by his process.
        guard address.withSocketAddress({ bind(number, $0, $1) }) == 0, listen(number, SOMAXCONN) == 0 else {
            throw LoopError(operation)
        }
    }

    /// Takes those who have asked out of the queue, where there is room for so many. They want nothing more.
    package func dismissWhoAsked() {
        for _ in 0..<SOMAXCONN {
            let connection = accept4(socket.number, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
            guard connection >= 0 || errno == EINTR || errno == ECONNABORTED else { return }
            if connection >= 0 { close(connection) }
        }
    }

    /// Who has a name; nil where nobody has, or where that cannot be found out.
    package static func holder(of name: String) -> Holder? {
        guard let address = try? UnixAddress("@\(name)"),
            let probe = try? Descriptor(Glibc.socket(AF_UNIX, type, 0), "ask for a name"),
            address.withSocketAddress({ connect(probe.number, $0, $1) }) == 0
        else { return nil }
        return PeerCredentials(of: probe.number).map { Holder(process: $0.process, user: $0.user) }
    }

    private static var type: Int32 {
        Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
    }
}
