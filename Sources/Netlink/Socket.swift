// A netlink socket: five system calls.

import CLinux
import Glibc

/// The kernel's end of a `Transport`. The socket keeps the namespace it was opened in.
package final class Socket: Transport {
    private let descriptor: Int32
    package let port: UInt32

    /// How long an answer may take, in seconds. The kernel answers within the call that asks, so this only ends a wait
    /// for an answer that was lost.
    private static let patience = 5
    /// What the kernel may queue for us. 500 refused messages with their texts are more than the default 208 KiB.
    static let queue: Int32 = 8 << 20

    /// How large one datagram to the kernel may be: a whole ruleset is one. A limit only; nothing is set aside for it.
    private static func longest(_ bus: Bus) -> Int32 { bus == .netfilter ? 256 << 20 : queue }

    /// Opens, binds to a port of the kernel's choice, and asks for extended errors and strict checking of requests.
    package init(_ bus: Bus) throws(Errno) {
        descriptor = Glibc.socket(AF_NETLINK, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), bus.number)
        guard descriptor >= 0 else { throw .current }
        do throws(Errno) {
            port = try Self.bind(descriptor)
            Self.configure(descriptor, bus)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }

    deinit {
        Glibc.close(descriptor)
    }

    /// Binds to a port of the kernel's choice.
    ///
    /// - Returns: the port.
    static func bind(_ descriptor: Int32) throws(Errno) -> UInt32 {
        var address = sockaddr_nl()
        address.nl_family = sa_family_t(AF_NETLINK)
        var length = socklen_t(MemoryLayout<sockaddr_nl>.size)
        let result = unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                let bound = unsafe Glibc.bind(descriptor, pointer, length)
                return bound == 0 ? unsafe getsockname(descriptor, pointer, &length) : bound
            }
        }
        guard result == 0 else { throw .current }
        return address.nl_pid
    }

    private static func configure(_ descriptor: Int32, _ bus: Bus) {
        // Each is a help, not a need: without privileges the FORCE pair fails, and kernels before 4.20 check less.
        for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK] {
            set(descriptor, SOL_NETLINK, option, Int32(1))
        }
        let room = longest(bus)
        for (forced, plain, size) in [(SO_SNDBUFFORCE, SO_SNDBUF, room), (SO_RCVBUFFORCE, SO_RCVBUF, queue)]
        where !set(descriptor, SOL_SOCKET, forced, size) {
            set(descriptor, SOL_SOCKET, plain, size)
        }
        set(descriptor, SOL_SOCKET, SO_RCVTIMEO, timeval(tv_sec: patience, tv_usec: 0))
    }

    /// Sets an option; whether the kernel took it.
    @discardableResult
    static func set<Value: BitwiseCopyable>(
        _ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Value
    ) -> Bool {
        unsafe withUnsafePointer(to: value) { pointer in
            unsafe setsockopt(descriptor, level, option, pointer, socklen_t(MemoryLayout<Value>.size)) == 0
        }
    }

    package func send(_ bytes: RawSpan) throws(Errno) {
        let sent = unsafe bytes.withUnsafeBytes { unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, 0) }
        guard sent >= 0 else { throw .current }
        // A datagram socket takes all or nothing; anything else would leave half a request in the kernel.
        guard sent == bytes.byteCount else { throw Errno(EIO) }
    }

    package func receive(into buffer: inout MutableRawSpan) throws(Errno) -> Int {
        try Self.receive(descriptor, into: &buffer)
    }

    /// Receives one datagram that the kernel has sent; see `Transport`.
    static func receive(_ descriptor: Int32, into buffer: inout MutableRawSpan) throws(Errno) -> Int {
        while true {
            var sender = sockaddr_nl()
            var length = socklen_t(MemoryLayout<sockaddr_nl>.size)
            let received = unsafe buffer.withUnsafeMutableBytes { bytes in
                unsafe withUnsafeMutablePointer(to: &sender) { pointer in
                    unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                        unsafe recvfrom(
                            descriptor, bytes.baseAddress, bytes.count, Int32(MSG_TRUNC), pointer, &length)
                    }
                }
            }
            guard received >= 0 else { throw .current }
            // Any process may send to our port; only the kernel's is 0.
            if sender.nl_pid == 0 { return received }
        }
    }
}
