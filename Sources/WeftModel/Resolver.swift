// Which name servers are asked over the mesh.

/// What does the host's name resolution, as far as Weft can tell it something.
package enum ResolverKind: String, Hashable, Sendable {
    /// systemd-resolved, by `resolvectl`.
    case resolved = "systemd-resolved"
    /// openresolv or Debian's resolvconf, by `resolvconf`.
    case resolvconf
}

/// Name servers and search domains of one link. Key: the interface.
package struct ResolverSetting: ConfiguredObject, Hashable {
    package var interface: String
    /// In the order in which they are asked.
    package var servers: [IPAddress]
    /// Search domains.
    package var domains: [String]
    /// Whether these servers are asked for every name, and not for those below `domains` alone.
    package var isForAllNames: Bool

    /// - Parameter isForAllNames: nil where that hangs on whether there are domains.
    package init(interface: String, servers: [IPAddress], domains: [String] = [], isForAllNames: Bool? = nil) {
        self.interface = interface
        self.servers = servers
        self.domains = domains
        self.isForAllNames = isForAllNames ?? domains.isEmpty
    }

    package var key: String { interface }
    package func isSatisfied(by live: ResolverSetting) -> Bool { self == live }
}
