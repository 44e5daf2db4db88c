// Which meshes weft has made on this host, told by the links' aliases alone.

import CLinux
package import Netlink
package import WeftModel
package import WeftPlan

/// Every mesh whose link is in the calling thread's network namespace, by interface name.
package func ownMeshes(
    transports: TransportFactory = { (bus) throws(Errno) in try Socket(bus) }
) throws(DataplaneError) -> [MeshIdentity] {
    let transport: any Transport
    do throws(Errno) {
        transport = try transports(.route)
    } catch {
        throw DataplaneError(error, Request(.openSocket, "open a netlink socket"))
    }
    return try ownMeshes(Channel(transport))
}

/// As above, over a channel that is open.
func ownMeshes(_ channel: Channel) throws(DataplaneError) -> [MeshIdentity] {
    let prefix = Link.alias(mesh: "")
    return try readLinks(channel).compactMap { link in
        guard let alias = link.alias, alias.hasPrefix(prefix),
            link.kind == LiveLink.kernelKind || link.kind == LiveLink.userspaceKind
        else { return nil }
        return MeshIdentity(mesh: String(alias.dropFirst(prefix.count)), interface: link.name)
    }
    .sorted { $0.interface < $1.interface }
}

extension MeshIdentity {
    /// As messages name it to somebody who has several on a host.
    var phrase: String { "the mesh \(mesh) on \(interface)" }
}
