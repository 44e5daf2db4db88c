// All that a host adds to a topology before it becomes that host's state.

/// Facts looked up on a host. What is absent here is "decided on the host" in outputs made without privileges.
package struct HostFacts: Sendable {
    /// The tag of this host's private key.
    package var privateKey: SecretTag?
    /// Tags of preshared keys, by the peer's node name (`presharedKeys: directory`).
    package var presharedKeys: [String: SecretTag]
    /// Answers of the resolver, by host name, in the resolver's order. A name without an answer is absent.
    package var resolvedNames: [String: [IPAddress]]
    /// The MTU of the path to the endpoints, less WireGuard's overhead; nil where it was not looked up.
    package var linkMTU: UInt32?
    /// Whether names were looked up at all; where not, a missing answer says nothing.
    package var didResolve: Bool
    /// Interfaces (and `default`) whose accept_ra is 1 or 2: they must be told to go on when IPv6 forwarding is on.
    package var acceptingRouterAdvertisements: Set<String>
    /// Networks that the host is connected to without Weft.
    package var connectedNetworks: [ConnectedNetwork]
    /// Names of the host's interfaces, Weft's own included; nil where they were not looked up.
    package var interfaces: Set<String>? = nil
    /// Families in which the kernel takes routes and policy rules. Both where that was not looked up.
    package var families: Set<IPAddress.Family> = Set(IPAddress.Family.allCases)
    /// Whether the mesh's interface takes IPv6 addresses. On where that was not looked up.
    package var ipv6Switch = IPv6Switch.on
    /// Whether IPv4 packets that come in by the mesh's interface are dropped where the route back is not in the tables that
    /// their own lookup reads: `net.ipv4.conf.all.rp_filter` is not 2, and it, `default`'s or the interface's own, where
    /// that is there, is 1. Nil where it was not looked up.
    package var hasStrictReversePath: Bool? = nil
    /// Whether the host passes IPv4 packets on, and none that come in by the mesh's interface: its own `forwarding` is off, or
    /// that of `default` where it is yet to be made. False where that was not looked up.
    package var hasForwardingOff = false
    /// Whether the kernel has nf_tables; nil where that was not looked up.
    package var hasFirewall: Bool? = nil
    /// What could take name servers for a link, the one that would be used first; empty where nothing does. Nil where it was
    /// not looked up.
    package var resolvers: [ResolverKind]? = nil

    /// Where IPv6 is switched off, if it is.
    package enum IPv6Switch: Sendable {
        case on
        /// The mesh's interface alone has it off: `disable_ipv6` of its own, and not `all` nor `default`. What the interface
        /// has of its own is the mesh's to set.
        case offOnInterface
        /// The host's settings or its kernel's command line switch it off: the interface takes no IPv6 addresses.
        case offOnHost
    }

    /// The host's other WireGuard interfaces, whoever made them. Looked up only for a full tunnel.
    package var otherTunnels: [OtherTunnel] = []

    /// A WireGuard interface besides the mesh's own.
    package struct OtherTunnel: Hashable, Sendable {
        package var interface: String
        /// Nil where it is not weft's.
        package var mesh: String?
        /// What is routed into it, none within another.
        package var networks: [IPPrefix]

        package init(interface: String, mesh: String? = nil, networks: [IPPrefix]) {
            self.interface = interface
            self.mesh = mesh
            self.networks = networks
        }
    }

    /// A network on one of the host's other interfaces.
    package struct ConnectedNetwork: Hashable, Sendable {
        package var prefix: IPPrefix
        package var interface: String
        /// The host's own in it.
        package var addresses: [IPAddress]

        package init(prefix: IPPrefix, interface: String, addresses: [IPAddress] = []) {
            self.prefix = prefix
            self.addresses = addresses
            self.interface = interface
        }
    }

    package init(
        privateKey: SecretTag? = nil,
        presharedKeys: [String: SecretTag] = [:],
        resolvedNames: [String: [IPAddress]] = [:],
        linkMTU: UInt32? = nil,
        connectedNetworks: [ConnectedNetwork] = [],
        acceptingRouterAdvertisements: Set<String> = [],
        didResolve: Bool = false
    ) {
        self.privateKey = privateKey
        self.presharedKeys = presharedKeys
        self.resolvedNames = resolvedNames
        self.linkMTU = linkMTU
        self.connectedNetworks = connectedNetworks
        self.acceptingRouterAdvertisements = acceptingRouterAdvertisements
        self.didResolve = didResolve
    }
}
