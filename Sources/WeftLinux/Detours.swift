// Routes and rules of others that take packets which are meant for the mesh, without standing in the way of its own.

import CLinux
import Glibc
import Netlink
import WeftModel
import WeftPlan

/// Finds what leads packets past the mesh's routes, as the kernel decides: rules by their priority, and in a table the
/// longest prefix, then the lowest metric.
struct Detours {
    let channel: Channel
    let links: Links
    let mesh: MeshIdentity
    /// Of our link; 0 where there is none.
    let interface: UInt32
    private let wanted: WantedPrefixes
    private let ranges: [Route.Key]
    /// Families of which everything goes to an exit.
    private let exits: Set<IPAddress.Family>

    /// - Parameters:
    ///   - routes: the mesh's own, as they are wanted.
    ///   - rules: those of its full tunnel.
    init(
        channel: Channel, links: Links, mesh: MeshIdentity, interface: UInt32, routes: [Route], rules: [PolicyRule]
    ) {
        (self.channel, self.links, self.mesh, self.interface) = (channel, links, mesh, interface)
        // Into any other table packets come by others' rules, or by the full tunnel's, which is looked at by itself.
        wanted = WantedPrefixes(
            routes.lazy.filter {
                $0.target == .interface && $0.table == Route.mainTable && !$0.prefix.isDefault
            }.map(\.prefix))
        exits = Set(rules.filter { $0.table != nil }.map(\.key.family))
        ranges = routes.filter { $0.target == .unreachable && $0.table == Route.mainTable }.map(\.key)
    }

    /// What was found, by rule in the kernel's order.
    func read() throws(DataplaneError) -> [ForeignObject] {
        var past: [ForeignObject] = []
        for family in IPAddress.Family.allCases where exits.contains(family) { past += try pastExit(family) }
        if wanted.isEmpty, ranges.isEmpty { return past }
        let rules = try PolicyRules(channel: channel, mesh: mesh, wanted: []).dump()
        var found = past
        for family in IPAddress.Family.allCases
        where wanted.has(family) || ranges.contains(where: { $0.prefix.family == family }) {
            for rule in rules where rule.family == family && rule.leadsAll {
                let table = rule.table
                if table == Route.mainTable {
                    if rule.destination != nil { continue }
                    found += try beside(family)
                    break
                }
                if table == UInt32(RT_TABLE_LOCAL.rawValue) {
                    found += try local(family)
                } else if let object = try taken(by: rule) {
                    found.append(object)
                }
            }
        }
        return found
    }

    /// Those in the mesh's own table.
    private func beside(_ family: IPAddress.Family) throws(DataplaneError) -> [ForeignObject] {
        let others = try routes(family, Route.mainTable)
        let takers = others.filter { other in
            // The networks that the host is connected to are told of with the topology.
            guard other.takesPackets, other.proto != UInt8(RTPROT_KERNEL),
                let around = wanted.longest(around: other.route.prefix)
            else { return false }
            return around.length < other.route.prefix.length
                || other.route.metric < Route.defaultMetric(family)
        }
        let nested = others.filter { other in
            ranges.contains { other.isRange(overlapping: $0) && $0.prefix != other.route.prefix }
        }
        let shared = try nested.isEmpty ? [] : routeReader.overlaps(nested)
        return shared
            + listed(takers) { other in
                "It takes the packets to \(other.route.prefix), which are meant for the mesh: remove it, or take these "
                    + "addresses out of the `allowedIPs` of the node that has them."
            }
    }

    /// Wide routes in the main table, which the full tunnel leaves to it, but for the default route: halves of one, and all
    /// that is public.
    private func pastExit(_ family: IPAddress.Family) throws(DataplaneError) -> [ForeignObject] {
        let wide = try routes(family, Route.mainTable).filter { other in
            other.takesPackets && (1...4).contains(other.route.prefix.length) && !other.route.prefix.address.isMulticast
        }
        return listed(wide) { other in
            "It takes what goes to \(other.route.prefix) past the exit, as a route of the main table that is no default route: "
                + "remove it, or keep it from being made (OpenVPN: without `redirect-gateway`; wg-quick: `Table = off`)."
        }
    }

    /// Peers' addresses that are this host's own.
    private func local(_ family: IPAddress.Family) throws(DataplaneError) -> [ForeignObject] {
        let own = try routes(family, UInt32(RT_TABLE_LOCAL.rawValue)).filter { other in
            other.type == UInt8(RTN_LOCAL) && Int(other.route.prefix.length) == family.bitWidth
                && wanted.contains(other.route.prefix)
        }
        return listed(own) { other in
            "\(other.route.prefix.address) is this host's own, and another node's in the mesh: packets to that node stay here. "
                + "Take the address off this host, or give the node another one."
        }
    }

    /// A rule that stands before the one for the mesh's table.
    private func taken(by rule: LiveRule) throws(DataplaneError) -> ForeignObject? {
        // A mesh's own rules, and another tunnel's, are told of with the full tunnel.
        if rule.proto == MeshIdentity.protocolNumber { return nil }
        let limit = rule.destination
        let takers = try routes(rule.family, rule.table).lazy.compactMap { other -> (LiveRoute, IPPrefix)? in
            guard other.takesPackets, rule.suppressedLength.map({ $0 < UInt32(other.route.prefix.length) }) != false
            else { return nil }
            var shared = other.route.prefix
            if let limit {
                guard limit.overlaps(shared) else { return nil }
                if limit.length > shared.length { shared = limit }
            }
            return wanted.first(overlapping: shared).map { (other, $0.length > shared.length ? $0 : shared) }
        }
        guard let (route, packets) = takers.first else { return nil }
        var names: [UInt32: String] = [:]
        return ForeignObject(
            kind: "rule", description: rule.description, relation: .hinders,
            remedy:
                "It stands before the main table, and its own has \(routeReader.describe(route, &names)): packets to "
                + "\(packets), which are meant for the mesh, go there. Give it a priority after 32766, or make it for the "
                + "packets that it is meant for (`from`, `fwmark`).")
    }

    /// The first few by themselves, and how many more there are.
    private func listed(_ routes: [LiveRoute], remedy: (LiveRoute) -> String) -> [ForeignObject] {
        var names: [UInt32: String] = [:]
        let shown = routes.count > Self.limit ? Self.limit - 1 : routes.count
        var objects = routes.prefix(shown).map { other in
            ForeignObject(
                kind: "route", description: routeReader.describe(other, &names), relation: .hinders,
                remedy: remedy(other))
        }
        if routes.count > shown {
            objects.append(
                ForeignObject(
                    kind: "route",
                    description: routeReader.describe(routes[shown], &names) + " and \(routes.count - shown - 1) more",
                    relation: .hinders, remedy: remedy(routes[shown])))
        }
        return objects
    }

    private static let limit = 8

    private var routeReader: Routes { Routes(channel: channel, links: links, mesh: mesh, interface: interface) }

    /// Others' routes of a table, but for those out of the mesh's interface.
    private func routes(_ family: IPAddress.Family, _ table: UInt32) throws(DataplaneError) -> [LiveRoute] {
        try routeReader.others(family, inTable: table).filter { $0.interface != interface || interface == 0 }
    }
}

extension LiveRoute {
    /// Whether the kernel goes no further than this route.
    fileprivate var takesPackets: Bool {
        // One for a type of service takes no others.
        if service != 0 { return false }
        return switch Int(type) {
        case RTN_UNICAST, RTN_LOCAL, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT: true
        default: false
        }
    }
}

extension LiveRule {
    /// Whether it looks into a table for all packets without a mark, as far as their destination goes.
    fileprivate var leadsAll: Bool {
        isLookup && (mask == 0 || mark != 0) && isInverted == (mask != 0)
            && (selectors.isEmpty || selectors.count == 1 && destination != nil && !isInverted)
    }
}

/// Prefixes that are asked what is around and within others.
private struct WantedPrefixes {
    private let all: Set<IPPrefix>
    /// By address, then length: what lies within a prefix stands together.
    private let sorted: [IPPrefix]
    /// Longest first: few are in use.
    private let lengths: [IPAddress.Family: [UInt8]]

    init(_ prefixes: some Sequence<IPPrefix>) {
        all = Set(prefixes)
        sorted = all.sorted()
        var lengths: [IPAddress.Family: Set<UInt8>] = [:]
        for prefix in all { lengths[prefix.family, default: []].insert(prefix.length) }
        self.lengths = lengths.mapValues { $0.sorted(by: >) }
    }

    var isEmpty: Bool { all.isEmpty }

    func has(_ family: IPAddress.Family) -> Bool { lengths[family] != nil }

    func contains(_ prefix: IPPrefix) -> Bool { all.contains(prefix) }

    /// The longest that contains a prefix, or is it.
    func longest(around prefix: IPPrefix) -> IPPrefix? {
        for length in lengths[prefix.family] ?? [] where length <= prefix.length {
            let around = IPPrefix(prefix.address, length: Int(length))
            if all.contains(around) { return around }
        }
        return nil
    }

    /// One that contains a prefix or lies within it.
    func first(overlapping prefix: IPPrefix) -> IPPrefix? {
        if let around = longest(around: prefix) { return around }
        var (low, high) = (0, sorted.count)
        while low < high {
            let middle = (low + high) / 2
            if sorted[middle] < prefix { low = middle + 1 } else { high = middle }
        }
        return low < sorted.count && prefix.contains(sorted[low]) ? sorted[low] : nil
    }
}
