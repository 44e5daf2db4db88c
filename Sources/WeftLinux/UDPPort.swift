// Whether a UDP port can be had, found out without disturbing whoever has one.

import CLinux
import Glibc

/// A UDP port in the network namespace of the thread that asks.
struct UDPPort {
    private let number: UInt16

    init(_ number: UInt16) { self.number = number }

    /// Whether nobody holds it, in either family. A family that this machine has not counts as free, and so does what
    /// cannot be tried: then the device itself will say.
    var isFree: Bool { canBind(AF_INET) && canBind(AF_INET6) }

    private func canBind(_ family: Int32) -> Bool {
        let descriptor = socket(family, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return true }
        defer { close(descriptor) }
        let failed: Bool
        if family == AF_INET6 {
            // Without it, the socket takes the IPv4 port too, and finds its own predecessor there.
            var only: Int32 = 1
            _ = unsafe setsockopt(
                descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &only, socklen_t(MemoryLayout<Int32>.size))
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = number.bigEndian
            failed = unsafe withUnsafePointer(to: &address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in6>.size)) != 0
                }
            }
        } else {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = number.bigEndian
            failed = unsafe withUnsafePointer(to: &address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) != 0
                }
            }
        }
        return !(failed && errno == EADDRINUSE)
    }
}
