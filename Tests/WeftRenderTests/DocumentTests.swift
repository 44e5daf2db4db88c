// The documents: whole ones as golden files, back and forth, and against their schemas.

import Testing
import WeftDiagnostics
import WeftModel
import WeftPlan
import WeftStatus

@testable import WeftRender

@Suite struct DocumentTests {
    static let files = SourceFiles([SourceFiles.File(name: "mesh.yaml", bytes: [])])

    /// One with everything that a problem can have, and one with nothing.
    static var warnings: [Diagnostic] {
        let place = SourceRange(
            file: 0, start: SourcePosition(line: 3, column: 5), end: SourcePosition(line: 3, column: 8))
        return [
            Diagnostic(
                "topology.no-path", .warning, "no path between ams and dora", at: place,
                notes: [Diagnostic.Note("dora stands here", at: place), Diagnostic.Note("a hub would join them")],
                fixIts: [Diagnostic.FixIt("make ams a hub", replace: place, with: "ams: {hub: true}")]),
            Diagnostic("topology.empty", .note, "nothing here"),
        ]
    }

    static var plan: PlanDocument {
        PlanDocument(Samples.everything, labels: Samples.labels, warnings: warnings, cuts: cuts, files: files)
    }

    static var cuts: [Cut] {
        [
            Cut(
                guarded: Guarded(
                    .session, SocketAddress(Samples.address("198.51.100.9"), port: 40_022),
                    local: SocketAddress(Samples.address("192.0.2.1"), port: 22)),
                today: "eth0", then: "its answers would go into the tunnel to ams, by 0.0.0.0/0", remedy: "log in there"
            )
        ]
    }

    static var blockedPlan: PlanDocument {
        PlanDocument(
            Samples.plan(
                [],
                foreign: [
                    ForeignObject(
                        kind: "interface", description: "wg0 (wireguard)", relation: .blocksLink, remedy: "remove it"),
                    ForeignObject(
                        kind: "sysctl", description: "net/ipv4/ip_forward = 0 (1 is wanted)", relation: .fixesSysctl,
                        remedy: "set it"),
                ]), labels: PlanLabels())
    }

    static var freshPlan: PlanDocument {
        PlanDocument(
            Samples.plan(
                Samples.desired, from: Observation(state: HostState(sysctls: Samples.sysctlsBefore), time: Samples.now)),
            labels: PlanLabels(Samples.desired))
    }

    /// One with every kind of outcome.
    static var applied: ApplyDocument {
        let addresses = ["10.80.0.1", "10.80.0.2", "10.80.0.3"].map { InterfaceAddress(host: Samples.address($0)) }
        let plan = Samples.plan(
            [PlannedOperation(.link(.setUp(interface: "wg0")))]
                + addresses.map { PlannedOperation(.address(.remove($0, interface: "wg0"))) })
        let left = Samples.plan(Array(plan.operations.suffix(2)))
        let error = DataplaneError(.noMemory, "Out of memory", errno: 12, operation: "remove address 10.80.0.2/32")
        var document = ApplyDocument(
            plan: PlanDocument(plan, labels: Samples.labels),
            outcomes: [.done, .already, .failed(error), .skipped("no link")],
            converged: false, remaining: PlanDocument(left, labels: Samples.labels))
        document.trial = .init(result: "taken-back", reason: "no answer from ams (10.80.0.2)")
        return document
    }

    static var status: StatusDocument {
        StatusDocument(Samples.observation, of: Samples.mesh, desired: Samples.desiredWithCarl)
    }

    @Test func plansAreGolden() throws {
        try expectGolden(try JSON.text(Self.plan), "plan-everything.json")
        try expectGolden(try JSON.text(Self.freshPlan), "plan-fresh.json")
        try expectGolden(try JSON.text(Self.blockedPlan), "plan-blocked.json")
    }

    @Test func appliesAreGolden() throws {
        try expectGolden(try JSON.text(Self.applied), "apply.json")
    }

    @Test func statesAreGolden() throws {
        try expectGolden(try JSON.text(StateDocument(Samples.desired)), "show.json")
        try expectGolden(try JSON.text(Samples.stateWithoutFacts), "show-without-facts.json")
    }

    @Test func statusIsGolden() throws {
        try expectGolden(try JSON.text(Self.status), "status.json")
        let absent = StatusDocument(Observation(time: Samples.now), of: Samples.mesh, desired: nil)
        try expectGolden(try JSON.text(absent), "status-absent.json")
    }

    @Test func comeBackEqual() throws {
        for document in [Self.plan, Self.blockedPlan, Self.freshPlan] {
            #expect(try JSON.decode(PlanDocument.self, JSON.text(document)) == document)
        }
        for document in [StateDocument(Samples.desired), Samples.stateWithoutFacts] {
            #expect(try JSON.decode(StateDocument.self, JSON.text(document)) == document)
        }
        #expect(try JSON.decode(ApplyDocument.self, JSON.text(Self.applied)) == Self.applied)
        #expect(try JSON.decode(StatusDocument.self, JSON.text(Self.status)) == Self.status)
    }

    @Test func operationsAreThePlansOwn() {
        let document = Self.plan
        let plan = Samples.everything
        #expect(document.operations.map(\.kind) == plan.operations.map(\.operation.kind.rawValue))
        #expect(document.operations.map(\.action) == plan.operations.map(\.operation.action.rawValue))
        #expect(document.operations.map(\.effect) == plan.operations.map(\.effect.rawValue))
        #expect(document.summary.effect == "outage")
        #expect(Set(document.operations.map(\.kind)) == Set(Operation.Kind.allCases.map(\.rawValue)))
    }

    @Test func countsAreTheTextsOwn() {
        let summary = PlanSummary(Samples.everything)
        let document = Self.plan.summary
        #expect((document.add, document.change, document.remove) == (summary.add, summary.change, summary.remove))
    }
}
