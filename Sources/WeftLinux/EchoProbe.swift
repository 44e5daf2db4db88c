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
        /// It ended at a router, as it was to.
        case expired(at: IPAddress)
        /// A host on the way refuses it, or knows no way on.
        case unreachable(by: IPAddress)
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
        send(to: address, size: size, hops: nil, patience: patience)
    }

    /// Sends one small request that ends at a router on its way, and hears what routers say of it.
    ///
    /// - Parameter hops: 1: the first router gets it, and sends it no further.
    package func send(to address: IPAddress, hops: Int32, patience: Duration) -> Answer {
        send(to: address, size: Self.smallest(address.family) + 8, hops: hops, patience: patience)
    }

    private func send(to address: IPAddress, size: Int, hops: Int32?, patience: Duration) -> Answer {
        let isFour = address.family == .v4
        let descriptor = socket(
            isFour ? AF_INET : AF_INET6, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue),
            Int32(isFour ? IPPROTO_ICMP : Int(IPPROTO_ICMPV6)))
        guard descriptor >= 0 else { return .refused(errno) }
        defer { close(descriptor) }
        guard prepare(descriptor, isFour, hops) else { return .refused(errno) }
        // A socket that is connected hears nobody else.
        guard bind(descriptor), hops != nil || connect(descriptor, address) else { return .refused(errno) }
        let identifier = UInt16.random(in: .min ... .max)
        let request = Self.request(isFour, identifier, length: max(8, size - (isFour ? 20 : 40)))
        let sent = unsafe withSocketAddress(address) { target, length in
            unsafe sendto(descriptor, request, request.count, 0, hops == nil ? nil : target, hops == nil ? 0 : length)
        }
        guard sent == request.count else { return .refused(errno) }
        return wait(descriptor, isFour, identifier, patience, hearsRouters: hops != nil)
    }

    /// Ties the socket to the interface, and forbids fragments whatever the kernel believes of the path.
    private func prepare(_ descriptor: Int32, _ isFour: Bool, _ hops: Int32?) -> Bool {
        var probe = isFour ? IP_PMTUDISC_PROBE : IPV6_PMTUDISC_PROBE
        let (level, option) =
            isFour
            ? (Int32(IPPROTO_IP), IP_MTU_DISCOVER) : (Int32(IPPROTO_IPV6), IPV6_MTU_DISCOVER)
        let size = socklen_t(MemoryLayout<Int32>.size)
        guard unsafe setsockopt(descriptor, level, option, &probe, size) == 0 else { return false }
        if var hops {
            let option = isFour ? IP_TTL : IPV6_UNICAST_HOPS
            guard unsafe setsockopt(descriptor, level, option, &hops, size) == 0 else { return false }
        }
        guard let interface else { return true }
        let name = Array(interface.utf8)
        return unsafe setsockopt(descriptor, SOL_SOCKET, SO_BINDTODEVICE, name, socklen_t(name.count)) == 0
    }

    private func bind(_ descriptor: Int32) -> Bool {
        guard let source else { return true }
        return unsafe withSocketAddress(source) { unsafe Glibc.bind(descriptor, $0, $1) == 0 }
    }

    private func connect(_ descriptor: Int32, _ address: IPAddress) -> Bool {
        unsafe withSocketAddress(address) { unsafe Glibc.connect(descriptor, $0, $1) == 0 }
    }

    private func withSocketAddress<Result>(
        _ address: IPAddress, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
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

    private func wait(
        _ descriptor: Int32, _ isFour: Bool, _ identifier: UInt16, _ patience: Duration, hearsRouters: Bool
    ) -> Answer {
        let deadline = ContinuousClock.now + patience
        var buffer = [UInt8](repeating: 0, count: 128)
        while true {
            let left = deadline - ContinuousClock.now
            let milliseconds = Int32(
                left.components.seconds * 1000 + left.components.attoseconds / 1_000_000_000_000_000)
            guard milliseconds > 0 else { return .silence }
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard unsafe poll(&entry, 1, milliseconds) > 0 else { continue }
            var sender = sockaddr_in6()
            let count = receive(descriptor, &buffer, &sender)
            // IPv4 comes with its header, IPv6 without.
            let start = isFour && count > 0 ? Int(buffer[0] & 0x0F) * 4 : 0
            guard count >= start + 8 else { continue }
            if buffer[start] == (isFour ? 0 : 129), Self.word(buffer, start + 4) == identifier { return .echoed }
            guard hearsRouters else { continue }
            // What they say quotes the request, with its header.
            let quoted = start + 8 + (isFour ? Int(buffer[start + 8] & 0x0F) * 4 : 40)
            guard count >= quoted + 6, Self.word(buffer, quoted + 4) == identifier else { continue }
            let router = isFour ? IPAddress(v4: Self.long(buffer, 12)) : IPAddress(sender)
            switch (buffer[start], isFour) {
            case (11, true), (3, false): return .expired(at: router)
            case (3, true), (1, false): return .unreachable(by: router)
            default: continue
            }
        }
    }

    private func receive(_ descriptor: Int32, _ buffer: inout [UInt8], _ sender: inout sockaddr_in6) -> Int {
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let size = buffer.count
        return unsafe withUnsafeMutablePointer(to: &sender) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe recvfrom(descriptor, &buffer, size, Int32(MSG_DONTWAIT), $0, &length)
            }
        }
    }

    private static func word(_ bytes: [UInt8], _ offset: Int) -> UInt16 {
        UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1])
    }

    private static func long(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
        UInt32(word(bytes, offset)) << 16 | UInt32(word(bytes, offset + 2))
    }
}

extension IPAddress {
    fileprivate init(_ address: sockaddr_in6) {
        let bits = unsafe withUnsafeBytes(of: address.sin6_addr) { bytes in
            unsafe (
                UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
                UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            )
        }
        self.init(v6: bits.0, bits.1)
    }
}
