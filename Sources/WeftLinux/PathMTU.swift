// How large a packet may be on its way to the endpoints, asked of the routes that lead there.

package import Netlink
package import WeftModel
package import WeftPlan

/// Looks up routes as the tunnel's own packets will take them.
package struct PathMTU {
    /// What WireGuard and the headers around it add to a packet at most: over IPv6.
    package static let overhead: UInt32 = 80

    private let lookup: RouteLookup
    private let mesh: MeshIdentity
    /// What leads past the full tunnels that are there: first this mesh's own, which may be about to go or to get another
    /// mark, and then those of other meshes, which take this one's packets as well.
    private let liveMarks: [UInt32]

    /// Opens a socket in the calling thread's network namespace, and reads its links and rules.
    package init(
        for mesh: MeshIdentity, transports: TransportFactory = { (bus) throws(Errno) in try Socket(bus) }
    ) throws(DataplaneError) {
        self.mesh = mesh
        let lookup = try RouteLookup(transports: transports)
        self.lookup = lookup
        liveMarks = try ([mesh] + lookup.meshes(besides: mesh)).map { (mesh) throws(DataplaneError) in
            try lookup.tunnelMark(of: mesh)
        }
    }

    /// The MTU for the mesh's link: that of the narrowest path to an endpoint, less WireGuard's overhead. Where no endpoint
    /// has a path outside the host, the way to addresses that nothing is known of decides, as the peers will come by it.
    /// Left out are endpoints without a route, on this host itself, and behind one of Weft's own interfaces, and full tunnels of
    /// Weft's are passed by: else each of two meshes would hang on what the other one is just now.
    ///
    /// - Parameters:
    ///   - mark: that the tunnel's own packets are to have; 0 for none.
    ///   - hasIPv6: whether the link is to have IPv6, which needs 1280 bytes.
    /// - Returns: in bytes; nil where no path is known.
    package func linkMTU(to endpoints: Set<IPAddress>, mark: UInt32, hasIPv6: Bool) throws(DataplaneError) -> UInt32? {
        // Addresses for documentation (RFC 5737, RFC 3849): what routes there is a default route.
        let nobody: Set<IPAddress> = [IPAddress(v4: 0xC000_0201), IPAddress(v6: 0x2001_0DB8_0000_0000, 1)]
        for addresses in [endpoints, nobody] {
            var smallest: UInt32?
            for address in addresses {
                guard let mtu = try pathMTU(to: address, mark: mark) else { continue }
                smallest = min(smallest ?? mtu, mtu)
            }
            if let smallest {
                let room = smallest > Self.overhead ? smallest - Self.overhead : 0
                return max(room, hasIPv6 ? 1280 : 68)
            }
        }
        return nil
    }

    /// A full tunnel takes what does not bear its mark.
    private func pathMTU(to address: IPAddress, mark: UInt32) throws(DataplaneError) -> UInt32? {
        if let mtu = try mtu(to: address, mark: mark) { return mtu }
        for live in liveMarks where live != 0 && live != mark {
            if let mtu = try mtu(to: address, mark: live) { return mtu }
        }
        return nil
    }

    /// In bytes, headers included; nil where no packet of ours would leave the host for that address.
    func mtu(to address: IPAddress, mark: UInt32) throws(DataplaneError) -> UInt32? {
        guard let answer = try lookup.route(to: address, mark: mark) else { return nil }
        var smallest = answer.mtu == 0 ? nil : answer.mtu
        for interface in answer.interfaces {
            guard let link = lookup.links[interface], !isOwn(link) else { return nil }
            smallest = min(smallest ?? link.mtu, link.mtu)
        }
        return answer.interfaces.isEmpty ? nil : smallest
    }

    /// The mesh's own counts also before it bears its mark.
    private func isOwn(_ link: LiveLink) -> Bool {
        link.name == mesh.interface || link.alias?.hasPrefix(Link.alias(mesh: "")) == true
    }
}
