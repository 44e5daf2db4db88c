// How large a packet may be on its way to the endpoints, asked of the routes that lead there.

package import Netlink
package import WeftModel
package import WeftPlan

/// Looks up routes as the tunnel's own packets will take them.
package struct PathMTU {
    /// What WireGuard and the headers around it add to a packet at most: over IPv6.
    package static let overhead: UInt32 = 80

    private let lookup: RouteLookup

    /// Opens a socket in the calling thread's network namespace, and reads its links.
    package init(
        transports: TransportFactory = { (bus) throws(Errno) in try Socket(bus) }
    ) throws(DataplaneError) {
        lookup = try RouteLookup(transports: transports)
    }

    /// The MTU for the mesh's link: that of the narrowest path to an endpoint, less WireGuard's overhead. Where no endpoint
    /// has a path outside the host, the way to addresses that nothing is known of decides, as the peers will come by it.
    /// Left out are endpoints without a route, on this host itself, and behind one of Weft's own interfaces.
    ///
    /// - Parameters:
    ///   - mark: of the tunnel's own packets; 0 for none.
    ///   - excluded: the mesh's own interface, also before it bears its mark.
    ///   - hasIPv6: whether the link is to have IPv6, which needs 1280 bytes.
    /// - Returns: in bytes; nil where no path is known.
    package func linkMTU(
        to endpoints: Set<IPAddress>, mark: UInt32, excluding excluded: String, hasIPv6: Bool
    ) throws(DataplaneError) -> UInt32? {
        // Addresses for documentation (RFC 5737, RFC 3849): what routes there is a default route.
        let nobody: Set<IPAddress> = [IPAddress(v4: 0xC000_0201), IPAddress(v6: 0x2001_0DB8_0000_0000, 1)]
        for addresses in [endpoints, nobody] {
            var smallest: UInt32?
            for address in addresses {
                guard let mtu = try mtu(to: address, mark: mark, excluding: excluded) else { continue }
                smallest = min(smallest ?? mtu, mtu)
            }
            if let smallest {
                let room = smallest > Self.overhead ? smallest - Self.overhead : 0
                return max(room, hasIPv6 ? 1280 : 68)
            }
        }
        return nil
    }

    /// In bytes, headers included; nil where no packet of ours would leave the host for that address.
    func mtu(to address: IPAddress, mark: UInt32, excluding excluded: String) throws(DataplaneError) -> UInt32? {
        guard let answer = try lookup.route(to: address, mark: mark) else { return nil }
        var smallest = answer.mtu == 0 ? nil : answer.mtu
        for interface in answer.interfaces {
            guard let link = lookup.links[interface], !isOwn(link, excluded) else { return nil }
            smallest = min(smallest ?? link.mtu, link.mtu)
        }
        return answer.interfaces.isEmpty ? nil : smallest
    }

    private func isOwn(_ link: LiveLink, _ excluded: String) -> Bool {
        link.name == excluded || link.alias?.hasPrefix(Link.alias(mesh: "")) == true
    }
}
