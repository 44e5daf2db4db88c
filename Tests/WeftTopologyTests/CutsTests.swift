// What a change would cut off: sessions, git remotes and name servers, judged from what a topology compiles to.

import Testing
import WeftModel
import WeftPlan
import WeftTestSupport

@testable import WeftTopology

@Suite struct CutsTests {
    private let mesh = MeshIdentity(mesh: "corp", interface: "wg0")
    /// A default route, and the network that the host is in.
    private let far = Guarded.Way(interface: "eth0", length: 0, table: 254)
    private let near = Guarded.Way(interface: "eth0", length: 24, table: 254)
    private let sites = "connect: full\n    allowedIPs: [192.168.3.0/24]"

    private func cuts(
        _ guarded: Guarded, of node: String = "ana", from live: Topology?, to desired: Topology
    ) throws -> [Cut] {
        let after = try desired.compilation(of: node).desired
        return Cut.all(
            [guarded], from: try live?.hostState(of: node) ?? HostState(), to: after.state, of: mesh,
            names: after.peerNames)
    }

    private func session(_ remote: String, to local: String = "192.168.0.7", by way: Guarded.Way?) throws -> Guarded {
        Guarded(
            .session, SocketAddress(try ip(remote), port: 40_022), local: SocketAddress(try ip(local), port: 22),
            beside: way)
    }

    private func plain() throws -> Topology { try topology(client: "connect: full") }

    @Test func aFullTunnelCutsWhoComesFromFarAway() throws {
        let found = try cuts(session("198.51.100.9", by: far), from: plain(), to: topology())
        #expect(found.map(\.today) == ["eth0"])
        #expect(found.map(\.then) == ["its answers would go into the tunnel to fra, by 0.0.0.0/0"])
        // The host's own network is reached as before.
        #expect(try cuts(session("192.168.0.9", by: near), from: plain(), to: topology()).isEmpty)
        // So is who comes over the mesh.
        #expect(
            try cuts(session("10.80.0.1", to: "10.80.1.7", by: nil), from: plain(), to: topology()).isEmpty)
    }

    @Test func whatIsSoAlreadyIsNoChange() throws {
        #expect(try cuts(session("198.51.100.9", by: far), from: topology(), to: topology()).isEmpty)
    }

    @Test func aKillSwitchCutsAlsoWhoIsNear() throws {
        let shut = try topology(client: "useExit: fra\n    killSwitch: true")
        #expect(
            try cuts(session("192.168.0.9", by: near), from: plain(), to: shut).map(\.then) == [
                "the kill switch would refuse it"
            ])
        let open = try topology(client: "useExit: fra\n    killSwitch: {allow: [192.168.0.0/24]}")
        #expect(try cuts(session("192.168.0.9", by: near), from: plain(), to: open).isEmpty)
        let server = Guarded(.resolver, SocketAddress(try ip("192.168.0.1"), port: 53), beside: near)
        #expect(try cuts(server, from: plain(), to: shut).count == 1)
        #expect(try cuts(server, from: plain(), to: open).isEmpty)
        // It is so already.
        #expect(try cuts(server, from: shut, to: shut).isEmpty)
    }

    /// What a kill switch allows goes by the host's own default route.
    @Test func whoIsAllowedStaysFromFarAwayToo() throws {
        let session = try session("198.51.100.9", by: far)
        let open = try topology(client: "useExit: fra\n    killSwitch: {allow: [198.51.100.0/24]}")
        #expect(try cuts(session, from: plain(), to: open).isEmpty)
        let other = try topology(client: "useExit: fra\n    killSwitch: {allow: [198.51.101.0/24]}")
        let cut = try #require(try cuts(session, from: plain(), to: other).first)
        #expect(cut.remedy.hasSuffix("or put its network into `killSwitch: {allow: […]}`"))
        #expect(try cuts(session, from: open, to: other).count == 1)
    }

    @Test func aNetworkThatCapturesTheWayCuts() throws {
        let captured = try topology(exit: "allowedIPs: [203.0.113.0/24]", client: "connect: full")
        for kind in Guarded.Kind.allCases {
            var one = try session("203.0.113.5", by: far)
            one.kind = kind
            if kind != .session { one.local = nil }
            let found = try cuts(one, from: plain(), to: captured)
            #expect(found.count == 1, "\(kind)")
            #expect(found.first?.then.hasSuffix("into the tunnel to fra, by 203.0.113.0/24") == true)
            // A route of the host's own that is as narrow stays.
            one.beside = near
            #expect(try cuts(one, from: plain(), to: captured).isEmpty, "\(kind)")
        }
    }

    @Test func whatIsMeantToMoveIntoAnExitMoves() throws {
        let git = Guarded(.git, SocketAddress(try ip("198.51.100.9"), port: 22), beside: far)
        #expect(try cuts(git, from: plain(), to: topology()).isEmpty)
        // A private address is another host there.
        let server = Guarded(.resolver, SocketAddress(try ip("10.0.0.2"), port: 53), beside: far)
        #expect(try cuts(server, from: plain(), to: topology()).map(\.guarded.kind) == [.resolver])
    }

    @Test func aNodeThatGoesCutsWhoComesThroughIt() throws {
        let reached = try topology(exit: "allowedIPs: [192.168.3.0/24]", client: "connect: full")
        let one = try session("192.168.3.9", to: "10.80.1.7", by: nil)
        let found = try cuts(one, from: reached, to: plain())
        #expect(found.map(\.today) == ["the tunnel to fra"])
        #expect(found.map(\.then) == ["it would have no route"])
        let gone = try topology(exit: "disabled: true", client: "connect: full")
        let node = try session("10.80.0.1", to: "10.80.1.7", by: nil)
        #expect(
            try cuts(node, from: plain(), to: gone).map(\.then) == [
                "no node would have it any more: 10.80.0.0/16 is unreachable"
            ])
        // All of it goes.
        let away = Cut.all([node], from: try plain().hostState(of: "ana"), to: HostState(), of: mesh, names: [:])
        #expect(away.count == 1)
    }

    @Test func anAccessRuleThatRefusesThePortCuts() throws {
        let one = try session("10.80.1.7", to: "10.80.0.1", by: nil)
        func rules(_ ports: String) throws -> Topology {
            try topology(client: "connect: full", more: "access: [{from: [ana], to: [fra], ports: [\(ports)]}]")
        }
        #expect(try cuts(one, of: "fra", from: plain(), to: rules("tcp/22")).isEmpty)
        let found = try cuts(one, of: "fra", from: plain(), to: rules("tcp/443"))
        #expect(found.map(\.then) == ["the mesh's own rules would refuse it (all else is refused): TCP port 22"])
    }

    @Test func whatIsNotThereTodayCannotBeCut() throws {
        let shut = try topology(client: "useExit: fra\n    killSwitch: true")
        #expect(try cuts(session("198.51.100.9", by: far), from: shut, to: shut).isEmpty)
        #expect(try cuts(session("10.80.9.9", to: "10.80.1.7", by: nil), from: plain(), to: shut).isEmpty)
    }

    /// What a packet's way through the table is, told twice: by the plan, and by the model of the kernel.
    @Test func rulesMeanWhatTheKernelsModelSays() throws {
        let tables = [
            try topology(client: "useExit: fra\n    killSwitch: {allow: [192.168.0.0/24, \"fd00::/16\"]}"),
            try topology(
                exit: "masquerade: true", client: "connect: full",
                more: "access: [{from: [ana], to: [fra, internet], ports: [tcp/22, udp/53, icmp]}]"),
        ].flatMap { mesh in ["fra", "ana"].compactMap { try? mesh.hostState(of: $0).firewall } }
        #expect(tables.count == 4)
        var generator = SeededGenerator(seed: 4)
        let addresses = try [
            "10.80.0.1", "10.80.1.7", "192.168.0.9", "198.51.100.9", "fd00::9", "2001:db8::9",
        ].map(ip)
        var refused = 0
        for round in 0..<4000 {
            let source = addresses.randomElement(using: &generator) ?? addresses[0]
            guard let destination = addresses.filter({ $0.family == source.family }).randomElement(using: &generator)
            else { continue }
            let (transport, interface) = (
                ([6, 17] as [UInt8]).randomElement(using: &generator) ?? 6,
                ["wg0", "eth0", "lo"].randomElement(using: &generator) ?? ""
            )
            let ports = [22, 53, 443, 40_000].shuffled(using: &generator)
            let (isReply, comesIn) = (Bool.random(using: &generator), Bool.random(using: &generator))
            var packet = FirewallPacket(
                from: source, to: destination, transport: transport, sourcePort: UInt16(ports[0]),
                destinationPort: UInt16(ports[1]), input: comesIn ? interface : nil, output: comesIn ? nil : interface)
            (packet.isReply, packet.isEstablished) = (isReply, isReply)
            var model = ModelPacket(source, destination)
            model.transport = transport
            model.setPorts(UInt16(ports[0]), UInt16(ports[1]))
            model.inputInterface = packet.input ?? ""
            model.outputInterface = packet.output ?? ""
            model.isReply = isReply
            model.state = isReply ? 2 : 8
            let table = tables[round % tables.count]
            var oracle = ModelFirewall(table)
            let hooks: [FirewallChain.Base.Hook] = comesIn ? [.prerouting, .input] : [.output]
            let passes = hooks.allSatisfy { table.refusal(of: packet, at: $0) == nil }
            let expected = comesIn ? oracle.receive(&model) : oracle.run(&model, .output)
            #expect(passes == (expected == .accepted), "\(packet)")
            if !passes { refused += 1 }
        }
        #expect(refused > 400 && refused < 3600)
    }
}
