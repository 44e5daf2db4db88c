// From a topology to one host's state. Pure: the same topology, facts and moment give the same state everywhere.

package import WeftDiagnostics
package import WeftModel

/// What a topology means for one host.
package struct Compilation: Sendable {
    package var desired: DesiredState
    /// Warnings that hang on this host: names without an answer, families without an address, overlaps.
    package var diagnostics: [Diagnostic]
    /// What the host would need that this version cannot do yet. `apply` refuses while there is any.
    package var unsupported: [Diagnostic]
    /// When the state changes by itself, because a node expires; nil where none will.
    package var nextChange: UnixTime?
}

extension Topology {
    /// The state of a host at a moment.
    ///
    /// - Parameter node: an index into `nodes`.
    package func compile(for node: Int, facts: HostFacts, at time: UnixTime) -> Compilation {
        var compiler = Compiler(topology: self, node: node, facts: facts, time: time)
        return compiler.compile()
    }
}

private struct Compiler {
    let topology: Topology
    let index: Int
    let node: Node
    let facts: HostFacts
    let time: UnixTime
    let graph: MeshGraph
    var diagnostics: [Diagnostic] = []

    init(topology: Topology, node index: Int, facts: HostFacts, time: UnixTime) {
        self.topology = topology
        self.index = index
        node = topology.nodes[index]
        self.facts = facts
        self.time = time
        graph = MeshGraph(topology, at: time)
    }

    mutating func compile() -> Compilation {
        let interface = (node.interface ?? topology.mesh.interface).value
        var desired = DesiredState(
            mesh: topology.mesh.name.value, interface: interface, node: node.name, state: HostState())
        let nextChange = topology.nodes.compactMap { $0.isDisabled ? nil : $0.expires }.filter { time < $0 }.min()
        guard graph.isActive[index] else {
            diagnostics.append(
                Diagnostic(
                    "host.inactive", .warning,
                    "this host is \(node.isDisabled ? "disabled" : "expired") in the topology: the mesh is removed here",
                    at: node.place))
            return Compilation(
                desired: desired, diagnostics: diagnostics, unsupported: [], nextChange: nextChange)
        }

        if node.isUnmanaged {
            diagnostics.append(
                Diagnostic(
                    "host.unmanaged", .warning,
                    "\(node.name) is `unmanaged` in the topology, and weft runs on it: access rules will take it for a host "
                        + "that enforces none", at: node.place,
                    notes: [Diagnostic.Note("take `unmanaged` out, or give this host its file by hand")]))
        }
        let hops = graph.firstHops(from: index)
        let (prefixes, ranges) = allowedIPs(hops)
        var peers: [Peer] = []
        peers.reserveCapacity(ranges.count)
        desired.peerNames.reserveCapacity(ranges.count)
        for (peer, range) in ranges {
            let other = topology.nodes[peer]
            desired.peerNames[other.publicKey.value] = other.name
            let (endpoint, written) = self.endpoint(of: peer)
            if let written { desired.endpointNames[other.publicKey.value] = written }
            peers.append(
                Peer(
                    publicKey: other.publicKey.value,
                    presharedKey: presharedKey(with: other),
                    persistentKeepalive: persistentKeepalive(to: peer),
                    allowedIPs: PrefixList.distinct(prefixes[range]),
                    endpoint: endpoint))
        }

        desired.state = HostState(
            link: Link(
                name: interface, mtu: node.mtu ?? facts.linkMTU ?? Self.defaultMTU,
                alias: Link.alias(mesh: topology.mesh.name.value)),
            device: Device(
                privateKey: facts.privateKey, publicKey: node.publicKey.value,
                listenPort: topology.listenPort(of: index), fwMark: node.fwMark),
            addresses: node.addresses.map { InterfaceAddress(host: $0.value) }.sorted { $0.key < $1.key },
            peers: peers,
            routes: routes(prefixes, interface: interface),
            sysctls: forwarding(prefixes, hops: hops))
        leaveOutWhatTheMTUForbids(&desired.state)
        warnAboutOverlaps(desired.state.routes)
        return Compilation(
            desired: desired, diagnostics: diagnostics, unsupported: unsupported(), nextChange: nextChange)
    }

    /// Under 1280 bytes Linux takes IPv6 off a link and refuses it from then on: a state that wants it there would never be
    /// reached. What refuses packets to absent nodes stays, because nothing else keeps them off the default route.
    private func leaveOutWhatTheMTUForbids(_ state: inout HostState) {
        guard let mtu = state.link?.mtu, mtu < 1280 else { return }
        state.addresses.removeAll { $0.address.family == .v6 }
        state.routes.removeAll { $0.prefix.family == .v6 && $0.target == .interface }
    }

    /// WireGuard's own default, in bytes: 1500 less IPv6's header, UDP's and its own.
    static let defaultMTU: UInt32 = 1420

    // MARK: Peers

    /// The allowed IPs of all peers in one array, and each peer's part of it, ascending.
    private func allowedIPs(_ hops: [Int32]) -> ([IPPrefix], [(peer: Int, range: Range<Int>)]) {
        let nodes = topology.nodes
        var counts = [Int](repeating: 0, count: nodes.count)
        for (target, hop) in hops.enumerated() where hop >= 0 {
            counts[Int(hop)] += nodes[target].addresses.count + nodes[target].allowedIPs.count
        }
        var starts = [Int](repeating: 0, count: nodes.count)
        var total = 0
        // In the order of their keys. Small pairs are sorted, not peers: it is memory that a large mesh waits for.
        var order: [(key: UInt64, peer: Int)] = []
        for peer in nodes.indices where hops[peer] == Int32(peer) {
            order.append((nodes[peer].publicKey.value.word0, peer))
        }
        order.sort { left, right in
            left.key == right.key
                ? nodes[left.peer].publicKey.value < nodes[right.peer].publicKey.value : left.key < right.key
        }
        var ranges: [(peer: Int, range: Range<Int>)] = []
        ranges.reserveCapacity(order.count)
        for (_, peer) in order {
            starts[peer] = total
            ranges.append((peer, total..<total + counts[peer]))
            total += counts[peer]
        }
        let filler = IPPrefix(host: IPAddress(v4: 0))
        var prefixes = [IPPrefix](repeating: filler, count: total)
        for (target, hop) in hops.enumerated() where hop >= 0 {
            var position = starts[Int(hop)]
            for address in nodes[target].addresses {
                prefixes[position] = IPPrefix(host: address.value)
                position += 1
            }
            for prefix in nodes[target].allowedIPs {
                prefixes[position] = prefix.value
                position += 1
            }
            starts[Int(hop)] = position
        }
        for (_, range) in ranges where !PrefixList.isAscending(prefixes[range]) {
            prefixes[range].sort()
        }
        return (prefixes, ranges)
    }

    /// The address to dial, and the text that it stands for where that is a name.
    private mutating func endpoint(of peer: Int) -> (SocketAddress?, String?) {
        guard let endpoint = graph.endpoint(of: peer, from: index) else { return (nil, nil) }
        let port = endpoint.port ?? topology.listenPort(of: peer) ?? Topology.defaultPort
        switch endpoint.host {
        case .address(let address):
            return (SocketAddress(address, port: port), nil)
        case .name(let name):
            let written = Endpoint(host: endpoint.host, port: port).description
            guard let address = facts.resolvedNames[name]?.first else { return (nil, written) }
            return (SocketAddress(address, port: port), written)
        }
    }

    private func presharedKey(with other: Node) -> PresharedKey {
        switch topology.mesh.presharedKeys {
        case .none, .sealed: .none
        case .external: .external
        case .directory: facts.presharedKeys[other.name].map { .tag($0) } ?? .none
        }
    }

    /// A host that nobody can dial keeps its mappings alive.
    private func persistentKeepalive(to peer: Int) -> UInt16 {
        if let written = graph.facts(index, peer)?.persistentKeepalive ?? node.persistentKeepalive { return written }
        let canBeDialled = graph.endpoint(of: index, from: peer) != nil
        return canBeDialled ? 0 : 25
    }

    // MARK: Routes

    private mutating func routes(_ prefixes: [IPPrefix], interface: String) -> [Route] {
        let table: UInt32
        switch node.table {
        case .off: return []
        case .main: table = Route.mainTable
        case .number(let number): table = number
        }
        var sources: [IPAddress.Family: IPAddress] = [:]
        for address in node.addresses where sources[address.value.family] == nil {
            sources[address.value.family] = address.value
        }
        let source4 = sources[.v4]
        let source6 = sources[.v6]
        var routes: [Route] = []
        routes.reserveCapacity(prefixes.count + topology.mesh.addresses.count)
        var withoutAddress: [IPAddress.Family: Int] = [:]
        // Of one table and one metric, so their order is that of their prefixes, and those are small to sort.
        var last: IPPrefix?
        for prefix in prefixes.sorted() where prefix != last {
            last = prefix
            guard let source = prefix.family == .v4 ? source4 : source6 else {
                withoutAddress[prefix.family, default: 0] += 1
                continue
            }
            routes.append(
                Route(
                    prefix, table: table, metric: Route.defaultMetric(prefix.family), target: .interface,
                    source: source))
        }
        let metric = MeshIdentity(mesh: topology.mesh.name.value, interface: interface).unreachableMetric
        for range in topology.mesh.addresses where sources[range.value.family] != nil {
            let route = Route(range.value, table: table, metric: metric, target: .unreachable, source: nil)
            routes.insert(route, at: routes.partitioningIndex { route.key < $0.key })
        }
        for (family, count) in withoutAddress.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            let name = family == .v4 ? "IPv4" : "IPv6"
            diagnostics.append(
                Diagnostic(
                    "host.no-address-in-family", .warning,
                    "\(node.name) has no \(name) address in the mesh: "
                        + (count == 1 ? "one \(name) prefix gets" : "\(count) \(name) prefixes get") + " no route here",
                    at: node.place,
                    notes: [
                        Diagnostic.Note("give \(node.name) an \(name) address from the mesh's ranges to reach them")
                    ]))
        }
        return routes
    }

    /// Forwarding for a host that relays between peers or has networks behind it, of the families that it needs.
    private func forwarding(_ prefixes: [IPPrefix], hops: [Int32]) -> [Sysctl] {
        var families: Set<IPAddress.Family> = []
        if graph.relays(index, hops: hops) {
            families.formUnion(node.addresses.map { $0.value.family })
        }
        families.formUnion(node.allowedIPs.map { $0.value.family })
        var sysctls: [Sysctl] = []
        if families.contains(.v4) { sysctls.append(Sysctl("net/ipv4/ip_forward", "1")) }
        if families.contains(.v6) {
            // A host that forwards stops listening to router advertisements unless it is told to go on: first that.
            for interface in facts.acceptingRouterAdvertisements.sorted() where interface != "all" {
                sysctls.append(Sysctl("net/ipv6/conf/\(interface)/accept_ra", "2"))
            }
            sysctls.append(Sysctl("net/ipv6/conf/all/forwarding", "1"))
        }
        return sysctls
    }

    // MARK: Warnings

    private mutating func warnAboutOverlaps(_ routes: [Route]) {
        for network in facts.connectedNetworks {
            let hits = routes.filter { $0.target == .interface && $0.prefix.overlaps(network.prefix) }
            if let first = hits.first {
                let more = hits.count > 1 ? " and \(hits.count - 1) more" : ""
                diagnostics.append(
                    Diagnostic(
                        "host.overlaps-connected", .warning,
                        "\(first.prefix)\(more) overlaps \(network.prefix), which this host is connected to by "
                            + "\(network.interface)",
                        at: node.place,
                        notes: [
                            Diagnostic.Note(
                                first.prefix.length >= network.prefix.length
                                    ? "packets to \(first.prefix) would go into the mesh, and no longer to "
                                        + "\(network.interface)"
                                    : "packets to \(network.prefix) still go to \(network.interface), and the rest of "
                                        + "\(first.prefix) into the mesh")
                        ]))
            }
        }
        if !facts.didResolve { return }
        for peer in topology.nodes.indices where peer != index {
            guard let endpoint = graph.endpoint(of: peer, from: index), case .name(let name) = endpoint.host,
                facts.resolvedNames[name] == nil, graph.isLinked(index, peer)
            else { continue }
            let other = topology.nodes[peer]
            diagnostics.append(
                Diagnostic(
                    "host.unresolved-endpoint", .warning,
                    "the endpoint of \(other.name) has no address yet: \(name) does not resolve",
                    at: other.endpoint?.place ?? other.place,
                    notes: [Diagnostic.Note("\(other.name) is configured without an endpoint until it does")]))
        }
    }

    /// What is parsed and checked, and not built yet.
    private func unsupported() -> [Diagnostic] {
        var found: [(String, SourceRange)] = []
        if let exit = node.useExit { found.append(("useExit", exit.place)) }
        if node.isExit { found.append(("exit", node.place)) }
        if let killSwitch = node.killSwitch { found.append(("killSwitch", killSwitch.place)) }
        if let masquerade = node.masquerade { found.append(("masquerade", masquerade.place)) }
        if let dns = node.dns { found.append(("dns", dns.place)) }
        if let rule = topology.access?.first { found.append(("access", rule.place)) }
        if topology.access?.isEmpty == true { found.append(("access", node.place)) }
        return found.map { field, place in
            Diagnostic(
                "host.not-built", .error, "this version of weft cannot apply `\(field)` yet, and \(node.name) needs it",
                at: place,
                notes: [Diagnostic.Note("nothing was changed; remove the field, or keep this host on its present tool")]
            )
        }
    }
}

extension Topology {
    /// Where a node listens when it has an endpoint and says no more.
    package static let defaultPort: UInt16 = 51_820

    /// The port a node listens on: its own, else its endpoint's, else 51820 where anybody dials it; nil where the
    /// kernel may choose. Where one pair dials it elsewhere, that is that pair's way in, through a forwarded port
    /// perhaps, and moves the port only of a node that has no endpoint for all.
    package func listenPort(of index: Int) -> UInt16? {
        let node = nodes[index]
        if let port = node.listenPort { return port }
        if let endpoint = node.endpoint { return endpoint.value.port ?? Self.defaultPort }
        let override = links.lazy.compactMap { $0.endpoints[node.name]?.value }.first
        return override.map { $0.port ?? Self.defaultPort }
    }
}

extension Array {
    /// The index of the first element of a sorted array from which on `predicate` holds.
    fileprivate func partitioningIndex(where predicate: (Element) -> Bool) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if predicate(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

extension PrefixList {
    /// Takes a sorted slice; copies it only where a prefix stands twice.
    fileprivate static func distinct(_ sorted: ArraySlice<IPPrefix>) -> PrefixList {
        isAscending(sorted) ? PrefixList(ascending: sorted) : PrefixList(Array(sorted))
    }
}

extension Topology {
    /// The host names that a node dials at a moment, each once, in order.
    package func endpointNames(dialledFrom node: Int, at time: UnixTime) -> [String] {
        let graph = MeshGraph(self, at: time)
        var names: Set<String> = []
        for peer in nodes.indices where peer != node {
            guard let endpoint = graph.endpoint(of: peer, from: node), case .name(let name) = endpoint.host,
                !names.contains(name), graph.isLinked(node, peer)
            else { continue }
            names.insert(name)
        }
        return names.sorted()
    }
}
