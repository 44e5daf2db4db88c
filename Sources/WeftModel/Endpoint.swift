// Where a peer is dialled: as written (a name or an address), and as the kernel has it (an address).

/// A UDP address that the kernel can send to.
@frozen
package struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
    package var address: IPAddress
    package var port: UInt16

    @inlinable
    package init(_ address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    /// `192.0.2.1:51820`, `[2001:db8::1]:51820`.
    package var description: String {
        address.family == .v4 ? "\(address):\(port)" : "[\(address)]:\(port)"
    }
}

/// An endpoint as a person writes it: a host name or an address, and a port.
package struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    package enum Host: Hashable, Sendable {
        case address(IPAddress)
        /// A DNS name, as written.
        case name(String)
    }

    package var host: Host
    package var port: UInt16

    package init(host: Host, port: UInt16) {
        self.host = host
        self.port = port
    }

    package var description: String {
        switch host {
        case .address(let address): SocketAddress(address, port: port).description
        case .name(let name): "\(name):\(port)"
        }
    }
}
