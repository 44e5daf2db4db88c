// A TCP connection, as one of its ends knows it.

/// The addresses of both ends.
package struct TCPConnection: Hashable, Sendable, CustomStringConvertible {
    package var local: SocketAddress
    package var remote: SocketAddress

    package init(local: SocketAddress, remote: SocketAddress) {
        self.local = local
        self.remote = remote
    }

    /// Remote first: `203.0.113.9:40022 → 192.0.2.1:22`.
    package var description: String { "\(remote) → \(local)" }
}
