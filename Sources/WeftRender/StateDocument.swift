// The desired state of one host as a document: what `weft show --format json` prints. Field by field in StateFormat.md.

package import WeftModel
import WeftStatus

/// What a reader without privileges cannot know, because a host adds it.
package struct HostDecisions: Hashable, Sendable {
    /// The MTU follows from the paths to the endpoints.
    package var mtu: Bool
    /// Preshared keys lie in a folder on the host.
    package var presharedKeys: Bool

    /// Interfaces that listen to router advertisements must be told to go on when the host forwards IPv6.
    package var routerAdvertisements: Bool
    /// Where the host checks sources against routes strictly, the interface must be told not to.
    package var reversePath: Bool

    package init(
        mtu: Bool = false, presharedKeys: Bool = false, routerAdvertisements: Bool = false, reversePath: Bool = false
    ) {
        self.reversePath = reversePath
        self.mtu = mtu
        self.presharedKeys = presharedKeys
        self.routerAdvertisements = routerAdvertisements
    }
}

/// What the topology wants of one host. Absent fields are not set, or decided on the host: `decidedOnHost` says which.
package struct StateDocument: Codable, Hashable, Sendable {
    /// Always `weft.state`.
    package var format: String
    /// 1. Raised when a field changes its meaning or goes; new fields do not raise it.
    package var version: Int
    package var node: String
    package var mesh: String
    package var interface: String
    /// Absent where the mesh is not to be on this host.
    package var link: Link?
    /// Absent where the mesh is not to be on this host.
    package var device: Device?
    /// With their lengths: `10.80.0.1/32`.
    package var addresses: [String]
    /// By name.
    package var peers: [Peer]
    package var routes: [Route]
    package var rules: [PolicyRule]
    /// Absent where the host needs none.
    package var firewall: FirewallDocument?
    /// Absent where the link has no name servers of its own.
    package var resolver: Resolver?
    package var sysctls: [Sysctl]
    /// Of `link.mtu`, `device.privateKey`, `device.listenPort`, `peers.endpoint`, `peers.presharedKey`, `sysctls`: what
    /// the host adds, and is not known here.
    package var decidedOnHost: [String]

    /// The interface.
    package struct Link: Codable, Hashable, Sendable {
        package var name: String
        /// In bytes; absent where the host decides it.
        package var mtu: UInt32?
        package var up: Bool
        package var alias: String
    }

    /// The WireGuard device in it.
    package struct Device: Codable, Hashable, Sendable {
        package var publicKey: String?
        /// Absent: the kernel chooses.
        package var listenPort: UInt16?
        /// 0: none.
        package var fwMark: UInt32
    }

    /// A peer.
    package struct Peer: Codable, Hashable, Sendable {
        package var name: String?
        package var publicKey: String
        /// Where to dial first, as an address; absent where the peer dials, or where the name is resolved on the host.
        package var endpoint: String?
        /// The endpoint as written, where it is a host name.
        package var endpointName: String?
        /// In seconds; 0: off.
        package var persistentKeepalive: UInt16
        /// `none`, `set` or `external`; absent where the host decides it.
        package var presharedKey: String?
        /// Ascending.
        package var allowedIPs: [String]
    }

    /// A route.
    package struct Route: Codable, Hashable, Sendable {
        package var prefix: String
        /// 254 is the main table.
        package var table: UInt32
        package var metric: UInt32
        /// `interface` or `unreachable`.
        package var target: String
        /// The preferred source address.
        package var source: String?
    }

    /// A rule of the routing policy.
    package struct PolicyRule: Codable, Hashable, Sendable {
        /// `IPv4` or `IPv6`.
        package var family: String
        package var priority: UInt32
        /// As ip-rule(8) prints it.
        package var rule: String
    }

    /// Name servers and search domains.
    package struct Resolver: Codable, Hashable, Sendable {
        package var servers: [String]
        package var domains: [String]
        /// Whether they are asked for every name, and not for those below `domains` alone.
        package var allNames: Bool
    }

    /// A kernel setting.
    package struct Sysctl: Codable, Hashable, Sendable {
        /// Below /proc/sys: `net/ipv4/ip_forward`.
        package var path: String
        package var value: String
    }
}

extension StateDocument {
    /// Makes the document.
    package init(_ desired: DesiredState, decidedOnHost decisions: HostDecisions = HostDecisions()) {
        let state = desired.state
        format = "weft.state"
        version = 1
        node = desired.node
        mesh = desired.mesh
        interface = desired.interface
        link = state.link.map {
            Link(name: $0.name, mtu: decisions.mtu ? nil : $0.mtu, up: $0.isUp, alias: $0.alias)
        }
        device = state.device.map {
            Device(publicKey: $0.publicKey?.base64, listenPort: $0.listenPort, fwMark: $0.fwMark)
        }
        addresses = state.addresses.map { "\($0.address)/\($0.length)" }
        let labels = PlanLabels(desired)
        peers = state.peers.map { Peer($0, labels: labels, decisions: decisions) }
        peers.sort { PeerOrder(name: $0.name, key: $0.publicKey) < PeerOrder(name: $1.name, key: $1.publicKey) }
        routes = state.routes.map { Route($0) }
        rules = state.rules.map {
            PolicyRule(family: $0.key.family.name, priority: $0.key.priority, rule: $0.words)
        }
        firewall = state.firewall.map { FirewallDocument($0) }
        resolver = state.resolver.map {
            Resolver(servers: $0.servers.map(\.description), domains: $0.domains, allNames: $0.isForAllNames)
        }
        sysctls = state.sysctls.map { Sysctl(path: $0.path, value: $0.value) }
        decidedOnHost = []
        if link != nil, decisions.mtu { decidedOnHost.append("link.mtu") }
        if let device {
            decidedOnHost.append("device.privateKey")
            if device.listenPort == nil { decidedOnHost.append("device.listenPort") }
        }
        if peers.contains(where: { $0.isNameOnly }) { decidedOnHost.append("peers.endpoint") }
        if decisions.presharedKeys, !peers.isEmpty { decidedOnHost.append("peers.presharedKey") }
        let forwardsIPv6 = sysctls.contains { $0.path == "net/ipv6/conf/all/forwarding" }
        if (decisions.routerAdvertisements && forwardsIPv6) || decisions.reversePath {
            decidedOnHost.append("sysctls")
        }
    }
}

extension StateDocument.Peer {
    /// Whether its endpoint is a host name without an address yet.
    var isNameOnly: Bool { endpoint == nil && endpointName != nil }

    fileprivate init(_ peer: WeftModel.Peer, labels: PlanLabels, decisions: HostDecisions) {
        name = labels.peers[peer.publicKey]
        publicKey = peer.publicKey.base64
        endpoint = peer.endpoint?.description
        endpointName = labels.endpoints[peer.publicKey]
        persistentKeepalive = peer.persistentKeepalive
        let isOpen = peer.presharedKey == .none && decisions.presharedKeys
        presharedKey = isOpen ? nil : peer.presharedKey.word(had: false)
        allowedIPs = peer.allowedIPs.map(\.description)
    }
}

extension StateDocument.Route {
    init(_ route: WeftModel.Route) {
        prefix = route.prefix.description
        table = route.table
        metric = route.metric
        target = route.target.word
        source = route.source?.description
    }
}
