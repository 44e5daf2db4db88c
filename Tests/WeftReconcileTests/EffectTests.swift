// What a plan says of sessions, and of whom else a change cuts off. 65-effects.sh and 67-effects-firewall.sh measure it.

import Testing
import WeftModel
import WeftPlan
import WeftReconcile
import WeftTestSupport

@Suite struct EffectTests {
    private let link = Link(name: "wg0", mtu: 1420, alias: "weft:corp")

    // MARK: Settings of the host

    private func release(_ path: String, now: String, before: String, others: [String] = []) -> PlannedOperation? {
        var observed = Observation(time: UnixTime(seconds: 0))
        observed.state = HostState(link: link, sysctls: [Sysctl(path, now)])
        var claims: [String: Set<String>] = ["wg0": [path]]
        for other in others { claims[other] = [path] }
        observed.sysctlMemory = SysctlMemory(originals: [path: .init(value: before, written: now)], claims: claims)
        let wanted = DesiredState(mesh: "corp", interface: "wg0", node: "here", state: HostState(link: link))
        return Plan(mesh: mesh, desired: wanted, observed: observed, memory: MeshMemory()).operations.first
    }

    @Test(arguments: [("net/ipv4/ip_forward", "IPv4"), ("net/ipv6/conf/all/forwarding", "IPv6")])
    func forwardingThatEndsIsAnOutageOfAllThatIsForwarded(path: String, family: String) {
        let ends = release(path, now: "1", before: "0")
        #expect(ends?.effect == .outage && ends?.effectScope == "all \(family) that this host forwards")
        // It was on before, or another mesh needs it still.
        #expect(release(path, now: "1", before: "1")?.effect == .hitless)
        let stays = release(path, now: "1", before: "0", others: ["wg2", "wg1"])
        #expect(stays?.effect == .hitless)
        #expect(stays?.operation == .sysctl(.leave(Sysctl(path, "1"), to: ["wg1", "wg2"])))
        #expect(release("net/ipv4/conf/all/src_valid_mark", now: "1", before: "0")?.effect == .hitless)
    }

    // MARK: Peers

    private func peer(
        _ number: UInt64, _ prefixes: [String], presharedKey: PresharedKey = .none
    ) throws -> Peer {
        let list = PrefixList(try prefixes.map { try #require(IPPrefix($0)) })
        return Peer(publicKey: key(number), presharedKey: presharedKey, allowedIPs: list)
    }

    private func plan(from live: [Peer], to desired: [Peer], routes: [Route] = []) -> Plan {
        var observed = Observation(time: UnixTime(seconds: 0))
        observed.state = HostState(link: link, peers: live, routes: routes)
        observed.statistics = live.map { _ in PeerStatistics() }
        let wanted = DesiredState(
            mesh: "corp", interface: "wg0", node: "here",
            state: HostState(link: link, peers: desired, routes: routes))
        return Plan(mesh: mesh, desired: wanted, observed: observed, memory: MeshMemory())
    }

    private func labels(_ plan: Plan) -> [String] {
        plan.operations.map { "\($0.effect.rawValue): \($0.effectScope)" }
    }

    private func takeover(_ plan: Plan, _ prefix: String) throws -> Takeover? {
        plan.takeovers[try #require(IPPrefix(prefix))]
    }

    @Test func whatMovesIsHitlessIfTheNewPeerServesIt() throws {
        let before = [try peer(1, ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.1/32"]), try peer(2, ["10.4.0.0/16"])]
        let moved = [try peer(1, ["10.2.0.0/16", "10.3.0.1/32"]), try peer(2, ["10.1.0.0/16", "10.4.0.0/16"])]
        let one = plan(from: before, to: moved)
        #expect(
            labels(one) == [
                "hitless: if the new peer of 10.1.0.0/16 already serves it",
                "hitless: if the peer already serves 10.1.0.0/16",
            ])
        #expect(try takeover(one, "10.1.0.0/16")?.from == key(1))
        #expect(one.takeovers.count == 1)
        let all = plan(from: before, to: [try peer(2, ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.1/32", "10.4.0.0/16"])])
        #expect(
            labels(all) == [
                "hitless: if the peer already serves the 3 allowed IPs that it takes over", "outage: ",
            ])
        #expect(try takeover(all, "10.3.0.1/32")?.from == key(1))
        // A peer that is new has to be reached first.
        let new = plan(from: before, to: before.dropLast() + [try peer(3, ["10.4.0.0/16"])])
        #expect(labels(new) == ["hitless: if the peer answers, and already serves 10.4.0.0/16", "outage: "])
    }

    @Test func aPrefixWithinAnothersTakesItsPackets() throws {
        let around = try peer(1, ["10.20.0.0/16"])
        let nested = plan(from: [around, try peer(2, [])], to: [around, try peer(2, ["10.20.5.0/24"])])
        #expect(labels(nested) == ["hitless: if the peer already serves 10.20.5.0/24"])
        let found = try #require(try takeover(nested, "10.20.5.0/24"))
        #expect(found.from == key(1) && found.within.description == "10.20.0.0/16")
        // The nearest one decides; and nobody takes anything from himself.
        let near = [around, try peer(2, ["10.20.4.0/22"])]
        let own = plan(from: near, to: [around, try peer(2, ["10.20.4.0/22", "10.20.5.0/24"])])
        #expect(labels(own) == ["hitless: "] && own.takeovers.isEmpty)
        let other = plan(from: near, to: [try peer(1, ["10.20.0.0/16", "10.20.5.0/24"]), near[1]])
        #expect(try takeover(other, "10.20.5.0/24")?.from == key(2))
        // A larger one takes nothing, and neither does what nobody carries.
        let around8 = try peer(2, ["10.0.0.0/8", "192.168.0.0/24"])
        let larger = plan(from: [around, try peer(2, [])], to: [around, around8])
        #expect(labels(larger) == ["hitless: "] && larger.takeovers.isEmpty)
    }

    /// What is in the mesh's ranges and at no node never went to an exit; the rest of the world did.
    @Test func anExitCarriesNothingOfTheMeshs() throws {
        let exit = try peer(1, ["0.0.0.0/0"])
        let range = Route(
            try #require(IPPrefix("10.80.0.0/16")), table: Route.mainTable, metric: 4_000_000_000, target: .unreachable,
            source: nil)
        let wanted = [exit, try peer(2, ["10.80.0.2/32", "192.168.7.0/24"])]
        let found = plan(from: [exit], to: wanted, routes: [range])
        #expect(found.takeovers.count == 1)
        #expect(try takeover(found, "192.168.7.0/24")?.within.isDefault == true)
    }

    @Test func theWorstOfAChangeIsItsLabel() throws {
        let before = [try peer(1, ["10.1.0.0/16", "10.2.0.0/16"]), try peer(2, ["10.3.0.0/16"])]
        let keyed = try peer(1, ["10.2.0.0/16"], presharedKey: .tag(SecretTag(1, 1)))
        #expect(
            labels(plan(from: before, to: [keyed, before[1]])) == [
                "outage: 10.1.0.0/16 only; the rest after 3 minutes unless the peer has the same preshared key"
            ])
        let swapped = [try peer(1, ["10.2.0.0/16", "10.3.0.0/16"]), try peer(2, [])]
        #expect(
            labels(plan(from: before, to: swapped)) == [
                "outage: 10.1.0.0/16 only; the rest is hitless if the peer already serves 10.3.0.0/16",
                "hitless: if the new peer of 10.3.0.0/16 already serves it",
            ])
    }
}
