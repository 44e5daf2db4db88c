// Text from elsewhere never reaches a terminal raw, and no secret reaches a text at all.

import FoundationEssentials
import Testing
import WeftModel
import WeftPlan
import WeftStatus

@testable import WeftRender

@Suite struct HostileTextTests {
    /// Escape, CSI as one C1 character, bell, carriage return, backspace, DEL, right-to-left override, zero-width space,
    /// line separator, a tag character, a private-use one.
    static let poison = "a\u{1B}[2Jb\u{9B}31mc\u{7}d\re\u{8}f\u{7F}g\u{202E}h\u{200B}i\u{2028}j\u{E0041}k\u{E000}l\nm"
    static let shown =
        #"a\u{1B}[2Jb\u{9B}31mc\u{7}d\re\u{8}f\u{7F}g\u{202E}h\u{200B}i\u{2028}j\u{E0041}k\u{E000}l\nm"#

    @Test func isMadeVisible() {
        #expect(Self.poison.visible == Self.shown)
        #expect("plain".visible == "plain")
        #expect("Zürich 東京 é 🦊".visible == "Zürich 東京 é 🦊")
    }

    private static func isClean(_ text: String) -> Bool {
        text.unicodeScalars.allSatisfy { $0 == "\n" || $0.isPrintable }
    }

    /// A plan, a state and a status in which every text is hostile.
    private static func hostilePlan() -> (Plan, PlanLabels) {
        let mesh = MeshIdentity(mesh: poison, interface: poison)
        var plan = Plan(
            mesh: mesh, desired: nil, observed: Observation(time: Samples.now), memory: MeshMemory())
        plan.operations = [
            PlannedOperation(.link(.removeHalfMade(name: poison))),
            PlannedOperation(.link(.create(Link(name: poison, mtu: 1, alias: poison)))),
            PlannedOperation(.link(.setAlias(interface: poison, from: poison, to: poison)), scope: poison),
            PlannedOperation(.link(.setMTU(interface: poison, from: 1, to: 2)), scope: poison),
            PlannedOperation(.link(.setUp(interface: poison)), scope: poison),
            PlannedOperation(
                .address(.remove(InterfaceAddress(host: Samples.address("10.0.0.1")), interface: poison)),
                effect: .outage, scope: poison),
            PlannedOperation(.peer(.add(Samples.peer(2, ["10.0.0.2"], endpoint: "192.0.2.1")))),
            PlannedOperation(.peer(.remove(Samples.peer(3, ["10.0.0.3"]))), effect: .outage, scope: poison),
            PlannedOperation(
                .route(.add(Samples.route("10.0.0.0/8"), interface: poison)), effect: .outage, scope: poison),
            PlannedOperation(.sysctl(.claim(Sysctl(poison, poison), from: poison))),
            PlannedOperation(.sysctl(.hold(Sysctl(poison, poison)))),
            PlannedOperation(.sysctl(.setOwn(Sysctl(poison, poison), from: poison))),
            PlannedOperation(.sysctl(.release(path: poison, from: poison, restore: poison))),
            PlannedOperation(
                .sysctl(.release(path: poison, from: poison, restore: nil, companions: [Sysctl(poison, poison)]))),
            PlannedOperation(.sysctl(.leave(Sysctl(poison, poison), to: [poison]))),
            PlannedOperation(.link(.remove(interface: poison)), effect: .outage, scope: poison),
        ]
        plan.foreign = [
            ForeignObject(kind: poison, description: poison, remedy: poison),
            ForeignObject(
                kind: poison, description: poison, relation: .blocksRoute(Samples.route("10.0.0.0/8").key),
                remedy: poison),
        ]
        let labels = PlanLabels(
            node: poison, peers: [Samples.key(2): poison, Samples.key(3): poison], endpoints: [Samples.key(2): poison])
        return (plan, labels)
    }

    @Test func plansAreClean() throws {
        let (plan, labels) = Self.hostilePlan()
        for full in [false, true] {
            let text = PlanText(plan, labels: labels, options: TextOptions(full: full)).text
            #expect(Self.isClean(text))
            #expect(text.contains(Self.shown))
        }
        #expect(Self.isClean(try JSON.text(PlanDocument(plan, labels: labels)).safeJSON))
        var empty = plan
        empty.operations = []
        empty.foreign = []
        #expect(Self.isClean(PlanText(empty, labels: labels).text))
    }

    @Test func outcomesAreClean() {
        let (plan, labels) = Self.hostilePlan()
        let error = DataplaneError(
            .other, Self.poison, errno: 1, kernelText: Self.poison, operation: Self.poison)
        let renderer = PlanOutcomeText(plan, labels: labels)
        for outcome in [Outcome.done, .already, .failed(error), .skipped(Self.poison)] {
            let outcomes = [Outcome](repeating: outcome, count: plan.operations.count)
            #expect(Self.isClean(renderer.text(of: plan.operations.indices, outcomes: outcomes)))
            for remaining in [plan, nil] {
                let text = renderer.conclusion(outcomes: outcomes, remaining: remaining, verificationError: error)
                #expect(Self.isClean(text))
            }
        }
    }

    @Test func statesAndStatusAreClean() throws {
        var desired = Samples.desired
        desired.mesh = Self.poison
        desired.interface = Self.poison
        desired.node = Self.poison
        desired.state.link = Link(name: Self.poison, mtu: 1, alias: Self.poison)
        desired.state.sysctls = [Sysctl(Self.poison, Self.poison)]
        desired.peerNames = desired.peerNames.mapValues { _ in Self.poison }
        desired.endpointNames = desired.endpointNames.mapValues { _ in Self.poison }
        #expect(Self.isClean(StateText(StateDocument(desired)).text))
        #expect(Self.isClean(try JSON.text(StateDocument(desired)).safeJSON))

        var observation = Samples.observation
        observation.foreign = [ForeignObject(kind: Self.poison, description: Self.poison)]
        let mesh = MeshIdentity(mesh: Self.poison, interface: Self.poison)
        for wanted in [desired, nil] {
            let document = StatusDocument(observation, of: mesh, desired: wanted)
            #expect(Self.isClean(StatusText(document).text))
            #expect(Self.isClean(try JSON.text(document).safeJSON))
            #expect(try JSON.decode(StatusDocument.self, JSON.text(document).safeJSON) == document)
        }
    }

    /// Every run of 43 or 44 base64 characters in any output is a public key that the input named as one.
    @Test func onlyPublicKeysLookLikeKeys() throws {
        let known = Set((0..<12).map { Samples.key($0).base64 })
        let options = TextOptions(full: true)
        let texts = [
            PlanText(Samples.everything, labels: Samples.labels, options: options).text,
            try JSON.text(DocumentTests.plan), try JSON.text(DocumentTests.freshPlan),
            StateText(StateDocument(Samples.desired)).text, try JSON.text(StateDocument(Samples.desired)),
            StatusText(DocumentTests.status, options: options).text, try JSON.text(DocumentTests.status),
        ]
        var found = 0
        for text in texts {
            #expect(!text.contains("(hidden)"))
            for match in text.matches(of: #/[A-Za-z0-9+\/]{42,}=?/#) {
                #expect(known.contains(String(match.output)), "\(match.output)")
                found += 1
            }
        }
        #expect(found > 20)
    }

    /// A secret's tag differs between runs: no output may depend on it.
    @Test func tagsLeaveNoTrace() throws {
        func outputs(_ tag: SecretTag) throws -> [String] {
            var desired = Samples.desired
            desired.state.device?.privateKey = tag
            for index in desired.state.peers.indices { desired.state.peers[index].presharedKey = .tag(tag) }
            var live = desired.state
            live.device?.privateKey = SecretTag(0, 0)
            for index in live.peers.indices { live.peers[index].presharedKey = .tag(SecretTag(0, 0)) }
            let observation = Observation(
                state: live, statistics: live.peers.map { _ in PeerStatistics() }, time: Samples.now)
            let plan = Samples.plan(desired, from: observation)
            #expect(plan.operations.count > 3)
            return [
                PlanText(plan, labels: PlanLabels(desired), options: TextOptions(full: true)).text,
                try JSON.text(PlanDocument(plan, labels: PlanLabels(desired))),
                try JSON.text(StateDocument(desired)),
                try JSON.text(StatusDocument(observation, of: Samples.mesh, desired: desired)),
            ]
        }
        #expect(try outputs(SecretTag(1, 2)) == outputs(SecretTag(.max, 77)))
    }
}
