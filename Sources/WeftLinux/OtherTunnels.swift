// The other WireGuard interfaces of a host, and what is routed into them.

import CLinux
import Netlink
package import WeftModel
package import WeftPlan

extension HostFeatures {
    /// Every WireGuard interface but one, weft's or not, by name. A user-space device of others is known by its socket.
    ///
    /// - Parameter run: where /run is.
    package func otherTunnels(
        than interface: String, run: String = "/run"
    ) throws(DataplaneError) -> [HostFacts.OtherTunnel] {
        var tunnels: [HostFacts.OtherTunnel] = []
        let marks = Link.alias(mesh: "")
        for link in try readLinks(channel) where link.name != interface {
            let mesh = link.alias.flatMap { $0.hasPrefix(marks) ? String($0.dropFirst(marks.count)) : nil }
            switch link.kind {
            case LiveLink.kernelKind: break
            case LiveLink.userspaceKind where mesh != nil: break
            case LiveLink.userspaceKind where SmallFile.names(in: "\(run)/wireguard").contains("\(link.name).sock"):
                break
            default: continue
            }
            tunnels.append(
                HostFacts.OtherTunnel(
                    interface: link.name, mesh: mesh, networks: try networks(behind: link, of: mesh)))
        }
        return tunnels.sorted { $0.interface < $1.interface }
    }

    /// What is routed into a link, none within another; nothing that every link has of itself.
    private func networks(behind link: LiveLink, of mesh: String?) throws(DataplaneError) -> [IPPrefix] {
        var found: [Route] = []
        if let mesh {
            // With the mesh's ranges, within which most others lie.
            let identity = MeshIdentity(mesh: mesh, interface: link.name)
            let links = Links(channel: channel)
            found = try Routes(channel: channel, links: links, mesh: identity, interface: link.index)
                .read(expecting: 0).ours
        }
        var reading = RouteReading(interface: link.index, unreachableMetric: 0, keeps: .all)
        for family in IPAddress.Family.allCases {
            reading.beginDump()
            do throws(NetlinkError) {
                try channel.dump(UInt16(RTM_GETROUTE), into: &reading) { encoder in
                    encoder.putRouteHeader(family: family.number)
                    encoder.attribute(UInt16(RTA_OIF), link.index)
                }
            } catch {
                throw DataplaneError(error, Request(.readRoutes, "read routes"))
            }
        }
        let others = reading.others.filter {
            $0.interface == link.index && $0.type == UInt8(RTN_UNICAST) && !$0.route.prefix.address.isMulticast
                && !$0.route.prefix.address.isLinkLocal
        }
        var networks: [IPPrefix] = []
        found += reading.ours + others.map(\.route)
        for prefix in found.map(\.prefix).sorted(by: { $0.length < $1.length })
        where !networks.contains(where: { $0.contains(prefix) }) { networks.append(prefix) }
        return networks.sorted()
    }
}
