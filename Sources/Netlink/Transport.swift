// The seam below netlink: datagrams go out and come in. Tests put faults here.

import CLinux

/// Which of the kernel's netlink families a socket speaks.
package enum Bus: Hashable, Sendable, CaseIterable {
    /// Links, addresses, routes: rtnetlink(7).
    case route
    /// Generic netlink: WireGuard.
    case generic
    /// nfnetlink: nf_tables.
    case netfilter
    /// Sockets: sock_diag(7).
    case sockets

    var number: Int32 {
        switch self {
        case .route: NETLINK_ROUTE
        case .generic: NETLINK_GENERIC
        case .netfilter: NETLINK_NETFILTER
        case .sockets: NETLINK_SOCK_DIAG
        }
    }
}

/// Datagrams to and from the kernel. Every call is one system call: it fails with EINTR where a signal came, and the
/// caller tries again.
package protocol Transport: AnyObject {
    /// The address of this end (nl_pid), which the kernel chose and puts into every answer.
    var port: UInt32 { get }

    /// Sends one datagram, whole or not at all.
    func send(_ bytes: RawSpan) throws(Errno)

    /// Receives one datagram from the kernel.
    ///
    /// - Returns: its length, which is more than `buffer` holds where it was cut off.
    /// - Throws: ENOBUFS where the kernel had to drop datagrams, EAGAIN where none came in time.
    func receive(into buffer: inout MutableRawSpan) throws(Errno) -> Int
}

/// Opens a transport in the network namespace of the calling thread; it stays there (rule 38 of the reconciler).
package typealias TransportFactory = (Bus) throws(Errno) -> any Transport
