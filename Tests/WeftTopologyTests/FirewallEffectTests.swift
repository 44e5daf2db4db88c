// What a change of a host's table takes from connections that run, judged from what topologies compile to.

import Testing
import WeftModel
import WeftPlan
import WeftTestSupport

@testable import WeftTopology

@Suite struct FirewallEffectTests {
    private let mesh = MeshIdentity(mesh: "corp", interface: "wg0")
    private let untunnelled = "connections outside the tunnel"
    private let unpermitted = "connections that no access rule permits"
    private let forged = "connections from the mesh's addresses by another way"
    private let guarded = "connections to the mesh's addresses by another way"
    private let beMasqueraded = "connections that are to be masqueraded"

    private func planned(from live: HostState, to desired: HostState) -> PlannedOperation? {
        let wanted = DesiredState(mesh: "corp", interface: "wg0", node: "ana", state: desired)
        let plan = Plan(
            mesh: mesh, desired: wanted, observed: Observation(state: live, time: now), memory: MeshMemory())
        return plan.operations.first { $0.operation.kind == .firewall }
    }

    /// `hitless`, or what ends; empty where the table stays as it is.
    private func effect(from live: HostState, to desired: HostState) -> String {
        guard let planned = planned(from: live, to: desired) else { return "" }
        #expect(planned.effect == (planned.effectScope.isEmpty ? .hitless : .outage))
        return planned.effectScope.isEmpty ? "hitless" : planned.effectScope
    }

    private func effect(of node: String = "ana", from live: Topology, to desired: Topology) throws -> String {
        effect(from: try live.hostState(of: node), to: try desired.hostState(of: node))
    }

    // MARK: Whose a table is

    @Test func noTableOfWeftsIsForeign() throws {
        let names =
            FirewallDraft.Chain.allCases.map(\.rawValue)
            + [AccessPolicy.chainName, AccessPolicy.inChainName, AccessPolicy.outChainName]
        #expect(Set(names) == Firewall.chainNames)
        var own = try #require(try shut().hostState(of: "ana").firewall)
        #expect(!own.isForeign)
        let stranger = FirewallChain("zz", base: .init(.filter, .input, priority: 5, dropsByDefault: true))
        own.chains.append(stranger)
        #expect(!own.isForeign)
        #expect(Firewall(chains: [stranger]).isForeign)
        #expect(Firewall(chains: [FirewallChain("input", base: stranger.base)]).isForeign)
        #expect(!Firewall().isForeign)
    }

    // MARK: Kill switch

    private func shut(_ allow: String? = nil) throws -> Topology {
        try topology(client: "useExit: fra\n    killSwitch: \(allow.map { "{allow: [\($0)]}" } ?? "true")")
    }

    @Test func aKillSwitchThatComesEndsWhatIsNotTunnelled() throws {
        #expect(try effect(from: topology(), to: shut()) == untunnelled)
        #expect(try effect(from: shut(), to: topology()) == "hitless")
        // The host has not even the interface.
        let bare = HostState()
        #expect(try effect(from: bare, to: shut().hostState(of: "ana")) == untunnelled)
        #expect(try effect(from: bare, to: topology().hostState(of: "ana")) == "hitless")
    }

    @Test func whatAKillSwitchAllowsMayGrowButNotShrink() throws {
        let (none, some, more) = (try shut(), try shut("192.0.2.0/24"), try shut("192.0.2.0/24, 198.51.100.0/24"))
        #expect(try effect(from: none, to: some) == "hitless")
        #expect(try effect(from: some, to: more) == "hitless")
        #expect(try effect(from: more, to: some) == untunnelled)
        #expect(try effect(from: some, to: none) == untunnelled)
        // The same network in other words.
        #expect(try effect(from: some, to: shut("192.0.2.0/25, 192.0.2.128/25")) == "")
        #expect(try effect(from: shut("192.0.0.0/16"), to: some) == untunnelled)
        #expect(try effect(from: some, to: shut("192.0.0.0/16")) == "hitless")
    }

    // MARK: Access rules

    private func ruled(_ rules: String..., nodes: String = "") throws -> Topology {
        let access = rules.isEmpty ? "access: []" : "access:\n" + rules.map { "  - \($0)" }.joined(separator: "\n")
        return try topology(client: "connect: full", more: nodes + access.replacing("\n", with: "\n        "))
    }

    private let web = "{from: [fra], to: [ana], ports: [tcp/80]}"
    private let both = "{from: [fra], to: [ana], ports: [tcp/80, tcp/443]}"
    private let all = "{from: [fra], to: [ana]}"

    @Test func accessThatIsIntroducedEndsWhatIsNotPermitted() throws {
        let open = try topology(client: "connect: full")
        #expect(try effect(from: open, to: ruled()) == "\(unpermitted), \(forged)")
        #expect(try effect(from: open, to: ruled(all)) == "\(unpermitted), \(forged)")
        #expect(try effect(from: ruled(web), to: open) == "hitless")
        // Nothing runs through an interface that is not there.
        #expect(try effect(from: HostState(), to: ruled(web).hostState(of: "ana")) == "hitless")
    }

    @Test func aRuleThatIsTakenBackEndsWhatOnlyItPermitted() throws {
        #expect(try effect(from: ruled(web), to: ruled(both)) == "hitless")
        #expect(try effect(from: ruled(web), to: ruled(all)) == "hitless")
        #expect(try effect(from: ruled(), to: ruled(web)) == "hitless")
        #expect(try effect(of: "fra", from: ruled(), to: ruled(web)) == "hitless")
        #expect(
            try effect(from: ruled(both), to: ruled(web))
                == "connections that only the access rule \"fra → ana: tcp/80, tcp/443\" permitted")
        #expect(
            try effect(from: ruled(web), to: ruled())
                == "connections that only the access rule \"fra → ana: tcp/80\" permitted")
        #expect(
            try effect(from: ruled(all), to: ruled(web))
                == "connections that only the access rule \"fra → ana\" permitted")
        #expect(
            try effect(from: ruled(web, "{from: [ana], to: [fra]}"), to: ruled())
                == "connections that only the access rules \"ana → fra\", \"fra → ana: tcp/80\" permitted")
        let pings = "{from: [fra], to: [ana], ports: [icmp]}"
        #expect(try effect(from: ruled(pings), to: ruled(all)) == "hitless")
        #expect(
            try effect(from: ruled(all), to: ruled(pings))
                == "connections that only the access rule \"fra → ana\" permitted")
        // Another rule has it too.
        #expect(try effect(from: ruled(web, all), to: ruled(all)) == "hitless")
        #expect(try effect(from: ruled(web, both), to: ruled(both)) == "hitless")
    }

    @Test func aNetworkThatBecomesTheMeshsIsItsAlone() throws {
        func behind(_ networks: String) throws -> Topology {
            try topology(exit: "allowedIPs: [\(networks)]", client: "connect: full", more: "access: []")
        }
        #expect(try effect(from: behind("10.1.0.0/16"), to: behind("10.1.0.0/16, 10.2.0.0/16")) == forged)
        #expect(try effect(from: behind("10.1.0.0/16, 10.2.0.0/16"), to: behind("10.2.0.0/16")) == "hitless")
        #expect(try effect(from: behind("10.2.0.0/15"), to: behind("10.2.0.0/16")) == "hitless")
    }

    @Test func whoHasNoControllerYetIsNobodysPeer() throws {
        let phone = """
            eve:
                publicKey: OAJRvMBjc7Bwvb0pyVmXG4tV2kTnrCW1X2rqYHZqsB0=
                addresses: [10.80.1.8]
                unmanaged: true

            """
        let with = try ruled(web, nodes: "  " + phone)
        #expect(try effect(of: "fra", from: ruled(web), to: with) == "hitless")
        // She is a peer already, and to be judged from now on.
        var live = try with.hostState(of: "fra")
        live.firewall = try ruled(web).hostState(of: "fra").firewall
        #expect(effect(from: live, to: try with.hostState(of: "fra")) == unpermitted)
    }

    // MARK: Masquerading

    @Test func masqueradingBeginsAndEndsWithItsFirstAndLastRule() throws {
        let (plain, lan) = (try topology(exit: ""), try topology(exit: "masquerade: {sources: [10.80.1.0/24]}"))
        #expect(try effect(of: "fra", from: plain, to: lan) == beMasqueraded)
        #expect(try effect(of: "fra", from: lan, to: plain) == "masqueraded connections")
        #expect(try effect(of: "fra", from: lan, to: topology()) == "hitless")
        #expect(try effect(of: "fra", from: lan, to: topology(exit: "masquerade: {interfaces: [eth1]}")) == "hitless")
        // With the table it ends too.
        var bare = try plain.hostState(of: "fra")
        bare.firewall = nil
        #expect(effect(from: try lan.hostState(of: "fra"), to: bare) == "masqueraded connections")
    }

    // MARK: Drift

    /// The state with its table changed by somebody's hand.
    private func tampered(
        _ topology: Topology, _ node: String = "ana", _ change: (inout Firewall) -> Void
    ) throws -> (live: HostState, desired: HostState) {
        let desired = try topology.hostState(of: node)
        var live = desired
        var firewall = try #require(desired.firewall)
        change(&firewall)
        live.firewall = firewall
        return (live, desired)
    }

    private func repair(
        _ topology: Topology, _ node: String = "ana", _ change: (inout Firewall) -> Void
    ) throws -> String {
        let (live, desired) = try tampered(topology, node, change)
        return effect(from: live, to: desired)
    }

    @Test func aRepairIsJudgedByWhatItTakes() throws {
        // What refused was deleted.
        #expect(try repair(shut()) { $0.chains.removeAll { $0.name == "output" } } == untunnelled)
        #expect(
            try repair(ruled(web)) { firewall in
                for index in firewall.chains.indices where firewall.chains[index].name == "access" {
                    firewall.chains[index].rules.removeLast()
                }
            } == unpermitted)
        #expect(try repair(ruled(web), "fra") { $0.chains.removeAll { $0.name == "source" } } == unpermitted)
        // Sources that are forged ones elsewhere already: answers to them go into the mesh.
        #expect(
            try repair(ruled(web)) { firewall in
                for index in firewall.chains.indices {
                    firewall.chains[index].rules.removeAll { $0.expressions.contains(.lookup(set: "nodes4")) }
                }
            } == "hitless")
        #expect(
            try repair(ruled(web)) { firewall in
                for index in firewall.chains.indices {
                    firewall.chains[index].rules.removeAll { $0.comment == "forged sources" }
                }
            } == forged)
        // What let in was deleted: nobody loses by getting it back.
        #expect(
            try repair(ruled(web)) { firewall in
                for index in firewall.chains.indices where firewall.chains[index].base == nil {
                    firewall.chains[index].rules.removeAll { $0.comment == "permitted flows" }
                }
            } == "hitless")
        #expect(try repair(topology(), "fra") { $0.chains.removeAll { $0.name == "forward" } } == "hitless")
        #expect(try repair(ruled(web)) { $0.sets.removeAll { $0.name == "ports4" } } == "hitless")
        // A counter, a comment, a policy to drop.
        #expect(try repair(ruled(web)) { $0.counters[0].comment = "mine" } == "hitless")
        #expect(try repair(shut()) { $0.chains[0].rules[0].comment = "mine" } == "hitless")
        #expect(try repair(shut()) { $0.chains[0].base?.dropsByDefault = true } == "hitless")
        // An accept of somebody's, before what refuses and behind it.
        let accept = FirewallRule([.verdict(.accept)])
        for (name, topology, ended) in [("output", try shut(), untunnelled), ("access", try ruled(web), unpermitted)] {
            #expect(
                try repair(topology) { firewall in
                    for index in firewall.chains.indices where firewall.chains[index].name == name {
                        firewall.chains[index].rules.insert(accept, at: 0)
                    }
                } == ended)
            #expect(
                try repair(topology) { firewall in
                    for index in firewall.chains.indices where firewall.chains[index].name == name {
                        firewall.chains[index].rules.append(accept)
                    }
                } == "hitless")
        }
        // An element of somebody's.
        #expect(
            try repair(shut("192.0.2.0/24")) { firewall in
                firewall.sets[0].elements.append(FirewallSet.Element(try! prefix("10.9.0.0/16").range, .v4))
            } == untunnelled)
        // A table that slept.
        #expect(try repair(shut()) { $0.strangers = ["flags dormant"] } == "\(untunnelled), \(guarded)")
        #expect(try repair(shut()) { $0.strangers = ["comment"] } == "hitless")
    }

    @Test func aFullTunnelGuardsTheAddressesThatAreThere() throws {
        let plain = try topology(client: "connect: full")
        #expect(try effect(from: plain, to: topology()) == guarded)
        var live = try topology().hostState(of: "ana")
        live.addresses = []
        live.firewall?.chains.removeAll { $0.name == "guard" }
        #expect(effect(from: live, to: try topology().hostState(of: "ana")) == "hitless")
    }

    @Test func theListenPortIsTheDevicesAffair() throws {
        let ported = try topology(client: "connect: full\n    listenPort: 51821", more: "access: []")
        #expect(try effect(from: topology(client: "connect: full", more: "access: []"), to: ported) == "hitless")
    }
}
