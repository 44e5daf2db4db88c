// Echo requests of a chosen size that must not be fragmented: whether a path carries what its MTU promises.

import CLinux
import Glibc
package import WeftModel

/// Sends echo requests out of one interface and waits for their answers, icmp(7). Needs CAP_NET_RAW.
package struct EchoProbe {
    package enum Answer: Hashable, Sendable {
        case echoed
        /// Nothing came back in time.
        case silence
        /// The packet did not leave this host: the error number.
        case refused(Int32)
    }

    private let interface: String?
    private let source: IPAddress?

    /// - Parameters:
    ///   - interface: that it must leave by; nil: as the host's routes say.
    ///   - source: nil: the kernel's choice.
    package init(interface: String?, source: IPAddress?) {
        self.interface = interface
        self.source = source
    }

    /// The smallest packet that can be sent: the headers of IP and of ICMP, in bytes.
    package static func smallest(_ family: IPAddress.Family) -> Int { family == .v4 ? 28 : 48 }

    /// Sends one request.
    ///
    /// - Parameter size: of the whole IP packet, in bytes.
    package func send(to address: IPAddress, size: Int, patience: Duration) -> Answer {
        let isFour = address.family == .v4
        let descriptor = socket(
            isFour ? AF_INET : AF_INET6, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue),
            Int32(isFour ? IPPROTO_ICMP : Int(IPPROTO_ICMPV6)))
        guard descriptor >= 0 else { return .refused(errno) }
        defer { close(descriptor) }
        guard prepare(descriptor, isFour), connect(descriptor, address) else { return .refused(errno) }
        let identifier = UInt16.random(in: .min ... .max)
        let request = Self.request(isFour, identifier, length: max(8, size - (isFour ? 20 : 40)))
        guard unsafe Glibc.send(descriptor, request, request.count, 0) == request.count else { return .refused(errno) }
        return wait(descriptor, isFour, identifier, patience)
    }

    /// Ties the socket to the interface, and forbids fragments whatever the kernel believes of the path.
    private func prepare(_ descriptor: Int32, _ isFour: Bool) -> Bool {
        var probe = isFour ? IP_PMTUDISC_PROBE : IPV6_PMTUDISC_PROBE
        let (level, option) =
            isFour
            ? (Int32(IPPROTO_IP), IP_MTU_DISCOVER) : (Int32(IPPROTO_IPV6), IPV6_MTU_DISCOVER)
        let size = socklen_t(MemoryLayout<Int32>.size)
        guard unsafe setsockopt(descriptor, level, option, &probe, size) == 0 else { return false }
        guard let interface else { return true }
        let name = Array(interface.utf8)
        return unsafe setsockopt(descriptor, SOL_SOCKET, SO_BINDTODEVICE, name, socklen_t(name.count)) == 0
    }

    private func connect(_ descriptor: Int32, _ address: IPAddress) -> Bool {
        let isBound =
            source.map { source in unsafe withSocketAddress(source) { unsafe bind(descriptor, $0, $1) == 0 } } ?? true
        return unsafe isBound && withSocketAddress(address) { unsafe Glibc.connect(descriptor, $0, $1) == 0 }
    }

    private func withSocketAddress(
        _ address: IPAddress, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Bool
    ) -> Bool {
        if address.family == .v4 {
            var target = sockaddr_in()
            target.sin_family = sa_family_t(AF_INET)
            target.sin_addr.s_addr = address.v4Bits.bigEndian
            return unsafe withUnsafePointer(to: &target) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
        var target = sockaddr_in6()
        target.sin6_family = sa_family_t(AF_INET6)
        unsafe withUnsafeMutableBytes(of: &target.sin6_addr) { bytes in
            unsafe bytes.storeBytes(of: address.high.bigEndian, toByteOffset: 0, as: UInt64.self)
            unsafe bytes.storeBytes(of: address.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        return unsafe withUnsafePointer(to: &target) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
            }
        }
    }

    /// Type, code, checksum, identifier, sequence, and zeros. The kernel fills in ICMPv6's checksum.
    private static func request(_ isFour: Bool, _ identifier: UInt16, length: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: length)
        bytes[0] = isFour ? 8 : 128
        bytes[4] = UInt8(identifier >> 8)
        bytes[5] = UInt8(truncatingIfNeeded: identifier)
        bytes[7] = 1
        if isFour {
            // The one's complement of the sum of all words (RFC 1071), of which two are not zero.
            var sum = UInt32(8) << 8 + UInt32(identifier) + 1
            while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
            let checksum = ~UInt16(truncatingIfNeeded: sum)
            bytes[2] = UInt8(checksum >> 8)
            bytes[3] = UInt8(truncatingIfNeeded: checksum)
        }
        return bytes
    }

    private func wait(_ descriptor: Int32, _ isFour: Bool, _ identifier: UInt16, _ patience: Duration) -> Answer {
        let deadline = ContinuousClock.now + patience
        var buffer = [UInt8](repeating: 0, count: 128)
        while true {
            let left = deadline - ContinuousClock.now
            let milliseconds = Int32(
                left.components.seconds * 1000 + left.components.attoseconds / 1_000_000_000_000_000)
            guard milliseconds > 0 else { return .silence }
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard unsafe poll(&entry, 1, milliseconds) > 0 else { continue }
            let count = unsafe recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            // IPv4 comes with its header, IPv6 without.
            let start = isFour && count > 0 ? Int(buffer[0] & 0x0F) * 4 : 0
            guard count >= start + 8 else { continue }
            let isReply = buffer[start] == (isFour ? 0 : 129)
            let answered = UInt16(buffer[start + 4]) << 8 | UInt16(buffer[start + 5])
            if isReply, answered == identifier { return .echoed }
        }
    }
}
