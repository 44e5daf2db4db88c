// A topology as decoded: what people wrote, typed, with the place of everything that a later message may point at.

package import WeftDiagnostics
package import WeftModel

/// A value and the place where it was written.
package struct Located<Value: Sendable>: Sendable {
    package var value: Value
    package var place: SourceRange

    package init(_ value: Value, at place: SourceRange) {
        self.value = value
        self.place = place
    }
}

/// A whole topology: one mesh. Made by `TopologyReader`, turned into a host's state by `compile`.
package struct Topology: Sendable {
    package var mesh: Mesh
    /// In the order of their names.
    package var nodes: [Node]
    package var groups: [Group]
    package var links: [PairLink]
    /// Nil where the section is absent: all may reach all.
    package var access: [AccessRule]?
    package var tests: [PolicyTest]

    package init(
        mesh: Mesh,
        nodes: [Node],
        groups: [Group] = [],
        links: [PairLink] = [],
        access: [AccessRule]? = nil,
        tests: [PolicyTest] = []
    ) {
        self.mesh = mesh
        self.nodes = nodes
        self.groups = groups
        self.links = links
        self.access = access
        self.tests = tests
    }
}

/// The `mesh:` section.
package struct Mesh: Sendable {
    package enum PresharedKeys: String, Sendable, CaseIterable { case none, sealed, external, directory }

    package var name: Located<String>
    /// The interface's default name.
    package var interface: Located<String>
    package var addresses: [Located<IPPrefix>]
    /// Only `full` or `hubs` at this level.
    package var connect: Connect
    package var presharedKeys: PresharedKeys

    package init(
        name: Located<String>,
        interface: Located<String>,
        addresses: [Located<IPPrefix>],
        connect: Connect = .full,
        presharedKeys: PresharedKeys = .none
    ) {
        self.name = name
        self.interface = interface
        self.addresses = addresses
        self.connect = connect
        self.presharedKeys = presharedKeys
    }
}

/// Who a node links to.
package enum Connect: Hashable, Sendable {
    case full
    case hubs
    /// These nodes only, by name.
    case nodes([String])
}

/// The routing table that a mesh's routes go into.
package enum RoutingTable: Hashable, Sendable {
    case off
    case main
    case number(UInt32)
}

/// An optional that takes no more room than a pointer: of a hundred thousand nodes few have it.
@propertyWrapper
package struct Rare<Value: Sendable>: Sendable {
    private indirect enum Box: Sendable { case some(Value) }
    private var box: Box?

    package init(wrappedValue: Value? = nil) { self.wrappedValue = wrappedValue }

    package var wrappedValue: Value? {
        get {
            guard case .some(let value)? = box else { return nil }
            return value
        }
        set { box = newValue.map { .some($0) } }
    }
}

/// One machine, with the mesh's defaults already merged in: a nil here was written nowhere.
package struct Node: Sendable {
    /// Where the node's name stands.
    package var place: SourceRange
    package var name: String
    package var publicKey: Located<PublicKey>
    package var addresses: [Located<IPAddress>]
    package var endpoint: Located<NodeEndpoint>?
    package var isHub: Bool
    package var allowedIPs: [Located<IPPrefix>]
    @Rare package var interface: Located<String>?
    package var listenPort: UInt16?
    package var persistentKeepalive: UInt16?
    package var mtu: UInt32?
    package var table: RoutingTable
    /// 0: none.
    package var fwMark: UInt32
    /// Nil: the mesh's.
    package var connect: Connect?
    package var isUnmanaged: Bool
    package var isDisabled: Bool
    package var expires: UnixTime?
    @Rare package var masquerade: Masquerade?
    package var isExit: Bool
    @Rare package var useExit: Located<String>?
    @Rare package var killSwitch: KillSwitch?
    @Rare package var dns: DNSSettings?

    package init(
        place: SourceRange, name: String, publicKey: Located<PublicKey>, addresses: [Located<IPAddress>]
    ) {
        self.place = place
        self.name = name
        self.publicKey = publicKey
        self.addresses = addresses
        isHub = false
        allowedIPs = []
        table = .main
        fwMark = 0
        isUnmanaged = false
        isDisabled = false
        isExit = false
    }
}

/// An endpoint as written in a node: the port may be left to be derived.
package struct NodeEndpoint: Hashable, Sendable {
    package var host: Endpoint.Host
    package var port: UInt16?

    package init(host: Endpoint.Host, port: UInt16?) {
        self.host = host
        self.port = port
    }
}

/// Whose packets leave a node under its own address.
package struct Masquerade: Sendable {
    /// Empty: every interface but the mesh's.
    package var interfaces: [Located<String>]
    /// Empty: what has no valid address outside (see Roles.md).
    package var sources: [Located<IPPrefix>]
    /// Empty: everywhere; where `interfaces` is empty too, everywhere but into the mesh's own networks.
    package var destinations: [Located<IPPrefix>]
    package var place: SourceRange

    package init(
        interfaces: [Located<String>] = [], sources: [Located<IPPrefix>] = [], destinations: [Located<IPPrefix>] = [],
        place: SourceRange
    ) {
        self.interfaces = interfaces
        self.sources = sources
        self.destinations = destinations
        self.place = place
    }
}

package struct KillSwitch: Sendable {
    package var allow: [Located<IPPrefix>]
    package var place: SourceRange

    package init(allow: [Located<IPPrefix>] = [], place: SourceRange) {
        self.allow = allow
        self.place = place
    }
}

package struct DNSSettings: Sendable {
    package var servers: [Located<IPAddress>]
    package var domains: [Located<String>]
    package var place: SourceRange

    package init(servers: [Located<IPAddress>], domains: [Located<String>] = [], place: SourceRange) {
        self.servers = servers
        self.domains = domains
        self.place = place
    }
}

package struct Group: Sendable {
    package var name: Located<String>
    /// Names of nodes, or of other groups.
    package var members: [Located<String>]

    package init(name: Located<String>, members: [Located<String>]) {
        self.name = name
        self.members = members
    }
}

/// Facts about one pair.
package struct PairLink: Sendable {
    package var place: SourceRange
    package var between: (Located<String>, Located<String>)
    /// By the name of the node that is dialled.
    package var endpoints: [String: Located<NodeEndpoint>]
    package var persistentKeepalive: UInt16?

    package init(
        place: SourceRange, between: (Located<String>, Located<String>),
        endpoints: [String: Located<NodeEndpoint>] = [:], persistentKeepalive: UInt16? = nil
    ) {
        self.place = place
        self.between = between
        self.endpoints = endpoints
        self.persistentKeepalive = persistentKeepalive
    }
}

/// One end of an access rule or a policy test.
package enum AccessSubject: Hashable, Sendable {
    /// A node or a group, by name.
    case named(String)
    case prefix(IPPrefix)
    /// What lies behind an exit.
    case internet
}

/// What an access rule lets through.
package enum AccessPort: Hashable, Sendable {
    case tcp(ClosedRange<UInt16>)
    case udp(ClosedRange<UInt16>)
    case icmp
}

package struct AccessRule: Sendable {
    package var place: SourceRange
    package var from: [Located<AccessSubject>]
    package var to: [Located<AccessSubject>]
    /// Empty: every protocol and port.
    package var ports: [Located<AccessPort>]

    package init(
        place: SourceRange, from: [Located<AccessSubject>], to: [Located<AccessSubject>], ports: [Located<AccessPort>]
    ) {
        self.place = place
        self.from = from
        self.to = to
        self.ports = ports
    }
}

package struct PolicyTest: Sendable {
    package enum Expectation: String, Sendable, CaseIterable { case allow, deny }

    package var place: SourceRange
    package var from: Located<AccessSubject>
    package var to: Located<AccessSubject>
    package var port: Located<AccessPort>?
    package var expect: Expectation

    package init(
        place: SourceRange, from: Located<AccessSubject>, to: Located<AccessSubject>, port: Located<AccessPort>?,
        expect: Expectation
    ) {
        self.place = place
        self.from = from
        self.to = to
        self.port = port
        self.expect = expect
    }
}
