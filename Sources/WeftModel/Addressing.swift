// Addresses, routes and sysctls: what makes a WireGuard interface part of the host's network.
// Public where it must be inlined in other modules: package declarations are not, in Swift 6.3. Documented as if package.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// An address on the mesh's interface. Key: the address with its prefix length.
public struct InterfaceAddress: ConfiguredObject, Hashable {
    public struct Key: Hashable, Comparable, Sendable {
        public var address: IPAddress
        public var length: UInt8

        public init(_ address: IPAddress, length: UInt8) {
            self.address = address
            self.length = length
        }

        public static func < (left: Self, right: Self) -> Bool {
            left.address == right.address ? left.length < right.length : left.address < right.address
        }
    }

    public var address: IPAddress
    /// Always the family's width in a desired state.
    public var length: UInt8
    /// What else it was given by hand; none in a desired state.
    public var alteration = Alteration.none

    /// Attributes of a live address that Weft never sets.
    public enum Alteration: Hashable, Sendable {
        case none
        /// It is to vanish, or to be no source any more, at some time: the kernel takes that back in place.
        case lifetime
        /// A label, a scope, a broadcast address, a metric, flags, or the address of a peer, which is part of what the
        /// kernel tells addresses apart by. Only a new address is without them.
        case attributes(peer: IPAddress?)
    }

    public init(_ address: IPAddress, length: UInt8) {
        self.address = address
        self.length = length
    }

    public init(host address: IPAddress) {
        self.init(address, length: UInt8(address.family.bitWidth))
    }

    public var key: Key { Key(address, length: length) }
    public func isSatisfied(by live: InterfaceAddress) -> Bool { self == live }
}

/// A route that Weft owns. Key: table, prefix and metric, by which the kernel tells routes apart.
@frozen
public struct Route: ConfiguredObject, Hashable {
    @frozen
    public struct Key: Hashable, Comparable, Sendable {
        public var prefix: IPPrefix
        public var table: UInt32
        public var metric: UInt32

        @inlinable
        public init(_ prefix: IPPrefix, table: UInt32, metric: UInt32) {
            self.prefix = prefix
            self.table = table
            self.metric = metric
        }

        @inlinable
        public static func == (left: Self, right: Self) -> Bool {
            left.prefix == right.prefix && left.table == right.table && left.metric == right.metric
        }

        @inlinable
        public static func < (left: Self, right: Self) -> Bool {
            if left.table != right.table { return left.table < right.table }
            if left.prefix != right.prefix { return left.prefix < right.prefix }
            return left.metric < right.metric
        }
    }

    @frozen
    public enum Target: Hashable, Sendable {
        /// Out of the mesh's interface.
        case interface
        /// Refused with "host unreachable", so that packets for absent nodes leave nowhere else.
        case unreachable
    }

    public var key: Key
    public var target: Target
    /// The preferred source address; nil where the route has none.
    public var source: IPAddress?
    /// Whether a live route has attributes that Weft never sets, such as a gateway, metrics or a lifetime.
    public var isAltered = false

    @inlinable
    public init(_ prefix: IPPrefix, table: UInt32, metric: UInt32, target: Target, source: IPAddress?) {
        key = Key(prefix, table: table, metric: metric)
        self.target = target
        self.source = source
    }

    @inlinable public var prefix: IPPrefix { key.prefix }
    @inlinable public var table: UInt32 { key.table }
    @inlinable public var metric: UInt32 { key.metric }

    @inlinable
    public func isSatisfied(by live: Route) -> Bool {
        target == live.target && source == live.source && isAltered == live.isAltered
    }

    /// The main table's number (RT_TABLE_MAIN).
    public static let mainTable: UInt32 = 254
    /// What an IPv6 route without a metric reads back as (IP6_RT_PRIO_USER); IPv4 has 0.
    public static func defaultMetric(_ family: IPAddress.Family) -> UInt32 { family == .v6 ? 1024 : 0 }
}

/// A kernel setting below /proc/sys. Key: its path, with slashes: `net/ipv4/ip_forward`.
public struct Sysctl: ConfiguredObject, Hashable {
    public var path: String
    public var value: String

    public init(_ path: String, _ value: String) {
        self.path = path
        self.value = value
    }

    public var key: String { path }
    public func isSatisfied(by live: Sysctl) -> Bool { value == live.value }

    /// A path as sysctl(8) and container engines have it: dots for slashes, and slashes for the dots of interface names.
    public static func dotted(_ path: String) -> String { String(path.map { $0 == "/" ? "." : $0 == "." ? "/" : $0 }) }

    /// Whether this is a setting of one interface: it comes and goes with it.
    public func isOwn(of interface: String) -> Bool {
        path.hasPrefix("net/ipv4/conf/\(interface)/") || path.hasPrefix("net/ipv6/conf/\(interface)/")
    }
}
