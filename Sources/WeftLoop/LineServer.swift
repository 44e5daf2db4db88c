// Answers local clients that ask with one line, over a unix socket.

import Glibc

/// A socket on which each client asks with one line.
package final class LineServer {
    /// One who has asked.
    package final class Client {
        /// Who is at the other end.
        package struct Peer: Hashable, Sendable {
            package var process: Int32
            package var user: UInt32
            package var group: UInt32
        }

        /// Who asks, as the kernel knows it.
        package let peer: Peer
        /// Whether it can still get something.
        package private(set) var isOpen = false
        /// Called once from the loop, when the connection has ended, whoever ended it.
        package var onEnd: (() -> Void)?

        init(peer: Peer) { self.peer = peer }

        /// Sends bytes as soon as the client takes them; never waits.
        package func send(_ bytes: [UInt8]) {}

        /// Closes the connection when all has been sent.
        package func finish() {}
    }

    /// Listens on `path`.
    package init(path: String, mode: UInt32 = 0o660, group: String? = nil) throws(LoopError) {
        throw LoopError("listen on \(path)", errno: ENOSYS)
    }

    /// Serves clients in `loop`: `handler` gets each client with its line, without the line's end.
    package func attach(to loop: EventLoop, handler: @escaping (Client, String) -> Void) throws(LoopError) {}

    /// Ends all connections, and removes the socket.
    package func close() {}
}
