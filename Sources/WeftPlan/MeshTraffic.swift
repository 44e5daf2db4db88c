// What a mesh needs of the host that it passes through: others' firewalls are asked about it.

package import WeftModel

/// The packets of one mesh on one host, in so many words.
package struct MeshTraffic: Hashable, Sendable {
    /// Empty where the mesh is to go: it needs nothing of anybody then.
    package var flows: Set<DesiredState.Flow>
    /// Of peers that this host dials.
    package var endpoints: Set<SocketAddress>
    /// Whether there are peers that this host does not dial: from where they come is not known.
    package var isDialled = true
    /// Whether the mesh's own table goes by what is known of connections: its access rules and what it masquerades do.
    package var isTracked = false
    /// Of the tunnel's own packets that go out; 0: none.
    package var mark: UInt32
    /// This host's own in the mesh; nil: they are not known.
    package var addresses: [IPAddress]?
    /// The networks that routes lead into the mesh, none of them within another; nil: they are not known, or many.
    package var reached: [IPPrefix]?

    package init(
        _ flows: Set<DesiredState.Flow> = [], endpoints: Set<SocketAddress> = [], mark: UInt32 = 0,
        addresses: [IPAddress]? = nil, reached: [IPPrefix]? = nil
    ) {
        self.flows = flows
        self.endpoints = endpoints
        self.mark = mark
        self.addresses = addresses
        self.reached = reached
    }

    package init(_ desired: DesiredState) {
        self.init(
            desired.flows, endpoints: Set(desired.state.peers.compactMap(\.endpoint)),
            mark: desired.state.device?.fwMark ?? 0, addresses: desired.state.addresses.map(\.address),
            reached: Self.networks(of: desired.state.routes))
        isDialled = desired.state.peers.contains { $0.endpoint == nil }
        isTracked = desired.state.firewall?.knowsConnections == true
    }

    /// The tunnel's own port; nil where the kernel chooses.
    package var listenPort: UInt16? {
        for case .listen(let port) in flows { return port }
        return nil
    }

    /// How many networks are looked through for each rule about addresses.
    private static let limit = 64

    private static func networks(of routes: [Route]) -> [IPPrefix]? {
        if routes.isEmpty { return nil }
        // The mesh's ranges first: most others lie within.
        var networks = routes.filter { $0.target == .unreachable && !$0.prefix.isDefault }.map(\.prefix)
        let others = routes.lazy.filter { $0.target == .interface }.map(\.prefix)
            .filter { prefix in !networks.contains { $0.contains(prefix) } }
        for prefix in others.sorted(by: { $0.length < $1.length })
        where !networks.contains(where: { $0.contains(prefix) }) {
            if networks.count >= limit { return nil }
            networks.append(prefix)
        }
        return networks
    }
}
