// TCP connections of this network namespace, as the kernel knows them: sock_diag(7).

import CLinux
import Glibc
package import Netlink
package import WeftModel
import WeftPlan

/// Asks the kernel about connections.
package struct TCPSockets {
    private let channel: Channel

    /// How far a connection has come.
    package struct Progress: Hashable, Sendable {
        /// What the other end has acknowledged, in bytes.
        package var acknowledged: UInt64
        /// What was given to be sent and has not been acknowledged, in bytes.
        package var waiting: UInt32
    }

    /// Opens a socket in the calling thread's network namespace.
    package init(
        transports: TransportFactory = { (bus) throws(Errno) in try Socket(bus) }
    ) throws(Errno) {
        channel = Channel(try transports(.sockets))
    }

    /// How far an established connection has come; nil where there is none of these addresses.
    package func progress(of connection: TCPConnection) -> Progress? {
        var reading = SocketReading()
        guard dump(connection.local.address.family, states: Self.established, into: &reading) else { return nil }
        return reading.sockets.first { $0.connection == connection }?.progress
    }

    /// Established connections from elsewhere to ports of this host.
    package func connections(to ports: Set<UInt16>) -> [TCPConnection] {
        IPAddress.Family.allCases.flatMap { family in
            var reading = SocketReading()
            guard dump(family, states: Self.established, into: &reading) else { return [TCPConnection]() }
            return reading.sockets.map(\.connection).filter {
                ports.contains($0.local.port) && !$0.remote.address.isLoopback
                    && $0.remote.address != $0.local.address
            }
        }
    }

    /// TCP_ESTABLISHED, which is 1; see net/tcp_states.h.
    private static let established: UInt32 = 1 << 1

    private func dump(_ family: IPAddress.Family, states: UInt32, into reading: inout SocketReading) -> Bool {
        var found = reading
        // IPv6 sockets carry IPv4 as well, with mapped addresses.
        for number in family == .v4 ? [UInt8(AF_INET), UInt8(AF_INET6)] : [UInt8(AF_INET6)] {
            var part = SocketReading()
            do throws(NetlinkError) {
                try channel.dump(UInt16(SOCK_DIAG_BY_FAMILY), into: &part) { encoder in
                    // struct inet_diag_req_v2, and in it an inet_diag_sockid that names nothing.
                    encoder.put(number)
                    encoder.put(UInt8(IPPROTO_TCP))
                    encoder.put(UInt8(1) << UInt8(INET_DIAG_INFO - 1))
                    encoder.put(UInt8(0))
                    encoder.put(states)
                    for _ in 0..<MemoryLayout<inet_diag_sockid>.size / 4 { encoder.put(UInt32(0)) }
                }
            } catch {
                return false
            }
            found.sockets += part.sockets.filter { $0.connection.local.address.family == family }
        }
        reading = found
        return true
    }
}

/// Takes struct inet_diag_msg.
private struct SocketReading: MessageConsumer {
    struct Found {
        var connection: TCPConnection
        var progress: TCPSockets.Progress
    }

    var sockets: [Found] = []

    mutating func reset() { sockets = [] }

    mutating func take(_ message: Message) -> Bool {
        let bytes = message.payload
        // Four bytes of state, then the ports and the addresses.
        guard bytes.byteCount >= MemoryLayout<inet_diag_msg>.size, let family = bytes.load(at: 0, as: UInt8.self),
            let source = bytes.load(at: 4, as: UInt16.self), let destination = bytes.load(at: 6, as: UInt16.self),
            let local = Self.address(bytes, at: 8, family), let remote = Self.address(bytes, at: 24, family),
            let offset = MemoryLayout<inet_diag_msg>.offset(of: \.idiag_wqueue),
            let waiting = bytes.load(at: offset, as: UInt32.self)
        else { return false }
        var acknowledged: UInt64 = 0
        var attributes = Attributes(bytes, from: MemoryLayout<inet_diag_msg>.size)
        while attributes.next() {
            guard Int(attributes.type) == INET_DIAG_INFO,
                let place = MemoryLayout<weft_tcp_info>.offset(of: \.tcpi_bytes_acked), attributes.count >= place + 8
            else { continue }
            acknowledged = attributes.load(at: place, as: UInt64.self)
        }
        sockets.append(
            Found(
                connection: TCPConnection(
                    local: SocketAddress(local, port: UInt16(bigEndian: source)),
                    remote: SocketAddress(remote, port: UInt16(bigEndian: destination))),
                progress: TCPSockets.Progress(acknowledged: acknowledged, waiting: waiting)))
        return true
    }

    private static func address(_ bytes: RawSpan, at offset: Int, _ family: UInt8) -> IPAddress? {
        guard let high = bytes.load(at: offset, as: UInt64.self), let low = bytes.load(at: offset + 8, as: UInt64.self)
        else { return nil }
        if family == UInt8(AF_INET) { return IPAddress(v4: UInt32(truncatingIfNeeded: UInt64(bigEndian: high) >> 32)) }
        let address = IPAddress(v6: UInt64(bigEndian: high), UInt64(bigEndian: low))
        // ::ffff:0:0/96
        let isMapped = address.high == 0 && address.low >> 32 == 0xFFFF
        return isMapped ? IPAddress(v4: UInt32(truncatingIfNeeded: address.low)) : address
    }
}
