// How large a packet may be on its way to the endpoints, asked of the routes that lead there.

import CLinux
import Glibc
package import Netlink
package import WeftModel
package import WeftPlan

/// Looks up routes as the tunnel's own packets will take them.
package struct PathMTU {
    /// What WireGuard and the headers around it add to a packet at most: over IPv6.
    package static let overhead: UInt32 = 80

    private let channel: Channel
    private let links: [UInt32: LiveLink]

    /// Opens a socket in the calling thread's network namespace, and reads its links.
    package init(
        transports: TransportFactory = { (bus) throws(Errno) in try Socket(bus) }
    ) throws(DataplaneError) {
        do throws(Errno) {
            channel = Channel(try transports(.route))
        } catch {
            throw DataplaneError(error, Request(.openSocket, "open a netlink socket"))
        }
        var table: [UInt32: LiveLink] = [:]
        for link in try readLinks(channel) { table[link.index] = link }
        links = table
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
        var answer = RouteAnswer()
        do throws(NetlinkError) {
            try channel.get(UInt16(RTM_GETROUTE), into: &answer) { encoder in
                // The route itself, and not what the kernel has learnt of the path for the next ten minutes: the MTU would
                // go up and down with that.
                encoder.putRouteHeader(
                    family: address.family.number, length: UInt8(address.family.bitWidth),
                    flags: UInt32(RTM_F_FIB_MATCH))
                encoder.attribute(UInt16(RTA_DST), address)
                if mark != 0 { encoder.attribute(UInt16(RTA_MARK), mark) }
            }
        } catch {
            // What has no route is refused in as many ways as there are kinds of routes.
            if case .refused = error { return nil }
            throw DataplaneError(error, Request(.readRoutes, "look up the route to \(address)"))
        }
        guard answer.type == UInt8(RTN_UNICAST) else { return nil }
        var smallest = answer.mtu == 0 ? nil : answer.mtu
        for interface in answer.interfaces {
            guard let link = links[interface], !isOwn(link, excluded) else { return nil }
            smallest = min(smallest ?? link.mtu, link.mtu)
        }
        return answer.interfaces.isEmpty ? nil : smallest
    }

    private func isOwn(_ link: LiveLink, _ excluded: String) -> Bool {
        link.name == excluded || link.alias?.hasPrefix(Link.alias(mesh: "")) == true
    }
}

/// Takes the answer to RTM_GETROUTE for one address.
private struct RouteAnswer: MessageConsumer {
    /// RTN_*
    var type: UInt8 = 0
    /// The route's own MTU (RTAX_MTU); 0 where it has none.
    var mtu: UInt32 = 0
    /// Several where the route has several ways to go.
    var interfaces: [UInt32] = []

    mutating func reset() { self = RouteAnswer() }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(RTM_NEWROUTE) else { return true }
        guard let type = message.payload.load(at: 7, as: UInt8.self) else { return false }
        self.type = type
        var attributes = Attributes(message.payload, from: MemoryLayout<rtmsg>.size)
        while attributes.next() {
            switch rtattr_type_t(rawValue: UInt32(attributes.type)) {
            case RTA_OIF: interfaces.append(attributes.uint32())
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
