// Routes: added only where nothing stands, replaced only where ours was read, removed only with our protocol.

import CLinux
import Glibc
import Netlink
import WeftModel
import WeftPlan

/// Requests about the routes of one mesh.
struct Routes {
    let channel: Channel
    let links: Links
    let mesh: MeshIdentity
    /// Of our link; 0 where there is none.
    let interface: UInt32

    // MARK: Reading

    /// Reads our routes, and those of others on our interface.
    func read(expecting count: Int) throws(DataplaneError) -> RouteReading {
        var reading = RouteReading(
            interface: interface, unreachableMetric: mesh.unreachableMetric, keeps: .onInterface)
        reading.ours.reserveCapacity(count)
        for family in IPAddress.Family.allCases {
            // The kernel filters, so that a host's other million routes are not ours to wade through. Ours lead out of
            // our interface, or are unreachable; no one filter says both.
            if interface != 0 {
                try dump(into: &reading) { encoder in
                    encoder.putRouteHeader(family: family.number)
                    encoder.attribute(UInt16(RTA_OIF), interface)
                }
            }
            try dump(into: &reading) { encoder in
                encoder.putRouteHeader(
                    family: family.number, proto: MeshIdentity.protocolNumber, type: UInt8(RTN_UNREACHABLE))
            }
        }
        return reading
    }

    /// Which of `keys` are taken by routes that are not ours, and which by ours; and the routes of other meshes.
    func find(_ keys: [Route.Key]) throws(DataplaneError) -> RouteReading {
        var reading = RouteReading(
            interface: interface, unreachableMetric: mesh.unreachableMetric,
            keeps: .at(Set(keys)))
        for family in IPAddress.Family.allCases {
            let tables = Set(keys.lazy.filter { $0.prefix.family == family }.map(\.table))
            for table in tables.sorted() {
                try dump(into: &reading) { $0.putRouteHeader(family: family.number, table: table) }
            }
        }
        return reading
    }

    private func dump(
        into reading: inout RouteReading, _ body: (inout Encoder) -> Void
    ) throws(DataplaneError) {
        reading.beginDump()
        do throws(NetlinkError) {
            try channel.dump(UInt16(RTM_GETROUTE), into: &reading, body)
        } catch {
            // A table without routes does not exist.
            if case .refused(let errno, _) = error, errno.rawValue == ENOENT { return reading.reset() }
            throw DataplaneError(error, Request(.readRoutes, "read routes"))
        }
    }

    /// The routes of others at `keys`, as a plan shows them; of another mesh on this host, what both would have.
    ///
    /// - Parameter addresses: which this host is to have in the mesh.
    func obstacles(
        at keys: [Route.Key], addresses: [IPPrefix] = []
    ) throws(DataplaneError) -> [ForeignObject] {
        let others = try find(keys).others
        if others.isEmpty { return [] }
        var names: [UInt32: String] = [:]
        let ranges = ranges(among: keys)
        let taken = Set(keys)
        // Whatever the metrics: one of two meshes would get the packets of both.
        var places = Set(keys.lazy.map { Route.Key($0.prefix, table: $0.table, metric: 0) })
        for range in ranges { places.formUnion(addresses.map { Route.Key($0, table: range.table, metric: 0) }) }
        let meshes = try ownMeshes(channel)
        var shared: [MeshIdentity: Set<IPPrefix>] = [:]
        var around: Set<MeshIdentity> = []
        var obstacles: [ForeignObject] = []
        for found in others {
            let key = found.route.key
            let range = ranges.first { found.isRange(overlapping: $0) }
            let owner = owner(of: found, among: meshes, &names)
            if let owner, places.contains(Route.Key(key.prefix, table: key.table, metric: 0)) {
                shared[owner, default: []].insert(key.prefix)
            } else if let range, range.prefix != key.prefix {
                // Ranges within each other stand beside each other, and each refuses what no node has of its own.
                obstacles.append(overlap(found, owner, &names))
                if let owner { around.insert(owner) }
            } else if range != nil || taken.contains(key) {
                obstacles.append(
                    ForeignObject(
                        kind: "route", description: describe(found, &names), relation: .blocksRoute(range ?? key),
                        remedy: range != nil
                            ? Self.remedy(forOverlapWith: nil)
                            : "Remove it, or let the mesh's routes stand in a `table` of their own."))
            }
        }
        // What is one mesh's own address cannot be anybody's in the other.
        let local = try around.isEmpty ? [] : local()
        let own = Set(keys.lazy.map(\.prefix)).union(addresses)
        for found in local where own.contains(found.route.prefix) {
            let name = name(of: found.interface, &names)
            guard let owner = around.first(where: { $0.interface == name }) else { continue }
            shared[owner, default: []].insert(found.route.prefix)
        }
        let both = shared.sorted { $0.key.interface < $1.key.interface }.map { owner, prefixes in
            ForeignObject(
                networks: prefixes.sorted { ($0.length, $0) < ($1.length, $1) }, of: owner, and: mesh)
        }
        return both + obstacles
    }

    /// This host's own addresses.
    private func local() throws(DataplaneError) -> [LiveRoute] {
        var found: [LiveRoute] = []
        for family in IPAddress.Family.allCases {
            found += try others(family, inTable: UInt32(RT_TABLE_LOCAL.rawValue))
        }
        return found.filter { $0.type == UInt8(RTN_LOCAL) }
    }

    /// Ranges of other meshes that have addresses of this one's.
    func overlaps(_ ranges: [LiveRoute]) throws(DataplaneError) -> [ForeignObject] {
        let meshes = try ownMeshes(channel)
        var names: [UInt32: String] = [:]
        return ranges.map { overlap($0, owner(of: $0, among: meshes, &names), &names) }
    }

    private func overlap(
        _ found: LiveRoute, _ owner: MeshIdentity?, _ names: inout [UInt32: String]
    ) -> ForeignObject {
        ForeignObject(
            kind: "route", description: describe(found, &names), relation: .hinders,
            remedy: Self.remedy(forOverlapWith: owner))
    }

    private static func remedy(forOverlapWith owner: MeshIdentity?) -> String {
        "Another mesh on this host has these addresses\(owner.map { " (\($0.phrase))" } ?? ""): give one of the two "
            + "another range, or a `table` of its own."
    }

    /// The mesh whose route it is; nil where it is none of weft's, or one of a mesh that is gone.
    private func owner(
        of found: LiveRoute, among meshes: [MeshIdentity], _ names: inout [UInt32: String]
    ) -> MeshIdentity? {
        guard found.proto == MeshIdentity.protocolNumber else { return nil }
        if found.type == UInt8(RTN_UNREACHABLE) { return meshes.first { $0.unreachableMetric == found.route.metric } }
        let name = name(of: found.interface, &names)
        return meshes.first { $0.interface == name }
    }

    /// Routes that are not ours in a table that is wanted for the tunnel alone; one object for all of them.
    func intruders(inTable table: UInt32) throws(DataplaneError) -> ForeignObject? {
        var others: [LiveRoute] = []
        for family in IPAddress.Family.allCases { others += try self.others(family, inTable: table) }
        guard let first = others.first else { return nil }
        var names: [UInt32: String] = [:]
        let owner = owner(of: first, among: try ownMeshes(channel), &names)
        let more = others.count > 1 ? " and \(others.count - 1) more" : ""
        return ForeignObject(
            kind: "route", description: describe(first, &names) + more, relation: .takesNumber,
            remedy: "The table \(table) is to hold this mesh's tunnel alone: set another `table:` for this node, or "
                + (owner.map { "for that of \($0.phrase), whose routes they are." } ?? "take these routes away."))
    }

    /// Those of a table that are not ours.
    func others(_ family: IPAddress.Family, inTable table: UInt32) throws(DataplaneError) -> [LiveRoute] {
        var reading = RouteReading(interface: interface, unreachableMetric: mesh.unreachableMetric, keeps: .all)
        try dump(into: &reading) { $0.putRouteHeader(family: family.number, table: table) }
        return reading.others
    }

    private func ranges(among keys: [Route.Key]) -> [Route.Key] {
        keys.filter { $0.metric == mesh.unreachableMetric }
    }

    /// As `ip route` prints it.
    func describe(_ found: LiveRoute, _ names: inout [UInt32: String]) -> String {
        var text = Self.typeName(found.type).map { "\($0) " } ?? ""
        text += found.route.prefix.isDefault ? "default" : found.route.prefix.description
        if found.interface != 0 {
            text += " dev \(name(of: found.interface, &names))"
        }
        if found.route.table != Route.mainTable { text += " table \(found.route.table)" }
        text += " proto \(Self.protocolName(found.proto))"
        if found.route.metric != 0 { text += " metric \(found.route.metric)" }
        return text
    }

    private func name(of interface: UInt32, _ names: inout [UInt32: String]) -> String {
        let name = names[interface] ?? links.name(of: interface)
        names[interface] = name
        return name
    }

    private static func typeName(_ type: UInt8) -> String? {
        switch Int(type) {
        case RTN_UNICAST: nil
        case RTN_UNREACHABLE: "unreachable"
        case RTN_BLACKHOLE: "blackhole"
        case RTN_PROHIBIT: "prohibit"
        case RTN_LOCAL: "local"
        case RTN_THROW: "throw"
        default: "type \(type)"
        }
    }

    /// As `ip` prints the protocol of a route or a rule.
    static func protocolName(_ proto: UInt8) -> String {
        switch Int32(proto) {
        case RTPROT_UNSPEC: "unspec"
        case RTPROT_KERNEL: "kernel"
        case RTPROT_BOOT: "boot"
        case RTPROT_STATIC: "static"
        case RTPROT_RA: "ra"
        case RTPROT_DHCP: "dhcp"
        case RTPROT_BIRD: "bird"
        case RTPROT_ZEBRA: "zebra"
        case RTPROT_BGP: "bgp"
        case RTPROT_OSPF: "ospf"
        default: String(proto)
        }
    }

    // MARK: Changing

    func perform(_ operations: [RouteOperation]) -> [Outcome] {
        var outcomes = [Outcome](repeating: .done, count: operations.count)
        // What leads out of our link goes with it, and cannot come without it.
        var sendable: [Int] = []
        for (index, operation) in operations.enumerated() {
            if operation.route.target == .unreachable || interface != 0 {
                sendable.append(index)
            } else if operation.action == .remove {
                outcomes[index] = .already
            } else {
                outcomes[index] = .failed(DataplaneError(Errno(ENODEV), request(operation)))
            }
        }
        let failures = channel.batch(sendable.count) { index, encoder in
            put(operations[sendable[index]], &encoder)
        }
        var taken: [Int] = []
        for (position, error) in failures {
            let index = sendable[position]
            outcomes[index] = outcome(of: operations[index], error)
            if operations[index].action == .add, error.errno?.rawValue == EEXIST { taken.append(index) }
        }
        if !taken.isEmpty { judge(taken, operations, &outcomes) }
        return outcomes
    }

    private func outcome(of operation: RouteOperation, _ error: NetlinkError) -> Outcome {
        let errno = error.errno?.rawValue
        if operation.action == .remove, errno == ESRCH || errno == ENOENT || errno == ENODEV { return .already }
        return .failed(DataplaneError(error, request(operation)))
    }

    /// A route that was to be added and has its key taken: by the very same one, which is success, or by another.
    private func judge(_ taken: [Int], _ operations: [RouteOperation], _ outcomes: inout [Outcome]) {
        do throws(DataplaneError) {
            let found = try find(taken.map { operations[$0].route.key })
            let ours = Dictionary(found.ours.map { ($0.key, $0) }) { first, _ in first }
            let others = Dictionary(found.others.map { ($0.route.key, $0) }) { first, _ in first }
            var names: [UInt32: String] = [:]
            let meshes = others.isEmpty ? [] : try ownMeshes(channel)
            for index in taken {
                let route = operations[index].route
                if let other = others[route.key], case .failed(var error) = outcomes[index] {
                    let mesh = owner(of: other, among: meshes, &names)
                    let remedy =
                        mesh.map { "\($0.phrase) has these addresses too: give one of the two another range" }
                        ?? "remove it, or set another `table`"
                    error.message = "\(describe(other, &names)) stands there: \(remedy)"
                    outcomes[index] = .failed(error)
                } else if let own = ours[route.key], route.isSatisfied(by: own) {
                    outcomes[index] = .already
                }
            }
        } catch {
            // What stands there could not be read: the first answer holds.
        }
    }

    private func put(_ operation: RouteOperation, _ encoder: inout Encoder) {
        switch operation {
        case .add(let route, _):
            encoder.begin(UInt16(RTM_NEWROUTE), flags: UInt16(NLM_F_CREATE | NLM_F_EXCL))
            put(route, scope: scope(of: route), &encoder)
        case .replace(_, let route, _):
            encoder.begin(UInt16(RTM_NEWROUTE), flags: UInt16(NLM_F_REPLACE))
            put(route, scope: scope(of: route), &encoder)
        case .remove(let route, _):
            encoder.begin(UInt16(RTM_DELROUTE), flags: 0)
            // The protocol makes a mismatch ESRCH, not somebody else's route; scope and source are left open.
            var bare = route
            bare.source = nil
            // So is the type of one that was changed by hand: it may be any.
            put(
                bare, scope: UInt8(RT_SCOPE_NOWHERE.rawValue), type: route.isAltered ? UInt8(RTN_UNSPEC) : nil,
                &encoder)
        }
        encoder.end()
    }

    private func put(_ route: Route, scope: UInt8, type: UInt8? = nil, _ encoder: inout Encoder) {
        let type = type ?? UInt8(route.target == .unreachable ? RTN_UNREACHABLE : RTN_UNICAST)
        encoder.putRouteHeader(
            family: route.prefix.family.number, length: route.prefix.length, table: route.table,
            proto: MeshIdentity.protocolNumber, scope: scope, type: type)
        encoder.attribute(UInt16(RTA_DST), route.prefix.address)
        if route.metric != 0 { encoder.attribute(UInt16(RTA_PRIORITY), route.metric) }
        if route.target == .interface { encoder.attribute(UInt16(RTA_OIF), interface) }
        if let source = route.source { encoder.attribute(UInt16(RTA_PREFSRC), source) }
    }

    /// IPv4 routes without a gateway have link scope; all others are universal.
    private func scope(of route: Route) -> UInt8 {
        let isDevice = route.prefix.family == .v4 && route.target == .interface
        return UInt8(isDevice ? RT_SCOPE_LINK.rawValue : RT_SCOPE_UNIVERSE.rawValue)
    }

    private func request(_ operation: RouteOperation) -> Request {
        let route = operation.route
        let place = route.target == .unreachable ? "" : " dev \(mesh.interface)"
        let text = "\(route.target == .unreachable ? "unreachable " : "")\(route.prefix)\(place)"
        return switch operation {
        case .add: Request(.addRoute, "add route \(text)")
        case .replace: Request(.replaceRoute, "replace route \(text)")
        case .remove: Request(.removeRoute, "remove route \(text)")
        }
    }
}
