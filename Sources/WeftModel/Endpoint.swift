// Where a peer is dialled: as written (a name or an address), and as the kernel has it (an address).
// Public where it must be inlined in other modules: package declarations are not, in Swift 6.3. Documented as if package.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// A UDP address that the kernel can send to.
@frozen
public struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
    public var address: IPAddress
    public var port: UInt16

    @inlinable
    public init(_ address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    @inlinable
    public static func == (left: Self, right: Self) -> Bool {
        left.address == right.address && left.port == right.port
    }

    /// `192.0.2.1:51820`, `[2001:db8::1]:51820`.
    public var description: String {
        address.family == .v4 ? "\(address):\(port)" : "[\(address)]:\(port)"
    }
}

/// An endpoint as a person writes it: a host name or an address, and a port.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    public enum Host: Hashable, Sendable {
        case address(IPAddress)
        /// A DNS name, as written.
        case name(String)
    }

    public var host: Host
    public var port: UInt16

    public init(host: Host, port: UInt16) {
        self.host = host
        self.port = port
    }

    public var description: String {
        switch host {
        case .address(let address): SocketAddress(address, port: port).description
        case .name(let name): "\(name):\(port)"
        }
    }
}
