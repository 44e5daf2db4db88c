// How the kernel would send a packet: one question about one address, for all who ask it.

import CLinux
import Glibc
package import Netlink
package import WeftModel
package import WeftPlan

/// A socket in the calling thread's network namespace, and the links that were there when it was opened.
struct RouteLookup {
    private let channel: Channel
    let links: [UInt32: LiveLink]

    init(transports: TransportFactory) throws(DataplaneError) {
        do throws(Errno) {
            channel = Channel(try transports(.route))
        } catch {
            throw DataplaneError(error, Request(.openSocket, "open a netlink socket"))
        }
        links = Dictionary(try readLinks(channel).map { ($0.index, $0) }) { _, last in last }
    }

    /// The route that packets to an address take: the route itself, and not what the kernel has learnt of the path for the
    /// next ten minutes.
    ///
    /// - Parameter mark: of the packets; 0 for none.
    /// - Returns: nil where the kernel refuses them, which it does in as many ways as there are kinds of routes.
    func route(to address: IPAddress, mark: UInt32) throws(DataplaneError) -> FoundRoute? {
        guard let answer = try answer(for: address, mark: mark) else { return nil }
        return answer.type == UInt8(RTN_UNICAST) ? answer : nil
    }

    /// The mark of a mesh's own packets that its rule, as it is now, leads past its full tunnel; 0 where it has none.
    func tunnelMark(of mesh: MeshIdentity) throws(DataplaneError) -> UInt32 {
        try PolicyRules(channel: channel, mesh: mesh, wanted: []).read().ours.lazy
            .compactMap { if case .lookupUnlessMarked(let mark, _) = $0.key.action { mark } else { nil } }.first ?? 0
    }

    /// The meshes whose interfaces are here, but for one, by their interfaces' numbers.
    func meshes(besides mesh: MeshIdentity) -> [MeshIdentity] {
        let mark = Link.alias(mesh: "")
        return links.values.sorted { $0.index < $1.index }.compactMap { link in
            guard link.name != mesh.interface, let alias = link.alias, alias.hasPrefix(mark) else { return nil }
            return MeshIdentity(mesh: String(alias.dropFirst(mark.count)), interface: link.name)
        }
    }

    /// Whether packets to an address go anywhere, this host itself included.
    func hasRoute(to address: IPAddress, mark: UInt32) throws(DataplaneError) -> Bool {
        try answer(for: address, mark: mark) != nil
    }

    private func answer(for address: IPAddress, mark: UInt32) throws(DataplaneError) -> FoundRoute? {
        var answer = FoundRoute()
        do throws(NetlinkError) {
            try channel.get(UInt16(RTM_GETROUTE), into: &answer) { encoder in
                encoder.putRouteHeader(
                    family: address.family.number, length: UInt8(address.family.bitWidth),
                    flags: UInt32(RTM_F_FIB_MATCH))
                encoder.attribute(UInt16(RTA_DST), address)
                if mark != 0 { encoder.attribute(UInt16(RTA_MARK), mark) }
            }
        } catch {
            if case .refused = error { return nil }
            throw DataplaneError(error, Request(.readRoutes, "look up the route to \(address)"))
        }
        return answer
    }
}

/// Those of the addresses to which the kernel has no route, or refuses packets, in the calling thread's network namespace.
///
/// - Parameters:
///   - mark: that the packets of the mesh's tunnel are to have; 0 for none. They have another one where its rules, as they are,
///     go by that.
package func addressesWithoutRoute(
    among addresses: Set<IPAddress>, mark: UInt32, of mesh: MeshIdentity,
    transports: TransportFactory = { (bus) throws(Errno) in try Socket(bus) }
) throws(DataplaneError) -> Set<IPAddress> {
    let lookup = try RouteLookup(transports: transports)
    let liveMark = try lookup.tunnelMark(of: mesh)
    let marks = liveMark == 0 ? [mark] : [mark, liveMark]
    var lost: Set<IPAddress> = []
    for address in addresses {
        var isReached = false
        for mark in marks where !isReached { isReached = try lookup.hasRoute(to: address, mark: mark) }
        if !isReached { lost.insert(address) }
    }
    return lost
}

/// The answer to RTM_GETROUTE for one address.
struct FoundRoute: MessageConsumer {
    /// RTN_*
    var type: UInt8 = 0
    /// Of the route's prefix, in bits.
    var length: UInt8 = 0
    var table: UInt32 = 0
    /// The route's own MTU (RTAX_MTU); 0 where it has none.
    var mtu: UInt32 = 0
    /// Several where the route has several ways to go.
    var interfaces: [UInt32] = []

    mutating func reset() { self = FoundRoute() }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(RTM_NEWROUTE) else { return true }
        guard let length = message.payload.load(at: 1, as: UInt8.self),
            let table = message.payload.load(at: 4, as: UInt8.self),
            let type = message.payload.load(at: 7, as: UInt8.self)
        else { return false }
        (self.type, self.length, self.table) = (type, length, UInt32(table))
        var attributes = Attributes(message.payload, from: MemoryLayout<rtmsg>.size)
        while attributes.next() {
            switch rtattr_type_t(rawValue: UInt32(attributes.type)) {
            case RTA_OIF: interfaces.append(attributes.uint32())
            case RTA_TABLE: self.table = attributes.uint32()
            case RTA_METRICS:
                var metrics = attributes.nested()
                while metrics.next() { if Int(metrics.type) == RTAX_MTU { mtu = metrics.uint32() } }
                attributes.check(metrics)
            case RTA_MULTIPATH:
                // A row of struct rtnexthop, each with its attributes: length, flags, hops, interface.
                var offset = 0
                while offset < attributes.count {
                    let length = Int(attributes.load(at: offset, as: UInt16.self))
                    interfaces.append(attributes.load(at: offset + 4, as: UInt32.self))
                    guard length >= MemoryLayout<rtnexthop>.size else {
                        attributes.reject()
                        break
                    }
                    offset += (length + 3) & ~3
                }
            default: break
            }
        }
        return !attributes.isMalformed
    }
}

/// All links of a network namespace.
func readLinks(_ channel: Channel) throws(DataplaneError) -> [LiveLink] {
    var reading = LinkList()
    do throws(NetlinkError) {
        try channel.dump(UInt16(RTM_GETLINK), into: &reading) { $0.putLinkHeader() }
    } catch {
        throw DataplaneError(error, Request(.readLink, "read links"))
    }
    return reading.links
}

private struct LinkList: MessageConsumer {
    var links: [LiveLink] = []

    mutating func reset() { links = [] }

    mutating func take(_ message: Message) -> Bool {
        var reading = LinkReading()
        guard reading.take(message) else { return false }
        if let link = reading.link { links.append(link) }
        return true
    }
}
