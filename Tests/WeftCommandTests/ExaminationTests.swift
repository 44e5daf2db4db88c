// What weft doctor makes of a plan and an observation, and what it advises.

import Testing
import WeftModel
import WeftPlan
import WeftRender

@testable import WeftCommand

@Suite struct ExaminationTests {
    private let key = PublicKey("cJ3bS22/vO2/CTfx+EGVKEjRBfuO+OO7vaaK0PLCmGw=")

    /// A host that dials one peer, which never answered.
    private func findings(
        hindrances: [ForeignObject] = [], unreachable: Set<IPAddress> = []
    ) throws -> [DoctorDocument.Finding] {
        let key = try #require(key)
        let peer = Peer(
            publicKey: key, persistentKeepalive: 25, allowedIPs: [],
            endpoint: SocketAddress(try #require(IPAddress("192.0.2.1")), port: 51_820))
        let state = HostState(link: Link(name: "wg0", mtu: 1420, alias: "weft:corp"), peers: [peer])
        var desired = DesiredState(mesh: "corp", interface: "wg0", node: "ana", state: state)
        desired.peerNames[key] = "fra"
        var observation = Observation(state: state, time: UnixTime(seconds: 1_800_000_000))
        observation.statistics = [PeerStatistics(receivedBytes: 0, sentBytes: 148)]
        observation.foreign = hindrances
        let plan = Plan(
            mesh: MeshIdentity(mesh: "corp", interface: "wg0"), desired: desired, observed: observation,
            memory: MeshMemory())
        return Examination(
            plan: plan, observation: observation, desired: desired, names: desired.peerNames, unreachable: unreachable
        ).findings
    }

    private func remedy(_ findings: [DoctorDocument.Finding]) -> String? {
        findings.first { $0.check == "handshake" }?.remedy
    }

    @Test func silenceIsTheFarSidesWhereNothingHereIsSeen() throws {
        let findings = try findings()
        #expect(remedy(findings)?.hasPrefix("packets leave and none comes back: look at the far side") == true)
        #expect(!findings.contains { $0.check == "route" })
    }

    @Test(arguments: [true, false]) func anInterfaceThatIsAnothersIsNotSaidToBeMissing(isThere: Bool) throws {
        let desired = DesiredState(
            mesh: "corp", interface: "wg0", node: "ana",
            state: HostState(link: Link(name: "wg0", mtu: 1420, alias: "weft:corp")))
        var observation = Observation(time: UnixTime(seconds: 1_800_000_000))
        if isThere {
            observation.foreign = [
                ForeignObject(
                    kind: "interface", description: "wg0 of mesh lab", relation: .blocksLink, bearsMark: true)
            ]
        }
        let plan = Plan(
            mesh: desired.identity, desired: desired, observed: observation, memory: MeshMemory())
        let findings = Examination(plan: plan, observation: observation, desired: desired, names: [:]).findings
        let device = try #require(findings.first { $0.check == "device" })
        #expect(device.level == .error && device.message.contains("is not there") != isThere)
        #expect(device.remedy.contains("weft apply") != isThere)
    }

    @Test func anEndpointWithoutARouteIsNamed() throws {
        let findings = try findings(unreachable: [try #require(IPAddress("192.0.2.1"))])
        let route = try #require(findings.first { $0.check == "route" })
        #expect(route.level == .error)
        #expect(route.message == "this host has no route to the endpoint of fra, 192.0.2.1:51820")
        #expect(remedy(findings) == "there is no route to it: see above")
    }

    @Test func aFirewallThatStopsTheTunnelIsTheLikelyCause() throws {
        var chain = ForeignObject(
            kind: "chain", description: "inet mine in drops the tunnel's own packets to UDP port 51820",
            relation: .hinders, remedy: "Let it through: `x`.")
        #expect(remedy(try findings(hindrances: [chain]))?.hasPrefix("packets leave") == true)
        chain.stopsTunnel = true
        #expect(
            remedy(try findings(hindrances: [chain]))
                == "chain inet mine in drops the tunnel's own packets to UDP port 51820: this is the likely cause. "
                + "Let it through: `x`.")
    }

    /// What can be told of an exit from a host that uses it.
    @Test(arguments: [
        (ExitExamination.Sight.open, DoctorDocument.Finding.Level.ok, "beyond the exit fra, routers answer (IPv6)", ""),
        (.refused(IPAddress(v4: 0x0A50_0001)), .error, "10.80.0.1 refuses what is to go on (IPv6)", "default route"),
        (.blocked, .warning, "sends packets on, and nothing comes back from beyond it (IPv6)", "masquerade"),
        (.closed, .error, "sends nothing on (IPv6)", "net.ipv6.conf.all.forwarding"),
        (.unsent(101), .unknown, "not looked at: no echo request could be sent: error 101 (IPv6)", ""),
        (.forbidden, .unknown, "let this host send no echo requests to the internet (IPv6)", "a rule with `icmp`"),
    ])
    func anExitIsLookedBeyond(
        _ sight: ExitExamination.Sight, _ level: DoctorDocument.Finding.Level, _ message: String, _ remedy: String
    ) {
        let finding = ExitExamination.finding(sight, exit: "fra", .v6)
        #expect(finding.level == level)
        #expect(finding.message.hasSuffix(message))
        #expect(finding.remedy.contains(remedy))
    }

    /// Root's packets are refused by rules of this host, not by rights, and the exit is not to blame.
    @Test func whatDoesNotLeaveThisHostIsToldByItsCause() {
        #expect(whyUnsent(1, isRoot: true).reason == "a rule of this host refuses it")
        #expect(whyUnsent(1, isRoot: true).remedy.contains("kill switch of another mesh"))
        #expect(whyUnsent(1, isRoot: false).remedy == "run `weft doctor` as root")
        #expect(whyUnsent(101, isRoot: true) == ("error 101", ""))
    }

    /// Access rules that refuse an echo request say nothing of who would be asked: nothing is sent there.
    @Test func whoMayNotBeAskedIsNotBlamed() throws {
        let key = try #require(key)
        let peer = Peer(
            publicKey: key, allowedIPs: [try #require(IPPrefix("10.80.0.1/32")), try #require(IPPrefix("0.0.0.0/0"))])
        var state = HostState(
            link: Link(name: "no-such-link", mtu: 1420, isUp: true, alias: "weft:corp"), peers: [peer])
        state.addresses = [InterfaceAddress(host: try #require(IPAddress("10.80.0.2")))]
        var desired = DesiredState(mesh: "corp", interface: "no-such-link", node: "ana", state: state)
        desired.peerNames[key] = "fra"
        let time = UnixTime(seconds: 1_800_000_000)
        var observation = Observation(state: state, time: time)
        observation.statistics = [PeerStatistics(lastHandshake: time)]
        var asked: [String] = []
        let findings = PathExamination(desired, desired.peerNames, observation) {
            asked.append("\($0) \($1)")
            return false
        }.findings
        #expect(findings.map(\.level) == [.unknown])
        #expect(
            findings.first?.message.contains("get to fra was not looked at: the access rules let this host") == true)
        #expect(asked == ["10.80.0.2 10.80.0.1"])
        #expect(PathExamination.finding(unasked: []) == nil)
        #expect(
            PathExamination.finding(unasked: ["a", "b", "c", "d", "e"])?.message.contains(
                "to a, b, c, d and 1 more was") == true)
    }

    @Test(arguments: [(nil, true), (false, true), (true, true), (true, false)])
    func aKillSwitchWithoutATunnelIsNamed(isUp: Bool?, hasPeer: Bool) throws {
        var state = HostState()
        if hasPeer { state.peers = [Peer(publicKey: try #require(key), allowedIPs: [])] }
        state.link = isUp.map { Link(name: "wg0", mtu: 1420, isUp: $0, alias: "weft:corp") }
        state.firewall = Firewall(chains: [
            FirewallChain(
                "output", base: .init(.filter, .output, priority: 0),
                rules: [FirewallRule([.counter, .reject(.prohibited)])])
        ])
        let desired = DesiredState(mesh: "corp", interface: "wg0", node: "ana", state: state)
        var observation = Observation(state: state, time: UnixTime(seconds: 1_800_000_000))
        observation.statistics = state.peers.map { _ in PeerStatistics() }
        let plan = Plan(
            mesh: MeshIdentity(mesh: "corp", interface: "wg0"), desired: desired, observed: observation,
            memory: MeshMemory())
        let findings = Examination(plan: plan, observation: observation, desired: desired, names: desired.peerNames)
            .findings
        #expect(findings.contains { $0.check == "kill-switch" && $0.level == .warning } == (isUp != true || !hasPeer))
    }

    @Test func noMTUIsAdvisedThatCostsIPv6() {
        #expect(PathExamination.remedy(fitting: 1302, hasIPv6: true).hasPrefix("set `mtu: 1300`"))
        #expect(PathExamination.remedy(fitting: 1280, hasIPv6: true).hasPrefix("set `mtu: 1280`"))
        #expect(PathExamination.remedy(fitting: 1202, hasIPv6: false).hasPrefix("set `mtu: 1200`"))
        let costly = PathExamination.remedy(fitting: 1279, hasIPv6: true)
        #expect(costly.hasPrefix("mend the path"))
        #expect(costly.contains("`mtu: 1276` would fit, and would cost this node its IPv6"))
    }
}
