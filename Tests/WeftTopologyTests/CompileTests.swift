// One host's state from a topology: links, relayed paths, ports, endpoints, keepalives, routes.

import Testing
import WeftDiagnostics
import WeftModel
import WeftTestSupport

@testable import WeftTopology

private let nowhere = SourceRange(
    file: 0, start: SourcePosition(line: 1, column: 1), end: SourcePosition(line: 1, column: 1))

/// A topology by hand: `hub*` nodes relay, a trailing `!` gives an endpoint.
private struct Mesher {
    var nodes: [Node] = []
    var links: [PairLink] = []
    var connect: Connect = .full

    mutating func add(
        _ name: String, endpoint: Bool = false, hub: Bool = false, _ change: (inout Node) -> Void = { _ in }
    ) {
        let number = UInt32(nodes.count + 1)
        var node = Node(
            place: nowhere, name: name,
            publicKey: Located(PublicKey(bigEndianWords: UInt64(number) << 32, 1, 2, 3), at: nowhere),
            addresses: [Located(IPAddress(v4: 0x0A50_0000 + number), at: nowhere)])
        if endpoint {
            node.endpoint = Located(
                NodeEndpoint(host: .address(IPAddress(v4: 0xC000_0200 + number)), port: nil), at: nowhere)
        }
        node.isHub = hub
        change(&node)
        nodes.append(node)
    }

    func topology() throws -> Topology {
        let mesh = Mesh(
            name: Located("corp", at: nowhere), interface: Located("wg0", at: nowhere),
            addresses: [Located(try #require(IPPrefix("10.80.0.0/16")), at: nowhere)], connect: connect)
        return Topology(mesh: mesh, nodes: nodes.sorted { $0.name < $1.name }, links: links)
    }
}

private let start = UnixTime(seconds: 1_800_000_000)

extension Topology {
    fileprivate func state(of name: String, facts: HostFacts = HostFacts(), at time: UnixTime = start) throws
        -> HostState
    {
        let found = try #require(self.index(ofNode: name))
        return compile(for: found, facts: facts, at: time).desired.state
    }

    fileprivate func peer(_ name: String, at host: String, facts: HostFacts = HostFacts()) throws -> Peer? {
        let key = nodes[try #require(self.index(ofNode: name))].publicKey.value
        return try state(of: host, facts: facts).peers.first { $0.publicKey == key }
    }
}

@Suite struct CompileTests {
    /// Linux takes IPv6 off a link of less than 1280 bytes: wanting it there would never end.
    @Test(arguments: [(1279, 0), (1280, 1)] as [(UInt32, Int)])
    func aSmallMTULeavesIPv6Out(mtu: UInt32, count: Int) throws {
        var mesher = Mesher()
        for (index, name) in ["ams", "fra"].enumerated() {
            let address = try #require(IPAddress("fd80::\(index + 1)"))
            mesher.add(name, endpoint: true) { node in
                node.addresses.append(Located(address, at: nowhere))
                node.mtu = mtu
            }
        }
        var topology = try mesher.topology()
        topology.mesh.addresses.append(Located(try #require(IPPrefix("fd80::/48")), at: nowhere))
        let state = try topology.state(of: "ams")
        #expect(state.addresses.count { $0.address.family == .v4 } == 1)
        #expect(state.addresses.count { $0.address.family == .v6 } == count)
        let routes = state.routes.filter { $0.prefix.family == .v6 }
        #expect(routes.count { $0.target == .interface } == count)
        // Packets to absent nodes are kept off the default route all the same.
        #expect(routes.count { $0.target == .unreachable } == 1)
    }

    @Test func aPairWithoutEndpointsGoesThroughTheHub() throws {
        var mesher = Mesher()
        mesher.add("ana")
        mesher.add("bob") { $0.allowedIPs = [Located(IPPrefix(IPAddress(v4: 0xC0A8_0300), length: 24), at: nowhere)] }
        mesher.add("fra", endpoint: true, hub: true)
        let topology = try mesher.topology()
        let atAna = try #require(try topology.peer("fra", at: "ana"))
        #expect(atAna.allowedIPs.description == "10.80.0.2/32, 10.80.0.3/32, 192.168.3.0/24")
        #expect(atAna.persistentKeepalive == 25)
        #expect(atAna.endpoint?.description == "192.0.2.3:51820")
        #expect(try topology.peer("bob", at: "ana") == nil)
        let hub = try topology.state(of: "fra")
        #expect(hub.peers.count == 2)
        #expect(hub.device?.listenPort == 51_820)
        #expect(hub.peers.allSatisfy { $0.endpoint == nil && $0.persistentKeepalive == 0 })
        // Two nodes meet at the hub: it forwards, and sends none of them another way.
        #expect(
            hub.sysctls == [
                Sysctl("net/ipv4/ip_forward", "1"), Sysctl("net/ipv4/conf/all/send_redirects", "0"),
                Sysctl("net/ipv4/conf/wg0/send_redirects", "0"),
            ])
        #expect(try topology.state(of: "bob").sysctls == [Sysctl("net/ipv4/ip_forward", "1")])
        #expect(try topology.state(of: "ana").sysctls.isEmpty)
        #expect(try topology.state(of: "ana").device?.listenPort == nil)
    }

    /// One pair's way to a node is not where the node listens, and not where the others dial it.
    @Test func aLinksEndpointMovesNobodysPort() throws {
        var mesher = Mesher()
        for name in ["ams", "ana", "fra"] { mesher.add(name, endpoint: name != "ana") }
        mesher.links = [
            PairLink(
                place: nowhere, between: (Located("ana", at: nowhere), Located("fra", at: nowhere)),
                endpoints: [
                    "fra": Located(NodeEndpoint(host: .address(IPAddress(v4: 0x0A00_0005)), port: 4000), at: nowhere)
                ])
        ]
        let topology = try mesher.topology()
        #expect(try topology.peer("fra", at: "ana")?.endpoint?.description == "10.0.0.5:4000")
        #expect(try topology.peer("fra", at: "ams")?.endpoint?.description == "192.0.2.3:51820")
        #expect(try topology.state(of: "fra").device?.listenPort == 51_820)
    }

    @Test func twoHubsRelayOnlyOnce() throws {
        var mesher = Mesher()
        mesher.add("ana")
        mesher.add("bob")
        mesher.add("ams", endpoint: true, hub: true)
        mesher.add("fra", endpoint: true, hub: true)
        let topology = try mesher.topology()
        #expect(try topology.peer("ams", at: "ana")?.allowedIPs.description == "10.80.0.2/32, 10.80.0.3/32")
        #expect(try topology.peer("fra", at: "ana")?.allowedIPs.description == "10.80.0.4/32")
        #expect(try topology.state(of: "ams").sysctls.first == Sysctl("net/ipv4/ip_forward", "1"))
        #expect(try topology.state(of: "fra").sysctls.isEmpty)
    }

    @Test func routesHaveTheMeshSourceAndTheRangeIsUnreachable() throws {
        var mesher = Mesher()
        mesher.add("ana", endpoint: true)
        mesher.add("bob", endpoint: true)
        let routes = try mesher.topology().state(of: "ana").routes
        #expect(routes.count == 2)
        let range = try #require(routes.first { $0.target == .unreachable })
        #expect(range.prefix.description == "10.80.0.0/16")
        #expect(range.metric >= 0x7700_0000)
        let route = try #require(routes.first { $0.target == .interface })
        #expect(route.source?.description == "10.80.0.1")
        #expect(route.metric == 0)
    }

    @Test func expiryIsToTheSecond() throws {
        var mesher = Mesher()
        mesher.add("ana", endpoint: true)
        mesher.add("bob", endpoint: true) { $0.expires = UnixTime(seconds: 1_800_000_010) }
        let topology = try mesher.topology()
        #expect(try topology.state(of: "ana", at: UnixTime(seconds: 1_800_000_009)).peers.count == 1)
        #expect(try topology.state(of: "ana", at: UnixTime(seconds: 1_800_000_010)).peers.isEmpty)
        #expect(try topology.state(of: "bob", at: UnixTime(seconds: 1_800_000_010)).link == nil)
        let compilation = topology.compile(for: 0, facts: HostFacts(), at: start)
        #expect(compilation.nextChange == UnixTime(seconds: 1_800_000_010))
    }

    @Test func linksOverrideEndpointsAndKeepalive() throws {
        var mesher = Mesher()
        mesher.add("ana", endpoint: true)
        mesher.add("bob", endpoint: true)
        mesher.links = [
            PairLink(
                place: nowhere, between: (Located("ana", at: nowhere), Located("bob", at: nowhere)),
                endpoints: [
                    "bob": Located(NodeEndpoint(host: .address(IPAddress(v4: 0x0A00_0005)), port: 7000), at: nowhere)
                ],
                persistentKeepalive: 15)
        ]
        let topology = try mesher.topology()
        let bob = try #require(try topology.peer("bob", at: "ana"))
        #expect(bob.endpoint?.description == "10.0.0.5:7000")
        #expect(bob.persistentKeepalive == 15)
        #expect(try topology.peer("ana", at: "bob")?.endpoint?.description == "192.0.2.1:51820")
    }

    @Test func namesComeFromTheFacts() throws {
        var mesher = Mesher()
        mesher.add("ana", endpoint: true)
        mesher.add("bob") {
            $0.endpoint = Located(NodeEndpoint(host: .name("bob.example"), port: 4000), at: nowhere)
        }
        let topology = try mesher.topology()
        #expect(try topology.peer("bob", at: "ana")?.endpoint == nil)
        let facts = HostFacts(resolvedNames: ["bob.example": [IPAddress(v4: 0xC633_6401)]], didResolve: true)
        #expect(try topology.peer("bob", at: "ana", facts: facts)?.endpoint?.description == "198.51.100.1:4000")
        let compilation = topology.compile(for: 0, facts: facts, at: start)
        #expect(Array(compilation.desired.endpointNames.values) == ["bob.example:4000"])
        let unresolved = topology.compile(for: 0, facts: HostFacts(didResolve: true), at: start)
        #expect(unresolved.diagnostics.map(\.id) == ["host.unresolved-endpoint"])
        #expect(unresolved.diagnostics.first?.notes.first?.message.contains("keeps the endpoint that it has") == true)
    }

    /// A name server in the mesh may know a node by its address there.
    @Test func aNameThatLeadsIntoTheTunnelIsNotDialled() throws {
        var mesher = Mesher()
        mesher.add("ana", endpoint: true)
        mesher.add("bob") {
            $0.endpoint = Located(NodeEndpoint(host: .name("bob.example"), port: 4000), at: nowhere)
            $0.allowedIPs = [Located(IPPrefix(IPAddress(v4: 0xC0A8_0300), length: 24), at: nowhere)]
        }
        let topology = try mesher.topology()
        func compiled(_ addresses: IPAddress...) -> Compilation {
            topology.compile(
                for: 0, facts: HostFacts(resolvedNames: ["bob.example": addresses], didResolve: true), at: start)
        }
        let range = try #require(topology.mesh.addresses.first { $0.value.family == .v4 }).value
        let (inner, behind, outer) = (range.address, IPAddress(v4: 0xC0A8_0307), IPAddress(v4: 0xC633_6401))
        for address in [inner, behind] {
            let compilation = compiled(address)
            #expect(compilation.desired.state.peers.map(\.endpoint) == [nil])
            #expect(compilation.diagnostics.map(\.id) == ["host.endpoint-in-tunnel"])
            #expect(compilation.diagnostics.first?.message.contains("bob.example is \(address) here") == true)
            #expect(compilation.refusals.isEmpty)
        }
        let both = compiled(inner, outer)
        #expect(both.desired.state.peers.map(\.endpoint?.address) == [outer] && both.diagnostics.isEmpty)
    }

    /// In random meshes, every packet finds its way hop by hop, and every hop expects its source from where it comes.
    @Test(arguments: 1...60)
    func relayedPathsAgreeOnAllHosts(seed: Int) throws {
        var random = SeededGenerator(seed: UInt64(seed))
        var mesher = Mesher()
        mesher.connect = seed % 2 == 0 ? .hubs : .full
        let count = 4 + seed % 12
        for index in 0..<count {
            let endpoint = random.next() % 2 == 0
            let hub = random.next() % 3 == 0
            let restricted = random.next() % 4 == 0
            mesher.add("n\(index)", endpoint: endpoint || (hub && seed % 3 != 0), hub: hub) { node in
                guard restricted else { return }
                node.connect = .nodes((0..<count).filter { _ in random.next() % 3 == 0 }.map { "n\($0)" })
            }
        }
        let topology = try mesher.topology()
        let graph = MeshGraph(topology, at: start)
        let hops = topology.nodes.indices.map { graph.firstHops(from: $0) }
        for source in topology.nodes.indices {
            for target in topology.nodes.indices where target != source {
                #expect((hops[source][target] < 0) == (hops[target][source] < 0))
                guard hops[source][target] >= 0 else { continue }
                var here = source
                var steps = 0
                while here != target {
                    let next = Int(hops[here][target])
                    try #require(next >= 0 && graph.isLinked(here, next))
                    #expect(hops[next][source] == Int32(here), "\(next) expects \(source) from \(here)")
                    if here != source { #expect(topology.nodes[here].isHub && graph.relays(here, hops: hops[here])) }
                    here = next
                    steps += 1
                    try #require(steps <= count)
                }
            }
        }
    }
}
