// Addresses, routes and sysctls: what makes a WireGuard interface part of the host's network.

/// An address on the mesh's interface. Key: the address with its prefix length.
package struct InterfaceAddress: ConfiguredObject, Hashable {
    package struct Key: Hashable, Comparable, Sendable {
        package var address: IPAddress
        package var length: UInt8

        package init(_ address: IPAddress, length: UInt8) {
            self.address = address
            self.length = length
        }

        package static func < (left: Self, right: Self) -> Bool {
            left.address == right.address ? left.length < right.length : left.address < right.address
        }
    }

    package var address: IPAddress
    /// Always the family's width in a desired state.
    package var length: UInt8

    package init(_ address: IPAddress, length: UInt8) {
        self.address = address
        self.length = length
    }

    package init(host address: IPAddress) {
        self.init(address, length: UInt8(address.family.bitWidth))
    }

    package var key: Key { Key(address, length: length) }
    package func isSatisfied(by live: InterfaceAddress) -> Bool { self == live }
}

/// A route that Weft owns. Key: table, prefix and metric, by which the kernel tells routes apart.
@frozen
package struct Route: ConfiguredObject, Hashable {
    @frozen
    package struct Key: Hashable, Comparable, Sendable {
        package var prefix: IPPrefix
        package var table: UInt32
        package var metric: UInt32

        @inlinable
        package init(_ prefix: IPPrefix, table: UInt32, metric: UInt32) {
            self.prefix = prefix
            self.table = table
            self.metric = metric
        }

        @inlinable
        package static func == (left: Self, right: Self) -> Bool {
            left.prefix == right.prefix && left.table == right.table && left.metric == right.metric
        }

        @inlinable
        package static func < (left: Self, right: Self) -> Bool {
            if left.table != right.table { return left.table < right.table }
            if left.prefix != right.prefix { return left.prefix < right.prefix }
            return left.metric < right.metric
        }
    }

    @frozen
    package enum Target: Hashable, Sendable {
        /// Out of the mesh's interface.
        case interface
        /// Refused with "host unreachable", so that packets for absent nodes leave nowhere else.
        case unreachable
    }

    package var key: Key
    package var target: Target
    /// The preferred source address; nil where the route has none.
    package var source: IPAddress?

    @inlinable
    package init(_ prefix: IPPrefix, table: UInt32, metric: UInt32, target: Target, source: IPAddress?) {
        key = Key(prefix, table: table, metric: metric)
        self.target = target
        self.source = source
    }

    @inlinable package var prefix: IPPrefix { key.prefix }
    @inlinable package var table: UInt32 { key.table }
    @inlinable package var metric: UInt32 { key.metric }

    @inlinable
    package func isSatisfied(by live: Route) -> Bool {
        target == live.target && source == live.source
    }

    /// The main table's number (RT_TABLE_MAIN).
    package static let mainTable: UInt32 = 254
    /// What an IPv6 route without a metric reads back as (IP6_RT_PRIO_USER); IPv4 has 0.
    package static func defaultMetric(_ family: IPAddress.Family) -> UInt32 { family == .v6 ? 1024 : 0 }
}

/// A kernel setting below /proc/sys. Key: its path, with slashes: `net/ipv4/ip_forward`.
package struct Sysctl: ConfiguredObject, Hashable {
    package var path: String
    package var value: String

    package init(_ path: String, _ value: String) {
        self.path = path
        self.value = value
    }

    package var key: String { path }
    package func isSatisfied(by live: Sysctl) -> Bool { value == live.value }
}
