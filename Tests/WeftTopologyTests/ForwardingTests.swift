// Hosts that pass packets on: forwarding, masquerading, clamping, access rules, and the tunnel's own endpoint.

import Testing
import WeftDiagnostics
import WeftModel
import WeftTestSupport

@testable import WeftTopology

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
        let sets = try #require(try narrow.hostState(of: "fra").firewall?.sets)
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
        #expect(try mesh.hostState(of: "ana").firewall == nil)
        #expect(try mesh.compilation(of: "ana").desired.flows == [.deliver])
    }

    /// The kernel asks the interface that an IPv4 packet comes in by; of IPv6 it asks the host.
    @Test func anInterfaceThatPassesNothingOnIsToldTo() throws {
        let mesh = try topology()
        var facts = HostFacts()
        facts.hasForwardingOff = true
        #expect(
            try mesh.hostState(of: "fra", facts).sysctls == [
                Sysctl("net/ipv4/ip_forward", "1"), Sysctl("net/ipv4/conf/wg0/forwarding", "1"),
            ])
        #expect(try !mesh.hostState(of: "ana", facts).sysctls.contains { $0.path.hasSuffix("forwarding") })
    }

    /// Where the mesh's routes are in no table that the kernel checks sources against, the strict check would drop all.
    @Test(arguments: [("off", true), ("1000", true), ("main", false)])
    func routesAsideNeedALooseCheck(table: String, isNeeded: Bool) throws {
        let mesh = try topology(client: "table: \(table)")
        let loose = Sysctl("net/ipv4/conf/wg0/rp_filter", "2")
        var facts = HostFacts()
        #expect(try mesh.compilation(of: "ana").hasOpenSysctls == isNeeded)
        facts.hasStrictReversePath = false
        #expect(try mesh.hostState(of: "ana", facts).sysctls.isEmpty)
        facts.hasStrictReversePath = true
        #expect(try mesh.hostState(of: "ana", facts).sysctls == (isNeeded ? [loose] : []))
        #expect(try mesh.compilation(of: "ana", facts).hasOpenSysctls == false)
        let tunnel = try topology(client: "useExit: fra\n    table: 1000")
        #expect(try tunnel.hostState(of: "ana", facts).sysctls.contains(loose) == false)
    }
}
