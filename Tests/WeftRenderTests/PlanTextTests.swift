// Plans as people read them, whole.

import Testing
import WeftModel
import WeftPlan

@testable import WeftRender

@Suite struct PlanTextTests {
    private var fresh: Plan {
        Samples.plan(
            Samples.desired, from: Observation(state: HostState(sysctls: Samples.sysctlsBefore), time: Samples.now))
    }

    @Test func freshHost() throws {
        try expectGolden(PlanText(fresh, labels: PlanLabels(Samples.desired)).text, "plan-fresh.txt")
    }

    @Test func freshHostInFull() throws {
        let options = TextOptions(full: true)
        try expectGolden(
            PlanText(fresh, labels: PlanLabels(Samples.desired), options: options).text, "plan-fresh-full.txt")
    }

    @Test func everyOperation() throws {
        let text = PlanText(
            Samples.everything, labels: Samples.labels,
            warnings: ["mesh.yaml:3:5: warning: no path between ams and dora\n  note: give one of them an endpoint"]
        ).text
        try expectGolden(text, "plan-everything.txt")
    }

    @Test func everyOperationInColour() throws {
        let options = TextOptions(style: .ansi)
        try expectGolden(
            PlanText(Samples.everything, labels: Samples.labels, options: options).text, "plan-everything.ansi.txt")
    }

    @Test func colourAddsNothingElse() throws {
        let plain = PlanText(Samples.everything, labels: Samples.labels).text
        let coloured = PlanText(Samples.everything, labels: Samples.labels, options: TextOptions(style: .ansi)).text
        #expect(coloured != plain)
        #expect(coloured.replacing(#/\u{1B}\[[0-9]+m/#, with: "") == plain)
    }

    @Test func nothingToDo() throws {
        let desired = Samples.desired
        var endpoints: [PublicKey: AppliedEndpoint] = [:]
        for peer in desired.state.peers {
            guard let endpoint = peer.endpoint else { continue }
            endpoints[peer.publicKey] = AppliedEndpoint(
                written: desired.endpointNames[peer.publicKey] ?? endpoint.description, address: endpoint)
        }
        let observation = Observation(
            state: desired.state,
            sysctlMemory: SysctlMemory(claims: ["wg0": Set(desired.state.sysctls.map(\.path))]),
            statistics: desired.state.peers.map { _ in PeerStatistics() }, time: Samples.now)
        let plan = Samples.plan(desired, from: observation, memory: MeshMemory(endpoints: endpoints))
        #expect(
            PlanText(plan, labels: PlanLabels(desired)).text == "No changes. wg0 is as the topology wants it.\n")
    }

    @Test func foreignButNothingToDo() throws {
        let plan = Samples.plan(
            [], foreign: [ForeignObject(kind: "address", description: "10.7.7.7/24 dev wg0 proto static")])
        try expectGolden(PlanText(plan, labels: Samples.labels).text, "plan-foreign.txt")
    }

    @Test func blocked() throws {
        let plan = Samples.plan(
            [],
            foreign: [
                ForeignObject(
                    kind: "interface", description: "wg0 (wireguard), without weft's alias", relation: .blocksLink,
                    remedy: "remove it with `ip link del wg0`, or give the node another `interface`")
            ])
        try expectGolden(PlanText(plan, labels: Samples.labels).text, "plan-blocked.txt")
    }

    /// Nothing is left to do but what obstacles keep from being done: that is not "no changes".
    @Test func onlyObstacles() throws {
        let key = Route.Key(Samples.prefix("10.20.0.0/24"), table: 254, metric: 0)
        let plan = Samples.plan(
            [],
            foreign: [
                ForeignObject(
                    kind: "route", description: "10.20.0.0/24 dev other0 proto boot", relation: .blocksRoute(key),
                    remedy: "Remove it.")
            ])
        let text = PlanText(plan, labels: Samples.labels).text
        #expect(text.hasSuffix("\nNothing can be done while 1 obstacle is in the way.\n"))
        #expect(!text.contains("No changes"))
        #expect(PlanDocument(plan, labels: Samples.labels).blocked)
    }

    @Test func down() throws {
        let desired = Samples.desired
        var live = desired.state
        live.sysctls = [Sysctl("net/ipv4/ip_forward", "1"), Sysctl("net/ipv4/conf/all/accept_redirects", "0")]
        let observation = Observation(
            state: live,
            sysctlMemory: SysctlMemory(
                originals: [
                    "net/ipv4/ip_forward": .init(
                        value: "0", written: "1", companions: ["net/ipv4/conf/all/accept_redirects": "0"])
                ],
                claims: ["wg0": ["net/ipv4/ip_forward"]]),
            statistics: live.peers.map { _ in PeerStatistics() },
            foreign: [
                ForeignObject(kind: "address", description: "10.7.7.7/24 dev wg0", relation: .onLink),
                ForeignObject(kind: "rule", description: "900: from all iif wg0 lookup 7 proto static (IPv4)"),
            ], time: Samples.now)
        let plan = Samples.plan(nil, from: observation)
        try expectGolden(PlanText(plan, labels: PlanLabels(nil)).text, "plan-down.txt")
        let nothing = Samples.plan(nil, from: Observation(time: Samples.now))
        #expect(PlanText(nothing, labels: PlanLabels(nil)).text == "Nothing to remove: wg0 is not there.\n")
        var foreign = Observation(time: Samples.now)
        foreign.foreign = [ForeignObject(kind: "interface", description: "wg0 (bridge)", relation: .blocksLink)]
        let text = PlanText(Samples.plan(nil, from: foreign), labels: PlanLabels(nil)).text
        #expect(text.hasSuffix("Nothing to remove: wg0 is not weft's, and is left as it is.\n"))
        #expect(!text.contains("not there"))
    }

    @Test func oneMoreNode() throws {
        let desired = Samples.desired
        var live = desired.state
        live.peers.removeAll { $0.publicKey == Samples.key(2) }
        live.routes.removeAll { $0.prefix == Samples.prefix("192.168.3.0/24") }
        let observation = Observation(
            state: live,
            sysctlMemory: SysctlMemory(claims: ["wg0": Set(desired.state.sysctls.map(\.path))]),
            statistics: live.peers.map { _ in PeerStatistics() }, time: Samples.now)
        try expectGolden(
            PlanText(Samples.plan(desired, from: observation), labels: PlanLabels(desired)).text, "plan-one-more.txt")
    }

    @Test func tenThousandPeers() throws {
        let (plan, labels) = Samples.large(10_000)
        try expectGolden(PlanText(plan, labels: labels).text, "plan-large.txt")
    }

    @Test func fullListsEverything() throws {
        let (plan, labels) = Samples.large(300)
        let text = PlanText(plan, labels: labels, options: TextOptions(full: true)).text
        let lines = Set(text.split(separator: "\n"))
        let words = Set(text.split { " ,\n".contains($0) })
        for planned in plan.operations {
            switch planned.operation {
            case .peer(.add(let peer)):
                #expect(lines.contains("+   \(labels.name(of: peer.publicKey))  \(peer.publicKey.short)  dials in"))
                #expect(peer.allowedIPs.allSatisfy { words.contains($0.description[...]) })
            case .route(let route): #expect(lines.contains("+   \(route.route.phrase)"))
            default: break
            }
        }
        #expect(!text.contains("--full"))
    }

    @Test(arguments: [40, 60, 80, 100, 200])
    func listsStayWithinTheWidth(width: Int) throws {
        let (plan, labels) = Samples.large(20)
        let text = PlanText(plan, labels: labels, options: TextOptions(width: width)).text
        for line in text.split(separator: "\n") where line.hasPrefix("+     ") && !line.contains("…") {
            #expect(line.count <= width, "\(line)")
        }
    }
}
