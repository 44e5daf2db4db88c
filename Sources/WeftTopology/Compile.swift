// From a topology to one host's state. Pure: the same topology, facts and moment give the same state everywhere.

package import WeftDiagnostics
package import WeftModel

/// What a topology means for one host.
package struct Compilation: Sendable {
    package var desired: DesiredState
    /// Warnings that hang on this host: names without an answer, families without an address, overlaps.
    package var diagnostics: [Diagnostic]
    /// Errors that only this host shows: what it lacks for what is wanted of it. `apply` refuses while there is any.
    package var refusals: [Diagnostic]
    /// When the state changes by itself, because a node expires; nil where none will.
    package var nextChange: UnixTime?
    /// Nodes that have expired, and since when.
    package var expired: [String: UnixTime] = [:]
    /// Whether some sysctls hang on facts that were not looked up.
    package var hasOpenSysctls = false
}

extension Topology {
    /// The state of a host at a moment.
    ///
    /// - Parameter node: an index into `nodes`.
    package func compile(for node: Int, facts: HostFacts, at time: UnixTime) -> Compilation {
        var compiler = Compiler(topology: self, node: node, facts: facts, time: time)
        var compilation = compiler.compile()
        for node in nodes where !node.isDisabled && !node.isActive(at: time) {
            compilation.expired[node.name] = node.expires
        }
        return compilation
    }
}

/// Compiles one host. Each kind of object stands in a file of its own.
struct Compiler {
    let topology: Topology
    let index: Int
    let node: Node
    let facts: HostFacts
    let identity: MeshIdentity
    let graph: MeshGraph
    /// The first hop to every node, by index.
    let hops: [Int32]
    /// In bytes.
    let mtu: UInt32
    /// Families in which the interface has an address.
    let families: Set<IPAddress.Family>
    /// Whether packets of two other nodes meet here.
    let relays: Bool
    /// Families that are passed on for others: between nodes, to the networks behind this one, or out of the mesh.
    let forwarded: Set<IPAddress.Family>
    /// Nil where this host uses no exit.
    let tunnel: FullTunnel?
    var diagnostics: [Diagnostic] = []
    var refusals: [Diagnostic] = []
    /// See `DesiredState.counterNames`.
    var counterNames: [String] = []

    var interface: String { identity.interface }

    /// WireGuard's own default, in bytes: 1500 less IPv6's header, UDP's and its own.
    static let defaultMTU: UInt32 = 1420

    init(topology: Topology, node index: Int, facts: HostFacts, time: UnixTime) {
        let node = topology.nodes[index]
        let identity = MeshIdentity(
            mesh: topology.mesh.name.value, interface: (node.interface ?? topology.mesh.interface).value)
        let graph = MeshGraph(topology, at: time)
        let hops = graph.firstHops(from: index)
        let written = Set(node.addresses.map { $0.value.family })
        let found = facts.linkMTU.map { written.contains(.v6) && facts.ipv6Switch != .offOnHost ? max($0, 1280) : $0 }
        let mtu = node.mtu ?? found ?? Self.defaultMTU
        let relays = graph.isActive[index] && graph.relays(index, hops: hops)
        var forwarded = Set(node.allowedIPs.map { $0.value.family })
        if relays || node.isExit { forwarded.formUnion(written) }
        forwarded.formIntersection(facts.families)

        self.topology = topology
        self.index = index
        self.node = node
        self.facts = facts
        self.identity = identity
        self.graph = graph
        self.hops = hops
        self.mtu = mtu
        self.relays = relays
        self.forwarded = forwarded
        families = node.families(mtu: mtu).subtracting(facts.ipv6Switch == .offOnHost ? [.v6] : [])
        tunnel = FullTunnel(of: index, in: topology, graph, families: families, identity)
    }

    mutating func compile() -> Compilation {
        var desired = DesiredState(
            mesh: topology.mesh.name.value, interface: interface, node: node.name, state: HostState())
        let expiries = topology.nodes.compactMap { $0.isDisabled ? nil : $0.expires }
        guard graph.isActive[index] else {
            diagnostics.append(
                Diagnostic(
                    "host.inactive", .warning,
                    "this host is \(node.isDisabled ? "disabled" : "expired") in the topology: the mesh is removed here",
                    at: node.place, notes: openingNotes))
            return Compilation(
                desired: desired, diagnostics: diagnostics, refusals: [],
                nextChange: expiries.filter { graph.time < $0 }.min())
        }

        if node.isUnmanaged {
            diagnostics.append(
                Diagnostic(
                    "host.unmanaged", .warning,
                    "\(node.name) is `unmanaged` in the topology, and weft runs on it: access rules will take it for a host "
                        + "that enforces none", at: node.place,
                    notes: [Diagnostic.Note("take `unmanaged` out, or give this host its file by hand")]))
        }
        let (prefixes, ranges) = allowedIPs()
        var peers: [Peer] = []
        peers.reserveCapacity(ranges.count)
        desired.peerNames.reserveCapacity(ranges.count)
        for (peer, range) in ranges {
            let key = topology.nodes[peer].publicKey.value
            desired.peerNames[key] = topology.nodes[peer].name
            let (endpoint, written) = self.endpoint(of: peer)
            if let written { desired.endpointNames[key] = written }
            peers.append(
                Peer(
                    publicKey: key,
                    presharedKey: presharedKey(with: peer),
                    persistentKeepalive: persistentKeepalive(to: peer),
                    allowedIPs: PrefixList.distinct(prefixes[range]),
                    endpoint: endpoint))
        }
        refuseLoops(peers, ranges.map(\.peer))

        let listenPort = topology.listenPort(of: index)
        let routes = routes(prefixes)
        desired.state = HostState(
            link: Link(
                name: interface, mtu: mtu, isMTUAssumed: node.mtu == nil && facts.linkMTU == nil, alias: identity.alias),
            device: Device(
                privateKey: facts.privateKey, publicKey: node.publicKey.value, listenPort: listenPort,
                fwMark: tunnel?.numbers.mark ?? node.fwMark),
            addresses: node.addresses.map { InterfaceAddress(host: $0.value) }.sorted { $0.key < $1.key },
            peers: Self.byKey(peers),
            routes: routes,
            rules: policyRules(besides: routes),
            sysctls: sysctls(),
            firewall: firewall(listenPort: listenPort),
            resolver: node.dns.map { resolver($0) })
        desired.counterNames = counterNames
        leaveOutWhatTheInterfaceRefuses(&desired.state)
        desired.flows = [.deliver]
        if let listenPort { desired.flows.insert(.listen(port: listenPort)) }
        if relays { desired.flows.insert(.relay) }
        if node.isExit { desired.flows.insert(.forward) }
        if !node.allowedIPs.isEmpty { desired.flows.insert(.reach(node.allowedIPs.map(\.value).sorted())) }
        warnAboutOverlaps(desired.state.routes)
        warnAboutUnresolvedNames()
        warnAboutMTU(desired.state.peers)
        checkHost(&desired.state, prefixes)
        return Compilation(
            desired: desired, diagnostics: diagnostics, refusals: refusals,
            nextChange: expiries.filter { graph.time < $0 }.min(), hasOpenSysctls: hasOpenSysctls)
    }

    /// A mesh that goes takes its kill switch with it.
    private var openingNotes: [Diagnostic.Note] {
        guard let killSwitch = node.killSwitch else { return [] }
        return [
            Diagnostic.Note(
                "its kill switch goes with the mesh: from then on this host's packets leave in the clear",
                at: killSwitch.place)
        ]
    }

    /// Under 1280 bytes Linux takes IPv6 off a link and refuses it from then on, and a host can have switched it off: a state
    /// that wants it there would never be reached. What refuses packets to absent nodes stays, because nothing else keeps
    /// them off the default route.
    private mutating func leaveOutWhatTheInterfaceRefuses(_ state: inout HostState) {
        guard node.addresses.contains(where: { $0.value.family == .v6 }), !families.contains(.v6) else { return }
        state.addresses.removeAll { $0.address.family == .v6 }
        let takesRoutes = facts.families.contains(.v6)
        state.routes.removeAll { $0.prefix.family == .v6 && ($0.target == .interface || !takesRoutes) }
        guard facts.ipv6Switch == .offOnHost else { return }
        diagnostics.append(
            Diagnostic(
                "host.no-ipv6", .warning,
                "IPv6 is switched off on this host: \(node.name) does without its IPv6 addresses and routes",
                at: node.place,
                notes: [
                    Diagnostic.Note(
                        takesRoutes
                            ? "`sysctl net.ipv6.conf.default.disable_ipv6=0` (and that of \(interface), where it is there) lets "
                                + "it have them; or give the node IPv4 addresses only"
                            : "the kernel was started without IPv6; or give the node IPv4 addresses only")
                ]))
    }
}

extension Node {
    /// Families in which an interface of an MTU can have the node's addresses.
    func families(mtu: UInt32) -> Set<IPAddress.Family> {
        let written = Set(addresses.map { $0.value.family })
        return mtu < 1280 ? written.subtracting([.v6]) : written
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
