// What is said of one host: what it lacks for its part in the mesh, and what is doubtful.

import Testing
import WeftDiagnostics
import WeftModel

@testable import WeftTopology

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

    /// A kill switch that waits for something else is open meanwhile.
    @Test func whatAHostLacksDoesNotKeepItsKillSwitchOpen() throws {
        var facts = HostFacts()
        (facts.interfaces, facts.resolvers) = (["eth0", "lo"], [])
        let client = "useExit: fra\n    allowedIPs: [192.168.3.0/24]\n    masquerade: {interfaces: [br0]}\n    "
        let rest = "dns: {servers: [10.80.0.1]}"
        let open = try topology(client: client + rest).compilation(of: "ana", facts)
        #expect(open.refusals.map(\.id) == ["host.no-interface", "host.no-resolver"])
        let shut = try topology(client: client + "killSwitch: {allow: [192.168.3.0/24]}\n    " + rest)
        let compilation = try shut.compilation(of: "ana", facts)
        #expect(compilation.refusals.isEmpty)
        let lacking = compilation.diagnostics.filter { ["host.no-interface", "host.no-resolver"].contains($0.id) }
        #expect(lacking.map(\.severity) == [.warning, .warning])
        #expect(lacking.allSatisfy { $0.notes.last?.message.hasPrefix("the kill switch does not wait") == true })
        let state = compilation.desired.state
        #expect(state.firewall?.isShut == true && state.resolver != nil)
        // As it will be with all of it there.
        facts.interfaces?.insert("br0")
        #expect(try shut.compilation(of: "ana", facts).desired.state == state)
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

    @Test(arguments: [
        (
            // Of the same length as the range: its metric is worse than any.
            "10.80.0.0/16", "10.80.0.1/32, 10.80.0.9/32 and the mesh's range 10.80.0.0/16 overlap",
            [
                "packets to 10.80.0.1/32 and 10.80.0.9/32 would go into the mesh, and no longer to eth0",
                "packets to the rest of 10.80.0.0/16 still go to eth0",
            ]
        ),
        (
            // The range lies in it: the network's addresses there are cut off.
            "10.0.0.0/8", "10.80.0.1/32, 10.80.0.9/32, 10.90.0.0/16 and 1 more overlap",
            [
                "packets to 10.80.0.1/32, 10.80.0.9/32 and 10.90.0.0/16 would go into the mesh, and no longer to eth0",
                "packets to the rest of 10.80.0.0/16 would be refused as unreachable, and no longer go to eth0",
            ]
        ),
        // It lies in the range, and no node is there.
        (
            "10.80.0.128/25", "the mesh's range 10.80.0.0/16 overlaps",
            ["packets to 10.80.0.128/25 still go to eth0"]
        ),
        // It lies in the range, and a node too.
        (
            "10.80.0.8/29", "10.80.0.9/32 and the mesh's range 10.80.0.0/16 overlap",
            [
                "packets to 10.80.0.9/32 would go into the mesh, and no longer to eth0",
                "packets to the rest of 10.80.0.8/29 still go to eth0",
            ]
        ),
        (
            "10.90.7.0/24", "10.90.0.0/16 overlaps",
            ["packets to 10.90.7.0/24 still go to eth0, and the rest of 10.90.0.0/16 into the mesh"]
        ),
        (
            "10.90.0.0/16", "10.90.0.0/16 overlaps",
            [
                "packets to 10.90.0.0/16 go by the route with the lower metric, and the mesh's has 0: where that of eth0 has "
                    + "0 too, the mesh's cannot be made"
            ]
        ),
    ])
    func whatOverlapsAConnectedNetworkIsNamed(network: String, message: String, notes: [String]) throws {
        var facts = HostFacts()
        facts.connectedNetworks = [.init(prefix: try prefix(network), interface: "eth0")]
        let bob = """
              bob:
                publicKey: cJ3bS22/vO2/CTfx+EGVKEjRBfuO+OO7vaaK0PLCmGw=
                addresses: [10.80.0.9]
                endpoint: 192.0.2.9
                allowedIPs: [10.90.0.0/16]
            """.replacing("cJ3bS22/vO2/CTfx", with: "dJ3bS22/vO2/CTfx")
        let found = try topology(client: "connect: full", more: bob).compilation(of: "ana", facts).diagnostics
        let overlap = try #require(found.first { $0.id == "host.overlaps-connected" })
        #expect(overlap.message == "\(message) \(network), which this host is connected to by eth0")
        #expect(overlap.notes.map(\.message) == notes)
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
        let idle = try topology(
            exit: "masquerade: true\n    disabled: true", client: "useExit: fra\n    dns: {servers: [9.9.9.9]}"
        ).compilation(of: "ana", facts)
        let outside = try #require(idle.diagnostics.first { $0.id == "host.dns-outside" })
        #expect(
            outside.message
                == "the name server 9.9.9.9 would be asked through the exit fra, and never answer: the exit is disabled, has "
                + "expired or has no direct link")
        #expect(outside.notes.map(\.message) == ["put the exit right, or name another one with `useExit`"])
    }

    /// Facts of a host in 192.168.1.0/24 and fd01::/64.
    private func atHome(_ resolver: ResolverKind) throws -> HostFacts {
        var facts = HostFacts()
        facts.resolvers = [resolver]
        facts.connectedNetworks = [
            .init(prefix: try prefix("192.168.1.0/24"), interface: "eth0", addresses: [try ip("192.168.1.5")]),
            .init(prefix: try prefix("fd01::/64"), interface: "eth0"),
        ]
        return facts
    }

    @Test(arguments: [("192.168.1.1", "192.168.1.0/24"), ("fd01::1", "fd01::/64")])
    func aNameServerThatTheKillSwitchRefusesIsNamed(server: String, network: String) throws {
        func found(_ client: String, more: String = "") throws -> [Diagnostic] {
            let mesh = try topology(client: "dns: {servers: [\"\(server)\"]}\n    \(client)", more: more)
            return try mesh.compilation(of: "ana", atHome(.resolvconf)).diagnostics
        }
        let refused = try found("useExit: fra\n    killSwitch: true")
        #expect(refused.map(\.id) == ["host.dns-refused"])
        #expect(
            refused.first?.message
                == "the name server \(server) is in \(network), which this host is connected to by eth0: the kill switch of ana "
                + "refuses it")
        #expect(
            refused.first?.notes.map(\.message) == [
                "put \(server) or its network into `killSwitch: {allow: […]}`, or name a server that is reached through the "
                    + "tunnel"
            ])
        #expect(try found("useExit: fra\n    killSwitch: {allow: [\"\(network)\"]}").isEmpty)
        #expect(try !found("useExit: fra\n    killSwitch: {allow: [192.168.2.0/24]}").isEmpty)
        // Without a kill switch it answers, with an exit and without one.
        #expect(try found("useExit: fra").isEmpty)
        #expect(try found("connect: full").isEmpty)
    }

    @Test func aNameServerThatIsNotBesideTheTunnelIsNotRefused() throws {
        let killSwitch = "useExit: fra\n    killSwitch: true"
        func found(_ server: String, _ network: String, _ table: String = "") throws -> [String] {
            let gate = """
                  gate:
                    publicKey: dJ3bS22/vO2/CTfx+EGVKEjRBfuO+OO7vaaK0PLCmGw=
                    addresses: [10.80.0.9]
                    endpoint: 192.0.2.9
                    allowedIPs: [\(network)]
                """
            let client = "\(killSwitch)\n    dns: {servers: [\(server)]}\(table)"
            return try topology(client: client, more: gate).compilation(of: "ana", atHome(.resolvconf)).diagnostics
                .map(\.id).filter { $0.hasPrefix("host.dns") }
        }
        // Through the exit, the host's own, and in a network of the mesh whose route is the longer one.
        #expect(try found("192.168.2.1", "10.90.0.0/16").isEmpty)
        #expect(try found("192.168.1.5", "10.90.0.0/16").isEmpty)
        #expect(try found("192.168.1.1", "192.168.1.0/25").isEmpty)
        #expect(try found("192.168.1.1", "192.168.0.0/16") == ["host.dns-refused"])
        // The tunnel's own table comes after the main one.
        #expect(try found("192.168.1.1", "192.168.1.0/25", "\n    table: 777") == ["host.dns-refused"])
    }

    /// systemd-resolved binds its questions to the link: what is allowed past the tunnel is of no account to them.
    @Test func systemdResolvedAsksThroughTheTunnel() throws {
        func found(_ server: String, _ client: String) throws -> [Diagnostic] {
            let mesh = try topology(client: "dns: {servers: [\(server)]}\n    useExit: fra\n    \(client)")
            return try mesh.compilation(of: "ana", atHome(.resolved)).diagnostics
        }
        for client in ["connect: full", "killSwitch: true", "killSwitch: {allow: [192.168.1.0/24]}"] {
            let outside = try found("192.168.1.1", client)
            #expect(outside.map(\.id) == ["host.dns-outside"])
            #expect(
                outside.first?.message
                    == "the name server 192.168.1.1 is in 192.168.1.0/24, which this host is connected to by eth0, and would be "
                    + "looked for through the exit: systemd-resolved asks by wg0 alone")
            for server in ["9.9.9.9", "192.168.1.5", "10.80.0.1", "127.0.0.1"] {
                #expect(try found(server, client).isEmpty)
            }
        }
    }

    /// 60 bytes around what a packet carries over IPv4, and 80 over IPv6.
    @Test(arguments: [("192.0.2.1", UInt32(1440)), ("\"[2001:db8::1]\"", 1420)])
    func anMTULargerThanThePathIsNamed(endpoint: String, largest: UInt32) throws {
        var facts = HostFacts()
        facts.linkMTU = 1420
        for (mtu, isTooLarge) in [(largest - 100, false), (largest, false), (largest + 1, true)] {
            let mesh = try topology(client: "mtu: \(mtu)", endpoint: endpoint)
            let found = try mesh.compilation(of: "ana", facts)
            #expect(found.diagnostics.map(\.id) == (isTooLarge ? ["host.mtu-too-large"] : []))
            #expect(found.desired.state.link?.mtu == mtu, "what is written holds")
            #expect(try mesh.compilation(of: "ana").diagnostics.isEmpty, "nothing is known of the path")
        }
    }

    /// resolvconf has one list of servers, for all names.
    @Test func resolvconfSplitsNoNames() throws {
        let mesh = try topology(client: "dns: {servers: [10.80.0.1], domains: [~corp.internal, lab.example]}")
        let domains = ["~corp.internal", "lab.example"]
        var facts = HostFacts()
        for resolvers in [nil, [.resolved], [.resolved, .resolvconf]] as [[ResolverKind]?] {
            facts.resolvers = resolvers
            let split = try mesh.compilation(of: "ana", facts)
            #expect(split.diagnostics.isEmpty)
            #expect(split.desired.state.resolver?.domains == domains)
            #expect(split.desired.state.resolver?.isForAllNames == false)
        }
        facts.resolvers = [.resolvconf]
        let whole = try mesh.compilation(of: "ana", facts)
        #expect(whole.diagnostics.map(\.id) == ["host.dns-not-split"])
        #expect(whole.desired.state.resolver?.domains == ["lab.example"])
        #expect(whole.desired.state.resolver?.isForAllNames == true)
        let searched = try topology(client: "dns: {servers: [10.80.0.1], domains: [lab.example]}")
        #expect(try searched.compilation(of: "ana", facts).diagnostics.isEmpty)
    }
}
