// What a node's part in the mesh means for its host: exits and their users, kill switches, masquerading, name servers.
// Rules are judged by what they do to packets.

import Testing
import WeftDiagnostics
import WeftModel
import WeftTestSupport

@testable import WeftTopology

private let now = UnixTime(seconds: 1_800_000_000)

/// A mesh of an exit, a client and a hub's spokes; lines are added to the exit, to the client, and at the end.
private func topology(
    exit: String = "masquerade: true", client: String = "useExit: fra", more: String = "",
    endpoint: String = "192.0.2.1", ranges: String = "10.80.0.0/16",
    addresses: (exit: String, client: String) = ("10.80.0.1", "10.80.1.7")
) throws -> Topology {
    let text = """
        mesh: {name: corp, interface: wg0, addresses: [\(ranges)]}
        nodes:
          fra:
            publicKey: cJ3bS22/vO2/CTfx+EGVKEjRBfuO+OO7vaaK0PLCmGw=
            addresses: [\(addresses.exit)]
            endpoint: \(endpoint)
            exit: true
            \(exit)
          ana:
            publicKey: gi9Bnb4VjS1Ur7R7bgI1QG2DZPk1I6EkAgjozvupoRI=
            addresses: [\(addresses.client)]
            \(client)
        \(more)
        """
    let files = SourceFiles([SourceFiles.File(name: "corp.yaml", bytes: Array(text.utf8))])
    let (topology, diagnostics) = TopologyReader.read(files, at: now)
    return try #require(topology, "\(diagnostics.map(\.message))")
}

private func ip(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

private func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

extension Topology {
    fileprivate func compilation(of name: String, _ facts: HostFacts = HostFacts()) throws -> Compilation {
        let node = try #require(index(ofNode: name))
        return compile(for: node, facts: facts, at: now)
    }

    fileprivate func state(of name: String, _ facts: HostFacts = HostFacts()) throws -> HostState {
        try compilation(of: name, facts).desired.state
    }

    fileprivate func firewall(of name: String) throws -> ModelFirewall {
        let firewall = try state(of: name).firewall
        let table: Firewall = try #require(firewall)
        return ModelFirewall(table)
    }
}

/// A packet from one address to another, in and out by interfaces; UDP from port 4000 to 4001.
private func packet(
    _ source: String, _ destination: String, in input: String = "", out output: String = "",
    _ change: (inout ModelPacket) -> Void = { _ in }
) throws -> ModelPacket {
    var packet = ModelPacket(try ip(source), try ip(destination))
    packet.inputInterface = input
    packet.outputInterface = output
    packet.transport = 17
    packet.setPorts(4000, 4001)
    change(&packet)
    return packet
}

@Suite struct FullTunnelTests {
    private let numbers = MeshIdentity(mesh: "corp", interface: "wg0").routingNumbers

    @Test func theClientRoutesEverythingThroughTheExit() throws {
        let state = try topology().state(of: "ana")
        #expect(state.peers.map(\.allowedIPs.description) == ["0.0.0.0/0, 10.80.0.1/32"])
        #expect(state.device?.fwMark == numbers.mark)
        let aside = state.routes.filter { $0.table == numbers.table }
        let metric = MeshIdentity(mesh: "corp", interface: "wg0").unreachableMetric
        #expect(
            aside == [
                Route(
                    try prefix("0.0.0.0/0"), table: numbers.table, metric: 0, target: .interface,
                    source: try ip("10.80.1.7")),
                Route(try prefix("::/0"), table: numbers.table, metric: metric, target: .unreachable, source: nil),
            ])
        // The mesh's own routes stay where they were.
        #expect(
            state.routes.filter { $0.table == Route.mainTable }.map(\.prefix.description) == [
                "10.80.0.0/16", "10.80.0.1/32",
            ])
        #expect(state.routes == state.routes.sorted { $0.key < $1.key })
        let rules = IPAddress.Family.allCases.flatMap { family in
            [
                PolicyRule(family, priority: numbers.priority, .lookupMainWithoutDefault),
                PolicyRule(
                    family, priority: numbers.priority + 1,
                    .lookupUnlessMarked(mark: numbers.mark, table: numbers.table)),
            ]
        }
        #expect(state.rules == rules)
        #expect(state.rules == state.rules.sorted { $0.key < $1.key })
        #expect(state.sysctls == [Sysctl("net/ipv4/conf/all/src_valid_mark", "1")])
        // Nobody else gets any of it.
        let exit = try topology().state(of: "fra")
        #expect(exit.rules.isEmpty && exit.device?.fwMark == 0)
        #expect(exit.peers.map(\.allowedIPs.description) == ["10.80.1.7/32"])
    }

    @Test func bothFamiliesGoWhereBothHaveThem() throws {
        let both = ("10.80.0.1, \"fd80::1\"", "10.80.1.7, \"fd80::7\"")
        let state = try topology(ranges: "10.80.0.0/16, \"fd80::/48\"", addresses: both).state(of: "ana")
        #expect(state.peers.first?.allowedIPs.description == "0.0.0.0/0, 10.80.0.1/32, ::/0, fd80::1/128")
        let aside = state.routes.filter { $0.table == numbers.table }
        #expect(aside.map(\.target) == [.interface, .interface])
        let source = try ip("fd80::7")
        #expect(aside.last?.metric == 1024 && aside.last?.source == source)

        let one = try topology(
            ranges: "10.80.0.0/16, \"fd80::/48\"", addresses: ("10.80.0.1", "10.80.1.7, \"fd80::7\""))
        let compilation = try one.compilation(of: "ana")
        #expect(compilation.diagnostics.map(\.id) == ["host.exit-family"])
        #expect(
            compilation.desired.state.routes.filter { $0.table == numbers.table }.map(\.target)
                == [.interface, .unreachable])
        #expect(compilation.desired.state.peers.first?.allowedIPs.description == "0.0.0.0/0, 10.80.0.1/32")
    }

    /// Under 1280 bytes there is no IPv6 on the link: it is refused, and does not leave by another way.
    @Test func aSmallMTURefusesIPv6() throws {
        let both = ("10.80.0.1, \"fd80::1\"", "10.80.1.7, \"fd80::7\"")
        let state = try topology(
            client: "useExit: fra\n    mtu: 1200", ranges: "10.80.0.0/16, \"fd80::/48\"", addresses: both
        ).state(of: "ana")
        #expect(state.routes.filter { $0.table == numbers.table }.map(\.target) == [.interface, .unreachable])
        #expect(state.peers.first?.allowedIPs.contains(try prefix("::/0")) == false)
    }

    @Test func theTopologysNumbersWin() throws {
        let state = try topology(client: "useExit: fra\n    fwMark: 0xca6c\n    table: 51820").state(of: "ana")
        #expect(state.device?.fwMark == 0xCA6C)
        #expect(Set(state.routes.map(\.table)) == [51_820])
        #expect(state.routes == state.routes.sorted { $0.key < $1.key })
        #expect(
            state.rules.filter { $0.key.priority == numbers.priority + 1 }.allSatisfy {
                $0.key.action == .lookupUnlessMarked(mark: 0xCA6C, table: 51_820)
            })
    }

    /// What the kernel lacks is not asked of it.
    @Test func aKernelWithoutIPv6GetsNoRulesOfIt() throws {
        var facts = HostFacts()
        facts.families = [.v4]
        let state = try topology().state(of: "ana", facts)
        #expect(state.rules.allSatisfy { $0.key.family == .v4 } && state.rules.count == 2)
        #expect(state.routes.filter { $0.table == numbers.table }.count == 1)
    }

    @Test(arguments: ["disabled: true", "expires: 2020-01-01T00:00:00Z"])
    func anAbsentExitLeavesNoWayOut(why: String) throws {
        let mesh = try topology(
            exit: "masquerade: true\n    \(why)", client: "useExit: fra\n    killSwitch: {allow: [192.168.0.0/24]}")
        let state = try mesh.state(of: "ana")
        #expect(state.peers.isEmpty)
        #expect(state.routes.filter { $0.table == numbers.table }.map(\.target) == [.unreachable, .unreachable])
        #expect(state.rules.count == 4)
        var firewall = try mesh.firewall(of: "ana")
        var leak = try packet("192.168.0.7", "198.51.100.9", out: "eth0")
        #expect(firewall.send(&leak) == .refused)
    }

    /// Packets to the tunnel's address that come in elsewhere are dropped, whoever sends them.
    @Test func theTunnelsAddressIsReachedByTheTunnelOnly() throws {
        var firewall = try topology().firewall(of: "ana")
        var forged = try packet("192.168.0.9", "10.80.1.7", in: "eth0")
        #expect(firewall.receive(&forged) == .dropped)
        var own = try packet("10.80.1.7", "10.80.1.7", in: "lo") { $0.isFromHere = true }
        #expect(firewall.receive(&own) == .accepted)
        var good = try packet("198.51.100.9", "10.80.1.7", in: "wg0")
        #expect(firewall.receive(&good) == .accepted)
        var other = try packet("192.168.0.9", "192.168.0.7", in: "eth0")
        #expect(firewall.receive(&other) == .accepted)
    }

    /// The mark goes from the tunnel's own packets to their connection and back to the answers; others' marks stay.
    @Test func answersGetTheTunnelsMark() throws {
        var firewall = try topology().firewall(of: "ana")
        var sent = try packet("192.168.0.7", "192.0.2.1", out: "eth0") { $0.mark = numbers.mark }
        #expect(firewall.send(&sent) == .accepted)
        #expect(sent.connectionMark == numbers.mark)
        var answer = try packet("192.0.2.1", "192.168.0.7", in: "eth0") { $0.connectionMark = numbers.mark }
        #expect(firewall.receive(&answer) == .accepted)
        #expect(answer.mark == numbers.mark)
        var foreign = try packet("192.0.2.1", "192.168.0.7", in: "eth0") {
            $0.connectionMark = 7
            $0.mark = 8
        }
        #expect(firewall.receive(&foreign) == .accepted)
        #expect(foreign.mark == 8 && foreign.connectionMark == 7)
        var stream = try packet("192.0.2.1", "192.168.0.7", in: "eth0") {
            $0.connectionMark = numbers.mark
            $0.transport = 6
        }
        #expect(firewall.receive(&stream) == .accepted)
        #expect(stream.mark == 0)
    }
}

@Suite struct KillSwitchTests {
    private let mark = MeshIdentity(mesh: "corp", interface: "wg0").routingNumbers.mark

    private func firewall(allow: String = "192.168.0.0/24, \"fd00:1::/64\"") throws -> ModelFirewall {
        try topology(client: "useExit: fra\n    killSwitch: {allow: [\(allow)]}").firewall(of: "ana")
    }

    /// Both families, whatever addresses the mesh has; out of the host and through it.
    @Test(arguments: [
        ("192.168.0.7", "198.51.100.9"), ("192.168.0.7", "192.168.1.1"), ("2001:db8::7", "2001:db8:9::1"),
        ("fe80::7", "fe80::8"), ("fd00:1::7", "fd00:1:0:1::1"), ("10.80.1.7", "198.51.100.9"),
    ])
    func nothingLeaks(source: String, destination: String) throws {
        var firewall = try firewall()
        for transport in [1, 6, 17, 58, 132] as [UInt8] {
            var own = try packet(source, destination, out: "eth0") { $0.transport = transport }
            #expect(firewall.send(&own) == .refused)
            var untracked = try packet(source, destination, out: "eth0") { $0.isTracked = false }
            #expect(firewall.send(&untracked) == .refused)
            var wrongMark = try packet(source, destination, out: "eth0") { $0.mark = mark ^ 1 }
            #expect(firewall.send(&wrongMark) == .refused)
            var container = try packet("172.17.0.2", "198.51.100.9", in: "docker0", out: "eth0")
            container.source = try ip(source)
            container.destination = try ip(destination)
            #expect(firewall.forward(&container) == .refused)
            container.isTracked = false
            #expect(firewall.forward(&container) == .refused)
        }
    }

    @Test func whatIsTunnelledPasses() throws {
        var firewall = try firewall()
        var tunnelled = try packet("10.80.1.7", "198.51.100.9", out: "wg0")
        #expect(firewall.send(&tunnelled) == .accepted)
        var carrier = try packet("192.168.0.7", "192.0.2.1", out: "eth0") { $0.mark = mark }
        #expect(firewall.send(&carrier) == .accepted)
        var container = try packet("172.17.0.2", "198.51.100.9", in: "docker0", out: "wg0")
        #expect(firewall.forward(&container) == .accepted)
        var back = try packet("198.51.100.9", "172.17.0.2", in: "wg0", out: "docker0")
        #expect(firewall.forward(&back) == .accepted)
    }

    @Test(arguments: [("192.168.0.7", "192.168.0.200"), ("fd00:1::7", "fd00:1::200")])
    func whatIsAllowedPasses(source: String, destination: String) throws {
        var firewall = try firewall()
        for isReply in [false, true] {
            var allowed = try packet(source, destination, out: "eth0") { $0.isReply = isReply }
            #expect(firewall.send(&allowed) == .accepted)
        }
        var forwarded = try packet("172.17.0.2", "192.168.0.200", in: "docker0", out: "eth0")
        #expect(firewall.forward(&forwarded) == .accepted)
        // A network that may be reached is no way out for those who live there.
        var router = try packet("192.168.0.200", "198.51.100.9", in: "eth1", out: "eth0")
        #expect(firewall.forward(&router) == .refused)
        var shut = try self.firewall(allow: "")
        var refused = try packet(source, destination, out: "eth0")
        #expect(shut.send(&refused) == .refused)
    }

    @Test func theHostItselfPasses() throws {
        var firewall = try firewall()
        var loopback = try packet("127.0.0.1", "127.0.0.1", out: "lo")
        #expect(firewall.send(&loopback) == .accepted)
        var own = try packet("192.168.0.7", "192.168.0.7", out: "eth0") { $0.isForHere = true }
        #expect(firewall.send(&own) == .accepted)
    }

    @Test func addressesAreStillGotAndNeighboursFound() throws {
        var firewall = try firewall()
        var dhcp = try packet("0.0.0.0", "255.255.255.255", out: "eth0") { $0.setPorts(68, 67) }
        #expect(firewall.send(&dhcp) == .accepted)
        var reversed = try packet("192.168.0.7", "198.51.100.9", out: "eth0") { $0.setPorts(67, 68) }
        #expect(firewall.send(&reversed) == .refused)
        var stream = try packet("192.168.0.7", "198.51.100.9", out: "eth0") {
            $0.setPorts(68, 67)
            $0.transport = 6
        }
        #expect(firewall.send(&stream) == .refused)
        var dhcp6 = try packet("fe80::7", "ff02::1:2", out: "eth0") { $0.setPorts(546, 547) }
        #expect(firewall.send(&dhcp6) == .accepted)
        for type in 0...255 as ClosedRange<UInt8> {
            var message = try packet("fe80::7", "ff02::1", out: "eth0") {
                $0.transport = 58
                $0.header = [type, 0, 0, 0]
            }
            #expect((firewall.send(&message) == .accepted) == [131, 132, 133, 135, 136, 143].contains(type))
        }
        var ping = try packet("192.168.0.7", "198.51.100.9", out: "eth0") {
            $0.transport = 1
            $0.header = [135, 0, 0, 0]
        }
        #expect(firewall.send(&ping) == .refused)
    }

    /// The table names the interface and nothing of it: it holds before the interface is there, and after.
    @Test func theSwitchIsTheSameWhateverTheAddresses() throws {
        let four = try topology(client: "useExit: fra\n    killSwitch: true").state(of: "ana").firewall
        let six = try topology(
            client: "useExit: fra\n    killSwitch: true", ranges: "\"fd80::/48\"",
            addresses: ("\"fd80::1\"", "\"fd80::7\"")
        ).state(of: "ana").firewall
        for chain in ["output", "forward"] {
            let (first, second) = (four?.chains.first { $0.name == chain }, six?.chains.first { $0.name == chain })
            #expect(first == second && first != nil)
        }
    }
}

@Suite struct ForwardingTests {
    @Test func anExitForwardsAndMasquerades() throws {
        let mesh = try topology(
            ranges: "10.80.0.0/16, \"fd80::/48\"", addresses: ("10.80.0.1, \"fd80::1\"", "10.80.1.7, \"fd80::7\""))
        let compilation = try mesh.compilation(of: "fra")
        let paths = compilation.desired.state.sysctls.map(\.path)
        #expect(paths == ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"])
        #expect(compilation.desired.flows == [.deliver, .forward, .listen(port: 51_820)])
        var firewall = try mesh.firewall(of: "fra")
        for (source, destination) in [("10.80.1.7", "198.51.100.9"), ("fd80::7", "2001:db8::9")] {
            var out = try packet(source, destination, in: "wg0", out: "eth0")
            #expect(firewall.forward(&out) == .accepted)
            #expect(out.isMasqueraded)
        }
        for (source, destination, way) in [
            ("10.80.1.7", "10.80.0.9", "wg0"), ("192.168.9.9", "198.51.100.9", "eth0"),
            ("10.80.1.7", "10.80.0.9", "eth0"), ("2001:db8::7", "2001:db8::9", "eth0"),
        ] {
            var kept = try packet(source, destination, in: "wg0", out: way)
            #expect(firewall.forward(&kept) == .accepted)
            #expect(!kept.isMasqueraded, "\(source) to \(destination) by \(way)")
        }
    }

    /// Addresses that are valid outside are nobody's to hide; and a private network behind a user of the exit is like the
    /// user itself.
    @Test func sourcesAreTheMeshsAndThoseBehindItsUsers() throws {
        let mesh = try topology(
            exit: "masquerade: true\n    allowedIPs: [192.168.3.0/24]",
            client: "useExit: fra\n    allowedIPs: [192.168.7.0/24, 203.0.113.0/24]",
            ranges: "10.80.0.0/16, \"2001:db8:80::/48\"",
            addresses: ("10.80.0.1, \"2001:db8:80::1\"", "10.80.1.7, \"2001:db8:80::7\""))
        var firewall = try mesh.firewall(of: "fra")
        for (source, destination, isHidden) in [
            ("192.168.7.9", "198.51.100.9", true), ("192.168.3.9", "198.51.100.9", true),
            ("203.0.113.9", "198.51.100.9", false), ("2001:db8:80::7", "2001:db8::9", false),
            ("10.80.1.7", "192.168.3.9", false),
        ] {
            var out = try packet(source, destination, in: "wg0", out: "eth0")
            #expect(firewall.forward(&out) == .accepted)
            #expect(out.isMasqueraded == isHidden, "\(source) to \(destination)")
        }
    }

    @Test func interfacesSourcesAndDestinationsNarrowIt() throws {
        let named = try topology(
            exit: "masquerade: {interfaces: [eth1, ens3]}\n    allowedIPs: [192.168.3.0/24]")
        var firewall = try named.firewall(of: "fra")
        for (destination, way, isHidden) in [
            ("192.168.3.9", "eth1", true), ("198.51.100.9", "ens3", true), ("198.51.100.9", "eth0", false),
            ("198.51.100.9", "eth11", false),
        ] {
            var out = try packet("10.80.1.7", destination, in: "wg0", out: way)
            #expect(firewall.forward(&out) == .accepted)
            #expect(out.isMasqueraded == isHidden, "\(destination) by \(way)")
        }
        let narrow = try topology(
            exit:
                "masquerade: {sources: [10.80.1.0/24, 10.80.1.7/32], destinations: [198.51.100.0/25, \"2001:db8::/32\"]}"
        )
        firewall = try narrow.firewall(of: "fra")
        for (source, destination, isHidden) in [
            ("10.80.1.7", "198.51.100.9", true), ("10.80.1.255", "198.51.100.127", true),
            ("10.80.2.0", "198.51.100.9", false), ("10.80.1.7", "198.51.100.128", false),
        ] {
            var out = try packet(source, destination, in: "wg0", out: "eth0")
            #expect(firewall.forward(&out) == .accepted)
            #expect(out.isMasqueraded == isHidden, "\(source) to \(destination)")
        }
        // Ranges that overlap are one element: nf_tables takes no others. IPv6 has no sources, so it has no sets.
        let sets = try #require(try narrow.state(of: "fra").firewall?.sets)
        #expect(sets.map(\.name) == ["nat-dst4", "nat-src4"])
        #expect(sets.last?.elements.count == 1)
    }

    @Test func segmentsFitIntoTheTunnel() throws {
        var firewall = try topology().firewall(of: "fra")
        for (flags, way, mss) in [
            (2, "wg0", 1380), (0x12, "wg0", 1380), (0x10, "wg0", nil), (6, "wg0", nil), (2, "eth0", nil),
        ] as [(UInt8, String, UInt16?)] {
            var segment = try packet("198.51.100.9", "10.80.1.7", in: "eth0", out: way) {
                $0.transport = 6
                $0.setPorts(443, 40_000, flags: flags)
            }
            #expect(firewall.forward(&segment) == .accepted)
            #expect(segment.writtenMSS == mss)
        }
    }

    /// With access rules, what is passed on and what is delivered goes by them, and by nothing else.
    @Test func accessRulesDecide() throws {
        let mesh = try topology(more: "access:\n  - {from: [ana], to: [internet], ports: [udp/4001]}")
        var firewall = try mesh.firewall(of: "fra")
        var good = try packet("10.80.1.7", "198.51.100.9", in: "wg0", out: "eth0")
        #expect(firewall.forward(&good) == .accepted)
        #expect(good.isMasqueraded)
        var reply = try packet("198.51.100.9", "10.80.1.7", in: "eth0", out: "wg0") {
            $0.setPorts(4001, 4000)
            $0.isReply = true
        }
        #expect(firewall.forward(&reply) == .accepted)
        var bad = try packet("10.80.1.7", "198.51.100.9", in: "wg0", out: "eth0") { $0.setPorts(4000, 22) }
        #expect(firewall.forward(&bad) == .refused)
        var delivered = try packet("10.80.1.7", "10.80.0.1", in: "wg0")
        #expect(firewall.receive(&delivered) == .refused)
        var carrier = try packet("198.51.100.7", "192.0.2.1", in: "eth0") { $0.setPorts(40_000, 51_820) }
        #expect(firewall.receive(&carrier) == .accepted)
        #expect(firewall.counts["access-refused"] == 2)
        // Who forwards nothing still refuses what is not for it.
        var client = try mesh.firewall(of: "ana")
        var through = try packet("10.80.0.1", "172.17.0.2", in: "wg0", out: "docker0")
        #expect(client.forward(&through) == .refused)
    }

    /// A source is trusted because WireGuard vouches for it: the same source by another interface is a forged one.
    @Test(arguments: [("10.80.1.7", "10.80.0.1", "10.80.1.9"), ("fd80::107", "fd80::1", "fd80::109")])
    func forgedSourcesGetNowhere(_ addresses: (peer: String, exit: String, other: String)) throws {
        let mesh = try topology(
            more: "access:\n  - {from: [ana, 192.168.7.0/24], to: [fra, 10.80.1.0/24, \"fd80::/64\"]}",
            ranges: "10.80.0.0/16, \"fd80::/48\"",
            addresses: ("10.80.0.1, \"fd80::1\"", "10.80.1.7, \"fd80::107\""))
        var firewall = try mesh.firewall(of: "fra")
        for (interface, verdict) in [("wg0", ModelFirewall.Verdict.accepted), ("eth0", .refused)] {
            var delivered = try packet(addresses.peer, addresses.exit, in: interface)
            #expect(firewall.receive(&delivered) == verdict)
            var passed = try packet(addresses.peer, addresses.other, in: interface, out: "wg0")
            #expect(firewall.forward(&passed) == verdict)
        }
        #expect(firewall.counts["access-refused"] == 2)
        // Its address in the mesh is not free to all by another way; what is permitted gets there.
        guard addresses.peer.contains(".") else { return }
        var stranger = try packet("198.51.100.9", "10.80.0.1", in: "eth0")
        #expect(firewall.receive(&stranger) == .refused)
        var known = try packet("192.168.7.9", "10.80.0.1", in: "eth1")
        #expect(firewall.receive(&known) == .accepted)
        var elsewhere = try packet("198.51.100.9", "192.0.2.1", in: "eth0")
        #expect(firewall.receive(&elsewhere) == .accepted)
    }

    /// A network behind the exit that holds the address of the exit's own endpoint: packets to the exit would go round in
    /// the tunnel. Of one that is written as an address, `weft check` tells.
    @Test func anEndpointInsideItsOwnTunnelIsRefused() throws {
        var facts = HostFacts()
        facts.resolvedNames = ["fra.example.net": [try ip("192.0.2.1")]]
        func refusals(_ network: String, _ endpoint: String = "") throws -> [String] {
            let lan = """
                  lan:
                    publicKey: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
                    addresses: [10.80.2.2]
                    allowedIPs: [\(network)]
                    \(endpoint)
                """
            return try topology(
                exit: "masquerade: true\n    hub: true", client: "useExit: fra\n\(lan)", endpoint: "fra.example.net"
            ).compilation(of: "ana", facts).refusals.map(\.message)
        }
        let message =
            "the endpoint of fra, 192.0.2.1:51820, lies in 192.0.2.0/24 behind lan, which this host reaches through fra: "
            + "packets to it would go round in the tunnel"
        #expect(try refusals("192.0.2.0/24") == [message])
        #expect(try refusals("192.0.3.0/24") == [])
        // Reached by itself, it carries them once more, and that is all.
        #expect(try refusals("192.0.2.0/24", "endpoint: 198.51.100.1") == [])
    }

    @Test func hostsThatNeedNoTableHaveNone() throws {
        let mesh = try topology(client: "connect: full")
        #expect(try mesh.state(of: "ana").firewall == nil)
        #expect(try mesh.compilation(of: "ana").desired.flows == [.deliver])
    }

    /// Where the mesh's routes are in no table that the kernel checks sources against, the strict check would drop all.
    @Test(arguments: [("off", true), ("1000", true), ("main", false)])
    func routesAsideNeedALooseCheck(table: String, isNeeded: Bool) throws {
        let mesh = try topology(client: "table: \(table)")
        let loose = Sysctl("net/ipv4/conf/wg0/rp_filter", "2")
        var facts = HostFacts()
        #expect(try mesh.compilation(of: "ana").hasOpenSysctls == isNeeded)
        facts.hasStrictReversePath = false
        #expect(try mesh.state(of: "ana", facts).sysctls.isEmpty)
        facts.hasStrictReversePath = true
        #expect(try mesh.state(of: "ana", facts).sysctls == (isNeeded ? [loose] : []))
        #expect(try mesh.compilation(of: "ana", facts).hasOpenSysctls == false)
        let tunnel = try topology(client: "useExit: fra\n    table: 1000")
        #expect(try tunnel.state(of: "ana", facts).sysctls.contains(loose) == false)
    }
}

@Suite struct HostDiagnosticsTests {
    @Test func anInterfaceThatIsNotThereIsRefused() throws {
        let mesh = try topology(exit: "masquerade: {interfaces: [ens3, eth0]}")
        #expect(try mesh.compilation(of: "fra").refusals.isEmpty)
        var facts = HostFacts()
        facts.interfaces = ["eth0", "eth1", "lo", "wg0"]
        let refusals = try mesh.compilation(of: "fra", facts).refusals
        #expect(refusals.map(\.message) == ["there is no interface ens3 here: nothing would be masqueraded"])
        #expect(refusals.first?.notes.map(\.message) == ["the interfaces of this host: eth0, eth1"])
        facts.interfaces?.insert("ens3")
        #expect(try mesh.compilation(of: "fra", facts).refusals.isEmpty)
    }

    @Test func aKernelWithoutNfTablesIsRefusedWhereSomethingHangsOnIt() throws {
        var facts = HostFacts()
        facts.hasFirewall = false
        let mesh = try topology(client: "useExit: fra\n    killSwitch: true")
        #expect(
            try mesh.compilation(of: "ana", facts).refusals.map(\.message) == [
                "this kernel has no nf_tables, and `killSwitch` needs it",
                "this kernel has no nf_tables, and `useExit` needs it",
            ])
        let site = try topology(client: "allowedIPs: [192.168.3.0/24]").compilation(of: "ana", facts)
        #expect(site.refusals.isEmpty && site.desired.state.firewall == nil)
        #expect(site.diagnostics.map(\.id) == ["host.no-nftables"])
        let plain = try topology(client: "connect: full").compilation(of: "ana", facts)
        #expect(plain.refusals.isEmpty && plain.diagnostics.isEmpty)
    }

    @Test(arguments: [
        ("198.51.100.9", true), ("192.168.0.9", false), ("10.80.0.1", false), ("127.0.0.1", false),
    ])
    func aSessionFromOutsideIsWarned(from: String, isWarned: Bool) throws {
        var facts = HostFacts()
        facts.session = try ip(from)
        facts.connectedNetworks = [.init(prefix: try prefix("192.168.0.0/24"), interface: "eth0")]
        #expect(
            try topology().compilation(of: "ana", facts).diagnostics.map(\.id) == (isWarned ? ["host.session"] : []))
        #expect(try topology().compilation(of: "fra", facts).diagnostics.isEmpty)
    }

    @Test func otherTunnelsThatAKillSwitchCutsOffAreNamed() throws {
        var facts = HostFacts()
        facts.otherTunnels = [
            .init(interface: "wg1", mesh: "lab", networks: [try prefix("10.90.0.0/16"), try prefix("fd90::/48")]),
            .init(interface: "wg2", networks: [try prefix("0.0.0.0/0")]), .init(interface: "wg3", networks: []),
        ]
        let found = try topology(client: "useExit: fra\n    killSwitch: true").compilation(of: "ana", facts).diagnostics
        #expect(found.map(\.id) == ["host.kill-switch-cuts-off", "host.kill-switch-cuts-off"])
        #expect(
            found.map(\.message) == [
                "the kill switch of ana refuses what goes out by wg1 (mesh lab): 10.90.0.0/16, fd90::/48",
                "the kill switch of ana refuses what goes out by wg2: its default route",
            ])
        let note = found.first?.notes.first?.message
        #expect(note?.contains("put 10.90.0.0/16, fd90::/48 into `killSwitch: {allow") == true)
        #expect(found.last?.notes.map { $0.message.contains("leak") } == [true])
        // What is allowed is not cut off, and without a kill switch nothing is.
        let allowed = "useExit: fra\n    killSwitch: {allow: [10.0.0.0/8, \"fd90::/48\"]}"
        #expect(
            try topology(client: allowed).compilation(of: "ana", facts).diagnostics.map(\.message) == [
                "the kill switch of ana refuses what goes out by wg2: its default route"
            ])
        #expect(try topology().compilation(of: "ana", facts).diagnostics.isEmpty)
    }

    @Test func nameServersAreSetAndDoubtful() throws {
        let mesh = try topology(client: "dns: {servers: [10.80.0.1, 9.9.9.9], domains: [corp.internal]}")
        var facts = HostFacts()
        facts.resolvers = []
        let compilation = try mesh.compilation(of: "ana", facts)
        #expect(
            compilation.desired.state.resolver
                == ResolverSetting(
                    interface: "wg0", servers: [try ip("10.80.0.1"), try ip("9.9.9.9")], domains: ["corp.internal"]))
        #expect(compilation.refusals.map(\.id) == ["host.no-resolver"])
        #expect(compilation.diagnostics.map(\.id) == ["host.dns-outside"])
        facts.resolvers = [.resolvconf]
        let tunnelled = try topology(client: "useExit: fra\n    dns: {servers: [9.9.9.9]}").compilation(
            of: "ana", facts)
        #expect(tunnelled.diagnostics.isEmpty)
    }
}
