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
    var reading = MeshReading()
    do throws(NetlinkError) {
        try channel.dump(UInt16(RTM_GETLINK), into: &reading) { $0.putLinkHeader() }
    } catch {
        throw DataplaneError(error, Request(.readLink, "read links"))
    }
    return reading.meshes.sorted { $0.interface < $1.interface }
}

/// Takes a dump of links.
private struct MeshReading: MessageConsumer {
    var meshes: [MeshIdentity] = []

    mutating func reset() { meshes = [] }

    mutating func take(_ message: Message) -> Bool {
        var reading = LinkReading()
        guard reading.take(message) else { return false }
        let prefix = Link.alias(mesh: "")
        if let link = reading.link, let alias = link.alias, alias.hasPrefix(prefix),
            link.kind == LiveLink.kernelKind || link.kind == LiveLink.userspaceKind
        {
            meshes.append(MeshIdentity(mesh: String(alias.dropFirst(prefix.count)), interface: link.name))
        }
        return true
    }
}
