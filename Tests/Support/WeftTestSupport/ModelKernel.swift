// A model of the kernel below `Dataplane`, with the side effects of the real one that bite, and with faults on demand.
// The same scenarios run on real kernels, which keeps this model honest.

package import WeftModel
package import WeftPlan

/// A host's network in memory.
package struct ModelKernel: Dataplane {
    package struct ModelLink: Sendable {
        package var alias: String
        package var mtu: UInt32 = 1420
        package var isUp = false
        package var device = Device(privateKey: nil, publicKey: nil, listenPort: nil)
        package var peers: [Peer] = []
        package var statistics: [PublicKey: PeerStatistics] = [:]
        /// Addresses, each with whether it carries Weft's protocol number.
        package var addresses: [(address: InterfaceAddress, isOurs: Bool)] = []

        package init(alias: String, mtu: UInt32 = 1420) {
            self.alias = alias
            self.mtu = mtu
        }
    }

    package struct ModelRoute: Sendable {
        package var route: Route
        /// Nil for `unreachable`.
        package var interface: String?
        package var isOurs: Bool

        package init(route: Route, interface: String?, isOurs: Bool) {
            self.route = route
            self.interface = interface
            self.isOurs = isOurs
        }
    }

    package var links: [String: ModelLink] = [:]
    package var routes: [ModelRoute] = []
    package var sysctls: [String: String] = [
        "net/ipv4/conf/all/send_redirects": "1", "net/ipv4/conf/all/src_valid_mark": "0", "net/ipv4/ip_forward": "0",
        "net/ipv6/conf/all/forwarding": "0",
    ]
    package var sysctlMemory = SysctlMemory()
    /// Paths that cannot be written.
    package var fixedSysctls: Set<String> = []
    /// By interface.
    package var rules: [String: [PolicyRule]] = [:]
    /// By table.
    package var firewalls: [String: Firewall] = [:]
    /// By interface.
    package var resolvers: [String: ResolverSetting] = [:]
    package var busyPorts: Set<UInt16> = []
    package var now = UnixTime(seconds: 1_800_000_000)

    /// How many mutations were asked for.
    package private(set) var mutations = 0
    /// Every message's text, for tests that read the order.
    package private(set) var log: [String] = []
    /// Interfaces that a program of weft's is behind: whose they are does not hang on their alias.
    package var programs: Set<String> = []
    /// Returns an error for the mutation of this number to fail with.
    package var fault: @Sendable (Int, Operation) -> DataplaneError? = { _, _ in nil }
    /// Fails the observation of this number.
    package var observationFault: @Sendable (Int) -> DataplaneError? = { _ in nil }
    package private(set) var observations = 0
    /// After so many mutations the process is gone: nothing more happens. Nil: never.
    package var killAfter: Int?
    package var isKilled: Bool { killAfter.map { mutations >= $0 } ?? false }
    /// Prefixes that must at every moment be at some peer.
    package var guarded: Set<IPPrefix> = []
    /// Guarded prefixes that were at no peer at some moment.
    package private(set) var lost: Set<IPPrefix> = []

    package init() {}

    // MARK: Reading

    package mutating func observe(_ mesh: MeshIdentity, _ interests: Interests) throws(DataplaneError) -> Observation {
        let paths = interests.sysctls
        observations += 1
        if let error = observationFault(observations) { throw error }
        var observation = Observation(time: now)
        if links[mesh.reservedName] != nil { observation.halfMadeLink = mesh.reservedName }
        let claimed = (sysctlMemory.claims[mesh.interface] ?? []).subtracting(paths).sorted()
        let companions = sysctlMemory.companions(ofClaimsBy: mesh.interface)
        observation.state.sysctls = (paths + claimed + companions).compactMap { path in
            sysctls[path].map { Sysctl(path, $0) }
        }
        observation.sysctlMemory = sysctlMemory
        observation.fixedSysctls = observation.state.sysctls.filter { fixedSysctls.contains($0.path) }
        observation.state.routes = routes.filter { isOurs($0, mesh) }.map(\.route)
        observation.state.rules = rules[mesh.interface] ?? []
        observation.state.firewall = firewalls[mesh.firewallTable]
        observation.state.resolver = resolvers[mesh.interface]
        guard let link = links[mesh.interface] else { return observation }
        guard link.alias == mesh.alias || !link.alias.hasPrefix("weft:") && programs.contains(mesh.interface) else {
            observation.foreign.append(
                ForeignObject(
                    kind: "interface", description: mesh.interface, relation: .blocksLink,
                    bearsMark: link.alias.hasPrefix("weft:")))
            return observation
        }
        observation.state.link = Link(name: mesh.interface, mtu: link.mtu, isUp: link.isUp, alias: link.alias)
        observation.state.device = link.device
        observation.state.peers = link.peers
        observation.statistics = link.peers.map { link.statistics[$0.publicKey] ?? PeerStatistics() }
        observation.state.addresses = link.addresses.filter(\.isOurs).map(\.address)
        observation.deviceKind = .kernel
        return observation
    }

    package mutating func foreignRoutes(
        at keys: [Route.Key], of mesh: MeshIdentity
    ) throws(DataplaneError) -> [ForeignObject] {
        let wanted = Set(keys)
        return routes.filter { wanted.contains($0.route.key) && !isOurs($0, mesh) }.map {
            ForeignObject(kind: "route", description: "\($0.route.prefix)", relation: .blocksRoute($0.route.key))
        }
    }

    package mutating func holder(ofPort port: UInt16) -> ForeignObject? {
        guard busyPorts.contains(port) else { return nil }
        return ForeignObject(kind: "port", description: "UDP \(port)", relation: .holdsPort)
    }

    private func isOurs(_ route: ModelRoute, _ mesh: MeshIdentity) -> Bool {
        guard route.isOurs else { return false }
        return route.interface == mesh.interface
            || (route.interface == nil && route.route.metric == mesh.unreachableMetric)
    }

    // MARK: Changing

    package mutating func perform(_ operations: [Operation], for mesh: MeshIdentity) -> [Outcome] {
        var outcomes: [Outcome] = []
        var peerFailed = false
        for operation in operations {
            if peerFailed, case .peer(.remove) = operation {
                outcomes.append(.skipped("a peer before it failed"))
                continue
            }
            if isKilled {
                outcomes.append(.failed(DataplaneError(.other, "killed")))
                continue
            }
            mutations += 1
            log.append("\(operation)")
            if let error = fault(mutations, operation) {
                outcomes.append(.failed(error))
            } else {
                do throws(DataplaneError) {
                    outcomes.append(try apply(operation, mesh))
                } catch {
                    outcomes.append(.failed(error))
                }
            }
            if operation.kind == .peer, outcomes.last?.isFailure == true { peerFailed = true }
            let held = Set((links[mesh.interface]?.peers ?? []).flatMap { Array($0.allowedIPs) })
            lost.formUnion(guarded.subtracting(held))
        }
        return outcomes
    }

    private mutating func apply(_ operation: Operation, _ mesh: MeshIdentity) throws(DataplaneError) -> Outcome {
        switch operation {
        case .link(let operation): try apply(operation)
        case .device(let operation): try apply(operation)
        case .address(let operation): try apply(operation)
        case .peer(let operation): try apply(operation, on: mesh.interface)
        case .route(let operation): try apply(operation, mesh)
        case .sysctl(let operation): try apply(operation, mesh)
        case .rule(let operation): apply(operation, mesh)
        case .firewall(let operation): try apply(operation)
        case .resolver(let operation): apply(operation, mesh)
        }
    }

    private mutating func apply(_ operation: LinkOperation) throws(DataplaneError) -> Outcome {
        switch operation {
        case .create(let link):
            guard links[link.name] == nil else { throw DataplaneError(.obstructed, "exists", errno: 17) }
            links[link.name] = ModelLink(alias: link.alias, mtu: link.mtu)
            sysctls["net/ipv4/conf/\(link.name)/rp_filter"] = "1"
            sysctls["net/ipv4/conf/\(link.name)/send_redirects"] = "1"
        case .setMTU(let name, _, let mtu):
            guard links[name] != nil else { throw DataplaneError(.gone, "no link", errno: 19) }
            links[name]?.mtu = mtu
            if mtu < 1280 {
                links[name]?.addresses.removeAll { $0.address.address.family == .v6 }
                routes.removeAll { $0.interface == name && $0.route.prefix.family == .v6 }
            }
        case .setAlias(let name, _, let alias):
            guard links[name] != nil else { throw DataplaneError(.gone, "no link", errno: 19) }
            links[name]?.alias = alias
        case .setUp(let name):
            guard let link = links[name] else { throw DataplaneError(.gone, "no link", errno: 19) }
            if let port = link.device.listenPort, busyPorts.contains(port) {
                throw DataplaneError(.portInUse, "port \(port) is in use", errno: 98)
            }
            links[name]?.isUp = true
        case .remove(let name), .removeHalfMade(let name):
            if links.removeValue(forKey: name) == nil { return .already }
            routes.removeAll { $0.interface == name }
            resolvers[name] = nil
            sysctls = sysctls.filter { path, value in !Sysctl(path, value).isOwn(of: name) }
        }
        return .done
    }

    private mutating func apply(_ operation: DeviceOperation) throws(DataplaneError) -> Outcome {
        guard links[operation.interface] != nil else { throw DataplaneError(.gone, "no link", errno: 19) }
        if let key = operation.privateKey {
            links[operation.interface]?.device.privateKey = key
            links[operation.interface]?.device.publicKey = operation.newPublicKey
            links[operation.interface]?.statistics = [:]
        }
        if let port = operation.listenPort {
            if links[operation.interface]?.isUp == true, busyPorts.contains(port) {
                throw DataplaneError(.portInUse, "port \(port) is in use", errno: 98)
            }
            links[operation.interface]?.device.listenPort = port
        }
        if let mark = operation.fwMark { links[operation.interface]?.device.fwMark = mark }
        return .done
    }

    private mutating func apply(_ operation: AddressOperation) throws(DataplaneError) -> Outcome {
        switch operation {
        case .add(let address, let name):
            guard let link = links[name] else { throw DataplaneError(.gone, "no link", errno: 19) }
            if link.mtu < 1280, address.address.family == .v6 { throw DataplaneError(.invalid, "no IPv6", errno: 22) }
            if let there = link.addresses.first(where: { $0.address == address }) {
                if there.isOurs { return .already }
                throw DataplaneError(.obstructed, "a foreign address", errno: 17)
            }
            links[name]?.addresses.append((address, true))
        case .replace(let old, let new, let name):
            guard let index = links[name]?.addresses.firstIndex(where: { $0.address == old && $0.isOurs }) else {
                return try apply(.add(new, interface: name))
            }
            if old.alteration != .lifetime { _ = try apply(.remove(old, interface: name)) }
            if old.alteration != .lifetime { return try apply(.add(new, interface: name)) }
            links[name]?.addresses[index] = (new, true)
        case .remove(let address, let name):
            guard let link = links[name], link.addresses.contains(where: { $0.address == address && $0.isOurs }) else {
                return .already
            }
            links[name]?.addresses.removeAll { $0.address == address && $0.isOurs }
            let family = address.address.family
            // The last IPv4 address takes every IPv4 route of the device with it; a preferred source takes its routes.
            if family == .v4, links[name]?.addresses.contains(where: { $0.address.address.family == .v4 }) != true {
                routes.removeAll { $0.interface == name && $0.route.prefix.family == .v4 }
            }
            routes.removeAll { $0.route.source == address.address }
        }
        return .done
    }

    private mutating func apply(_ operation: PeerOperation, on name: String) throws(DataplaneError) -> Outcome {
        guard links[name] != nil else { throw DataplaneError(.gone, "no link", errno: 19) }
        var peers = links[name]?.peers ?? []
        func take(_ prefixes: some Sequence<IPPrefix>, to owner: PublicKey) {
            let taken = Set(prefixes)
            for index in peers.indices where peers[index].publicKey != owner {
                peers[index].allowedIPs = PrefixList(peers[index].allowedIPs.filter { !taken.contains($0) })
            }
        }
        switch operation {
        case .add(let peer):
            take(peer.allowedIPs, to: peer.publicKey)
            if let index = peers.firstIndex(where: { $0.publicKey == peer.publicKey }) {
                peers[index] = peer
            } else {
                peers.append(peer)
            }
        case .change(let change):
            // UPDATE_ONLY: success, and nothing happens.
            guard let index = peers.firstIndex(where: { $0.publicKey == change.publicKey }) else { return .already }
            take(change.added, to: change.publicKey)
            let removed = Set(change.removed)
            peers[index].allowedIPs = PrefixList(
                Array(peers[index].allowedIPs).filter { !removed.contains($0) } + change.added)
            if let key = change.presharedKey { peers[index].presharedKey = key }
            if let keepalive = change.persistentKeepalive { peers[index].persistentKeepalive = keepalive }
            if let endpoint = change.endpoint { peers[index].endpoint = endpoint }
        case .remove(let peer):
            guard let index = peers.firstIndex(where: { $0.publicKey == peer.publicKey }) else { return .already }
            peers.remove(at: index)
            links[name]?.statistics[peer.publicKey] = nil
        }
        links[name]?.peers = peers
        return .done
    }

    private mutating func apply(_ operation: RouteOperation, _ mesh: MeshIdentity) throws(DataplaneError) -> Outcome {
        switch operation {
        case .add(let route, let name), .replace(_, let route, let name):
            if route.target == .interface, links[name]?.isUp != true {
                throw DataplaneError(.other, "network is down", errno: 100)
            }
            if let source = route.source,
                links[name]?.addresses.contains(where: { $0.address.address == source }) != true
            {
                throw DataplaneError(.invalid, "invalid preferred source", errno: 22)
            }
            let new = ModelRoute(route: route, interface: route.target == .interface ? name : nil, isOurs: true)
            if let index = routes.firstIndex(where: { $0.route.key == route.key }) {
                guard isOurs(routes[index], mesh) else { throw DataplaneError(.obstructed, "exists", errno: 17) }
                if case .add = operation { return .already }
                routes[index] = new
            } else {
                routes.append(new)
                routes.sort { $0.route.key < $1.route.key }
            }
        case .remove(let route, _):
            guard let index = routes.firstIndex(where: { $0.route.key == route.key && isOurs($0, mesh) }) else {
                return .already
            }
            routes.remove(at: index)
        }
        return .done
    }

    /// Sets a setting, and what goes with it.
    package mutating func write(_ sysctl: Sysctl) {
        if sysctls.updateValue(sysctl.value, forKey: sysctl.path) == sysctl.value { return }
        guard let turned = ForwardingSwitch(sysctl.path) else { return }
        for path in companions(of: turned).keys { sysctls[path] = turned.value(of: path, at: sysctl.value) }
    }

    private func companions(of turned: ForwardingSwitch) -> [String: String] {
        let names = sysctls.keys.compactMap { path -> String? in
            let parts = path.split(separator: "/")
            return path.hasPrefix(turned.folder + "/") && parts.count == 5 ? String(parts[3]) : nil
        }
        let paths = Set(turned.companions(names))
        return sysctls.filter { paths.contains($0.key) }
    }

    private mutating func apply(_ operation: SysctlOperation, _ mesh: MeshIdentity) throws(DataplaneError) -> Outcome {
        if let written = operation.written, fixedSysctls.contains(written.path), sysctls[written.path] != written.value
        {
            throw DataplaneError(.notPermitted, "read-only", errno: 30)
        }
        switch operation {
        case .claim(let sysctl, let from):
            if sysctlMemory.originals[sysctl.path] == nil {
                var original = SysctlMemory.Original(value: from, written: sysctl.value)
                if let turned = ForwardingSwitch(sysctl.path) {
                    original.companions = companions(of: turned).filter {
                        $0.value != turned.value(of: $0.key, at: from)
                    }
                }
                sysctlMemory.originals[sysctl.path] = original
            }
            sysctlMemory.claims[mesh.interface, default: []].insert(sysctl.path)
            write(sysctl)
        case .hold(let sysctl):
            sysctlMemory.claims[mesh.interface, default: []].insert(sysctl.path)
        case .setOwn(let sysctl, _): write(sysctl)
        case .release(let path, _, let restore, let companions):
            if let restore { write(Sysctl(path, restore)) }
            for companion in companions where sysctls[companion.path] != nil { write(companion) }
            sysctlMemory.claims[mesh.interface]?.remove(path)
            if !sysctlMemory.claims.contains(where: { $0.value.contains(path) }) { sysctlMemory.originals[path] = nil }
        case .leave(let sysctl, _):
            sysctlMemory.claims[mesh.interface]?.remove(sysctl.path)
        }
        return .done
    }
}
