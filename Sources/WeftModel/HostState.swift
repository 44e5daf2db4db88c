// All that one mesh is on one host: the same value for what is wanted and for what is there.

/// One mesh's objects on one host. Every collection is sorted by key where it is desired; an observed one is in the
/// kernel's order.
package struct HostState: Equatable, Sendable {
    /// Nil: the mesh is not on this host.
    package var link: Link?
    package var device: Device?
    package var addresses: [InterfaceAddress]
    package var peers: [Peer]
    package var routes: [Route]
    package var rules: [PolicyRule]
    package var sysctls: [Sysctl]
    /// Nil: no table.
    package var firewall: Firewall?
    /// Nil: the link has no name servers of its own.
    package var resolver: ResolverSetting?

    package init(
        link: Link? = nil,
        device: Device? = nil,
        addresses: [InterfaceAddress] = [],
        peers: [Peer] = [],
        routes: [Route] = [],
        rules: [PolicyRule] = [],
        sysctls: [Sysctl] = [],
        firewall: Firewall? = nil,
        resolver: ResolverSetting? = nil
    ) {
        self.link = link
        self.device = device
        self.addresses = addresses
        self.peers = peers
        self.routes = routes
        self.rules = rules
        self.sysctls = sysctls
        self.firewall = firewall
        self.resolver = resolver
    }
}

/// What is wanted of a host, for one mesh, with what a person needs to read it.
package struct DesiredState: Sendable {
    /// The mesh's name.
    package var mesh: String
    /// The interface's name.
    package var interface: String
    /// This host's node name.
    package var node: String
    package var state: HostState
    /// Node names of peers, for plans and status.
    package var peerNames: [PublicKey: String]
    /// The endpoint as written, for peers whose endpoint is a host name: `fra.example.net:51820`.
    package var endpointNames: [PublicKey: String]
    /// The named counters of the firewall, in the order of what they count: access rules as the topology has them, and what
    /// is refused. The kernel knows them by name only.
    package var counterNames: [String] = []
    /// What this host does with others' packets: what another program's firewall may stand in the way of.
    package var flows: Set<Flow> = []
    /// Why the host's keys cannot be used, in a sentence; nil where they can. Nothing is done then but to keep a kill switch
    /// shut, which needs none.
    package var keyProblem: String?

    /// A kind of traffic that the mesh needs through this host.
    package enum Flow: Hashable, Sendable {
        /// The tunnel's own packets come in at this UDP port.
        case listen(port: UInt16)
        /// Packets are passed on between nodes of the mesh.
        case relay
        /// Packets out of the mesh are passed on, to anywhere, and what answers them.
        case forward
        /// Packets are passed on between the mesh and these networks, and either side may begin.
        case reach([IPPrefix])
        /// The mesh reaches services of this host.
        case deliver
    }

    package init(
        mesh: String, interface: String, node: String, state: HostState, peerNames: [PublicKey: String] = [:],
        endpointNames: [PublicKey: String] = [:]
    ) {
        self.mesh = mesh
        self.interface = interface
        self.node = node
        self.state = state
        self.peerNames = peerNames
        self.endpointNames = endpointNames
    }

    /// What identifies this mesh's objects on a host.
    package var identity: MeshIdentity { MeshIdentity(mesh: mesh, interface: interface) }
}
