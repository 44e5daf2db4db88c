// What a kill switch lets through, and what it refuses, whatever addresses the host has.

import Testing
import WeftModel
import WeftTestSupport

@testable import WeftTopology

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

    /// A port that leads to a container is open to who is allowed, as one of the host's own is; and to nobody else.
    @Test(arguments: [
        ("192.168.0.200", "172.17.0.2", "198.51.100.9", "192.168.0.7"),
        ("fd00:1::200", "fd00:17::2", "2001:db8::9", "fd00:1::7"),
    ])
    func aPublishedPortIsOpenToWhoIsAllowed(
        _ allowed: String, _ container: String, _ stranger: String, _ here: String
    ) throws {
        var firewall = try firewall()
        func flow(_ source: String, to destination: String, from input: String, out output: String) throws
            -> (first: ModelPacket, answer: ModelPacket)
        {
            let original = ModelPacket.Tuple(try ip(source), 4000, try ip(here), 8080)
            let first = try packet(source, destination, in: input, out: output) { $0.original = original }
            let answer = try packet(destination, source, in: output, out: input) {
                $0.setPorts(4001, 4000)
                $0.isReply = true
                $0.original = original
            }
            return (first, answer)
        }
        var (first, answer) = try flow(allowed, to: container, from: "eth0", out: "docker0")
        #expect(firewall.forward(&first) == .accepted)
        #expect(firewall.forward(&answer) == .accepted)
        // One that was not sent to this host, or belongs to no flow; another who asks.
        first.original = nil
        #expect(firewall.forward(&first) == .refused)
        first.isTracked = false
        #expect(firewall.forward(&first) == .refused)
        (first, answer) = try flow(stranger, to: container, from: "eth0", out: "docker0")
        #expect(firewall.forward(&first) == .refused)
        #expect(firewall.forward(&answer) == .refused)
        // Nor do those who are allowed answer others.
        (first, answer) = try flow(stranger, to: allowed, from: "eth0", out: "eth0")
        #expect(firewall.forward(&answer) == .refused)
    }

    /// A source of the mesh's is a forged one by every other way, whatever `allow` holds.
    @Test func whoIsAllowedForgesNothing() throws {
        var firewall = try topology(
            client: "useExit: fra\n    killSwitch: {allow: [10.0.0.0/8]}", more: "access: []"
        ).firewall(of: "ana")
        for (source, verdict) in [("10.9.0.1", ModelFirewall.Verdict.accepted), ("10.80.0.1", .refused)] {
            var packet = try packet(source, "172.17.0.2", in: "eth0", out: "docker0")
            packet.original = .init(try ip(source), 4000, try ip("192.168.0.7"), 8080)
            #expect(firewall.forward(&packet) == verdict)
        }
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
            #expect((firewall.send(&message) == .accepted) == [131, 132, 133, 134, 135, 136, 143].contains(type))
        }
        var ping = try packet("192.168.0.7", "198.51.100.9", out: "eth0") {
            $0.transport = 1
            $0.header = [135, 0, 0, 0]
        }
        #expect(firewall.send(&ping) == .refused)
    }

    /// A router gives addresses to those behind it, who have none yet: to their link, and to nobody farther away.
    @Test(
        arguments: [
            ("192.168.0.7", "255.255.255.255", 67, true), ("192.168.0.7", "255.255.255.254", 67, false),
            ("192.168.0.7", "169.254.0.9", 67, false), ("fe80::7", "fe80::9", 547, true),
            ("fe80::7", "febf:1::9", 547, true),
            ("fe80::7", "fec0::9", 547, false), ("fe80::7", "ff02::1", 547, false),
            ("fd00:2::7", "2001:db8::9", 547, false),
        ] as [(String, String, UInt16, Bool)])
    func addressesAreGiven(source: String, destination: String, server: UInt16, passes: Bool) throws {
        var firewall = try firewall()
        var offer = try packet(source, destination, out: "eth1") { $0.setPorts(server, server == 67 ? 68 : 546) }
        #expect(firewall.send(&offer) == (passes ? .accepted : .refused))
        for (sourcePort, destinationPort) in [(server, server), (server, 4001), (4000, server == 67 ? 68 : 546)] {
            var other = try packet(source, destination, out: "eth1") { $0.setPorts(sourcePort, destinationPort) }
            #expect(firewall.send(&other) == .refused)
        }
        var stream = offer
        stream.transport = 6
        #expect(firewall.send(&stream) == .refused)
        var passedOn = offer
        passedOn.inputInterface = "docker0"
        #expect(firewall.forward(&passedOn) == .refused)
    }

    /// The table names the interface and nothing of it: it holds before the interface is there, and after.
    @Test func theSwitchIsTheSameWhateverTheAddresses() throws {
        let four = try topology(client: "useExit: fra\n    killSwitch: true").hostState(of: "ana").firewall
        let six = try topology(
            client: "useExit: fra\n    killSwitch: true", ranges: "\"fd80::/48\"",
            addresses: ("\"fd80::1\"", "\"fd80::7\"")
        ).hostState(of: "ana").firewall
        for chain in ["output", "forward"] {
            let (first, second) = (four?.chains.first { $0.name == chain }, six?.chains.first { $0.name == chain })
            #expect(first == second && first != nil)
        }
    }
}
