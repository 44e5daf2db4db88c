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

    /// A network on one of the host's other interfaces.
    package struct ConnectedNetwork: Hashable, Sendable {
        package var prefix: IPPrefix
        package var interface: String

        package init(prefix: IPPrefix, interface: String) {
            self.prefix = prefix
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
