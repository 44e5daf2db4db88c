// Whether something elsewhere answers: a TCP port, a name server. Each waits; each belongs on a thread of its own.

import CLinux
import Glibc
package import WeftModel

/// Whether a TCP port takes connections, or at least refuses them: both come from there.
package func takesConnections(_ target: SocketAddress, patience: Duration) -> Bool {
    guard let file = OutsideSocket(target, SOCK_STREAM) else { return false }
    if file.connected == 0 { return true }
    guard file.connected == EINPROGRESS else { return file.connected == ECONNREFUSED }
    guard file.wait(for: POLLOUT, patience) else { return false }
    let failure = file.failure
    return failure == 0 || failure == ECONNREFUSED
}

/// Whether a name server says anything to a question about the root's own servers (RFC 1035), whatever it says.
package func answersQueries(_ server: IPAddress, patience: Duration) -> Bool {
    guard let file = OutsideSocket(SocketAddress(server, port: 53), SOCK_DGRAM), file.connected == 0 else {
        return false
    }
    let identifier = UInt16.random(in: .min ... .max)
    // A header with recursion desired and one question; the root's name, type NS, class IN.
    let query: [UInt8] = [
        UInt8(identifier >> 8), UInt8(identifier & 0xFF), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1,
    ]
    guard unsafe send(file.number, query, query.count, Int32(MSG_NOSIGNAL)) == query.count else {
        return false
    }
    let deadline = ContinuousClock.now + patience
    while file.wait(for: POLLIN, deadline - .now) {
        var answer = [UInt8](repeating: 0, count: 512)
        let count = unsafe recv(file.number, &answer, answer.count, Int32(MSG_DONTWAIT))
        if count >= 12, answer[0] == query[0], answer[1] == query[1], answer[2] & 0x80 != 0 { return true }
        if count < 0, errno != EAGAIN { return false }
    }
    return false
}

/// A socket that is connected, or about to be, without waiting.
private final class OutsideSocket {
    let number: Int32
    /// The error of connect(2); 0 where it is connected.
    private(set) var connected: Int32 = 0

    init?(_ target: SocketAddress, _ kind: __socket_type) {
        let isFour = target.address.family == .v4
        let flags = Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        number = socket(isFour ? AF_INET : AF_INET6, Int32(kind.rawValue) | flags, 0)
        guard number >= 0 else { return nil }
        let result: Int32
        if isFour {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = target.port.bigEndian
            address.sin_addr.s_addr = target.address.v4Bits.bigEndian
            result = unsafe withUnsafePointer(to: &address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe connect(number, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        } else {
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = target.port.bigEndian
            unsafe withUnsafeMutableBytes(of: &address.sin6_addr) { bytes in
                unsafe bytes.storeBytes(of: target.address.high.bigEndian, toByteOffset: 0, as: UInt64.self)
                unsafe bytes.storeBytes(of: target.address.low.bigEndian, toByteOffset: 8, as: UInt64.self)
            }
            result = unsafe withUnsafePointer(to: &address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe connect(number, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
                }
            }
        }
        if result != 0 { connected = errno }
    }

    deinit { if number >= 0 { close(number) } }

    func wait(for event: Int32, _ patience: Duration) -> Bool {
        let milliseconds = patience / .milliseconds(1)
        guard milliseconds > 0 else { return false }
        var entry = pollfd(fd: number, events: Int16(event), revents: 0)
        return unsafe poll(&entry, 1, Int32(milliseconds)) > 0
    }

    /// What became of connecting.
    var failure: Int32 {
        var value: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        guard unsafe getsockopt(number, SOL_SOCKET, SO_ERROR, &value, &size) == 0 else { return errno }
        return value
    }
}
