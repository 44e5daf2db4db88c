// Reads routes: ours by protocol and interface, or by the mesh's own metric; others as far as somebody asks.

import CLinux
import Glibc
import Netlink
import WeftModel
import WeftPlan

/// A route as the kernel tells of it, with what decides whose it is.
struct LiveRoute: Hashable {
    var route: Route
    /// RTPROT_*
    var proto: UInt8
    /// RTN_*
    var type: UInt8
    /// 0 where it has none, or several.
    var interface: UInt32
    /// The type of service that it is for; 0: any.
    var service: UInt8 = 0
}

extension LiveRoute {
    /// Whether this is another mesh's range that shares addresses with a range of ours.
    func isRange(overlapping range: Route.Key) -> Bool {
        proto == MeshIdentity.protocolNumber && type == UInt8(RTN_UNREACHABLE)
            && MeshIdentity.isUnreachableMetric(route.metric) && route.table == range.table
            && route.prefix.overlaps(range.prefix)
    }
}

/// Takes routes. What is ours goes into `ours`, in the kernel's order; `others` gets what `keepsOthers` says.
struct RouteReading: MessageConsumer {
    enum Others {
        case none
        /// On our interface, made neither by us nor by the kernel.
        case onInterface
        /// Every one that is not ours.
        case all
        /// Of these keys, wherever they lead; and all that weft has made for other meshes.
        case at(Set<Route.Key>)
    }

    /// Of our link; 0 where there is none.
    let interface: UInt32
    let unreachableMetric: UInt32
    let keeps: Others
    private let ignoresKernelRoutes: Bool
    var ours: [Route] = []
    var others: [LiveRoute] = []
    /// Where this answer begins in both: several dumps fill one reading, and each may have to begin anew.
    private var oursBase = 0
    private var othersBase = 0

    init(interface: UInt32, unreachableMetric: UInt32, keeps: Others) {
        self.interface = interface
        self.unreachableMetric = unreachableMetric
        self.keeps = keeps
        if case .onInterface = keeps { ignoresKernelRoutes = true } else { ignoresKernelRoutes = false }
    }

    /// The next dump's routes come after those that were taken.
    mutating func beginDump() {
        oursBase = ours.count
        othersBase = others.count
    }

    mutating func reset() {
        ours.removeLast(ours.count - oursBase)
        others.removeLast(others.count - othersBase)
    }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(RTM_NEWROUTE) else { return true }
        let header = message.payload
        guard header.byteCount >= MemoryLayout<rtmsg>.size,
            let words = header.load(at: 0, as: UInt64.self).map({ UInt64(littleEndian: $0) }),
            let flags = header.load(at: 8, as: UInt32.self)
        else { return false }
        // struct rtmsg begins with eight bytes: family, two lengths, type of service, table, protocol, scope, type.
        func byte(_ index: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: words >> (index * 8)) }
        let (length, service, proto, scope, type) = (byte(1), byte(3), byte(5), byte(6), byte(7))
        guard let family = IPAddress.Family(number: byte(0)), flags & UInt32(RTM_F_CLONED) == 0 else { return true }
        // The kernel's own local and connected routes are nobody's business, and never stand in the way.
        if ignoresKernelRoutes, proto == UInt8(RTPROT_KERNEL) { return true }

        var table = UInt32(byte(4))
        var metric: UInt32 = 0
        var destination = family == .v4 ? IPAddress(v4: 0) : IPAddress(v6: 0, 0)
        var interface: UInt32 = 0
        var source: IPAddress?
        var isAltered = isAltered(family, type, scope)
        var attributes = Attributes(message.payload, from: MemoryLayout<rtmsg>.size)
        while attributes.next() {
            switch rtattr_type_t(rawValue: UInt32(attributes.type)) {
            case RTA_DST: destination = attributes.address(family)
            case RTA_OIF: interface = attributes.uint32()
            case RTA_PRIORITY: metric = attributes.uint32()
            case RTA_PREFSRC: source = attributes.address(family)
            case RTA_TABLE: table = attributes.uint32()
            // What we never set, and the kernel never adds by itself. Others are left out, so that one that a newer kernel
            // invents is not a change for ever.
            case RTA_GATEWAY, RTA_VIA, RTA_METRICS, RTA_MULTIPATH, RTA_NH_ID, RTA_FLOW, RTA_SRC, RTA_ENCAP, RTA_NEWDST,
                RTA_TTL_PROPAGATE:
                isAltered = true
            // ICMPV6_ROUTER_PREF_MEDIUM is 0, and every IPv6 route has one.
            case RTA_PREF: if attributes.uint8() != 0 { isAltered = true }
            // rta_expires of struct rta_cacheinfo.
            case RTA_CACHEINFO: if attributes.load(at: 8, as: Int32.self) != 0 { isAltered = true }
            default: break
            }
        }
        if attributes.isMalformed { return false }
        let isOurs = isOurs(proto, type, interface, metric)
        var route = Route(
            IPPrefix(canonical: destination, length: length), table: table, metric: metric,
            target: type == UInt8(RTN_UNREACHABLE) ? .unreachable : .interface, source: source)
        route.isAltered = isAltered
        if isOurs, service == 0 {
            ours.append(route)
        } else {
            takeOther(
                LiveRoute(route: route, proto: proto, type: type, interface: interface, service: service),
                isOurs: isOurs, service: service)
        }
        return true
    }

    /// Whether the header says what ours never does: another type, or another scope than we give to IPv4 routes; IPv6 has
    /// one scope only.
    @inline(__always)
    private func isAltered(_ family: IPAddress.Family, _ type: UInt8, _ scope: UInt8) -> Bool {
        if type == UInt8(RTN_UNREACHABLE) { return false }
        return type != UInt8(RTN_UNICAST) || family == .v4 && scope != UInt8(RT_SCOPE_LINK.rawValue)
    }

    @inline(__always)
    private func isOurs(_ proto: UInt8, _ type: UInt8, _ interface: UInt32, _ metric: UInt32) -> Bool {
        guard proto == MeshIdentity.protocolNumber else { return false }
        if type == UInt8(RTN_UNREACHABLE) { return metric == unreachableMetric }
        return interface == self.interface && interface != 0
    }

    private mutating func takeOther(_ route: LiveRoute, isOurs: Bool, service: UInt8) {
        switch keeps {
        case .none: break
        case .onInterface:
            if route.interface == interface, interface != 0 { others.append(route) }
        case .all:
            if !isOurs { others.append(route) }
        case .at(let keys):
            // A route for one type of service stands beside ours, not in its way.
            guard !isOurs, service == 0 else { return }
            if route.proto == MeshIdentity.protocolNumber || keys.contains(route.route.key) { others.append(route) }
        }
    }
}
