// Real output against the schemas, and the schemas against their pages.

import FoundationEssentials
import Testing
import WeftDiagnostics
import WeftModel
import WeftPlan
import WeftStatus

@testable import WeftRender

@Suite struct SchemaTests {
    /// Output is valid, has no field that the schema lacks, and between them the outputs show every field that it has.
    private func hold(_ outputs: [String], against path: String) throws {
        var schema = try Schema(path)
        for output in outputs { try schema.check(output) }
        #expect(schema.problems == [])
        #expect(schema.properties.subtracting(schema.seen) == [])
    }

    @Test func plans() throws {
        var down = Samples.plan([
            PlannedOperation(
                .firewall(.rebuild(old: Samples.oldFirewall, new: Samples.newFirewall, table: "weft-wg0"))),
            PlannedOperation(.link(.remove(interface: "wg0")), effect: .outage),
            // Of an interface that is not there yet.
            PlannedOperation(.sysctl(.setOwn(Sysctl("net/ipv4/conf/wg0/send_redirects", "0"), from: nil))),
        ])
        down.foreign = [ForeignObject(kind: "address", description: "10.7.7.7/24 dev wg0", relation: .onLink)]
        try hold(
            [
                try JSON.text(DocumentTests.plan), try JSON.text(DocumentTests.freshPlan),
                try JSON.text(DocumentTests.blockedPlan), try JSON.text(PlanDocument(down, labels: PlanLabels())),
            ], against: "WeftRender/WeftRender.docc/plan.schema.json")
    }

    @Test func applies() throws {
        let unread = ApplyDocument(plan: DocumentTests.blockedPlan, outcomes: [], converged: false, remaining: nil)
        try hold(
            [try JSON.text(DocumentTests.applied), try JSON.text(unread)],
            against: "WeftRender/WeftRender.docc/apply.schema.json")
        // The plans in it are held to their own schema.
        var schema = try Schema("WeftRender/WeftRender.docc/apply.schema.json")
        try schema.check(try JSON.text(DocumentTests.applied).replacing(#""kind" : "link""#, with: #""kind" : "tun""#))
        #expect(!schema.problems.isEmpty)
    }

    @Test func states() throws {
        let none = DesiredState(mesh: "corp", interface: "wg0", node: "fra", state: HostState())
        try hold(
            [
                try JSON.text(StateDocument(Samples.desired)), try JSON.text(Samples.stateWithoutFacts),
                try JSON.text(StateDocument(none)),
            ], against: "WeftRender/WeftRender.docc/state.schema.json")
    }

    @Test func status() throws {
        var absent = StatusDocument(Observation(time: Samples.now), of: Samples.mesh, desired: nil)
        absent.elsewhere = "corp0"
        absent.trial = StatusDocument.Trial(
            topology: "5f12941d4739", until: "2026-11-28T00:15:28Z", reason: "by user 0")
        absent.problem = "topology 24a8fcc6125b was taken back: by user 0"
        var nameless = StatusDocument(Samples.observation, of: Samples.mesh, desired: nil)
        nameless.missingChains = ["forward"]
        try hold(
            [try JSON.text(DocumentTests.status), try JSON.text(absent), try JSON.text(nameless)],
            against: "WeftStatus/WeftStatus.docc/status.schema.json")
    }

    @Test func agents() throws {
        let figures = AgentDocument.Figures(passes: 9, drifts: 1, repairs: 1, applies: 2, changes: 30)
        let waiting = AgentDocument.Mesh(
            topology: "/etc/weft/lab", stage: "waiting", revision: nil,
            problem: AgentDocument.Problem(summary: "/etc/weft/lab: No such file or directory", details: ""),
            failure: "the kernel could not be read", memory: "/var/lib/weft/host/wg0.json: it is damaged",
            onTrial: nil, drift: "report", remaining: [], figures: figures, status: nil)
        let status = StatusDocument(Samples.observation, of: Samples.mesh, desired: nil)
        let settled = AgentDocument.Mesh(
            topology: "/etc/weft/topology", stage: "converged",
            revision: AgentDocument.Revision(id: "dc44bc3a96e3", origin: "folder"), problem: nil, failure: nil,
            onTrial: "dc44bc3a96e3", drift: "repair", remaining: ["route 10.0.0.0/8"],
            obstacles: ["route 10.80.0.2/32 dev eth0. Remove it."], figures: figures, status: status)
        let time = "2026-11-22T20:00:00Z"
        try hold(
            [
                try JSON.text(
                    AgentDocument(
                        time: time, process: 7, startedAt: time,
                        git: AgentDocument.Git(
                            url: "https://git.example.net/corp.git", ref: "main", commit: "dc44bc3a96e3",
                            fetched: "0b1cc3a96e3d",
                            problem: "it could not be read"),
                        meshes: [])),
                try JSON.text(
                    AgentDocument(
                        time: time, process: 7, startedAt: time, clock: "it is behind", meshes: [waiting, settled])),
            ], against: "WeftStatus/WeftStatus.docc/agent.schema.json")
        try hold(
            [
                try JSON.text(
                    EventDocument(time: time, level: "notice", kind: "apply", interface: "wg0", message: "applied")),
                try JSON.text(
                    EventDocument(time: time, level: "warning", kind: "clock", interface: nil, message: "it was set")),
            ], against: "WeftStatus/WeftStatus.docc/event.schema.json")
    }

    @Test func checks() throws {
        try hold(
            [
                try JSON.text(DiagnosticReport(DocumentTests.warnings, in: DocumentTests.files)),
                try JSON.text(DiagnosticReport([], in: DocumentTests.files)),
            ], against: "WeftRender/WeftRender.docc/check.schema.json")
    }

    @Test func findings() throws {
        try hold(
            [try JSON.text(Self.findings), try JSON.text(DoctorDocument())],
            against: "WeftRender/WeftRender.docc/doctor.schema.json")
    }

    private static var findings: DoctorDocument {
        DoctorDocument(
            node: "fra", mesh: "corp", interface: "wg0",
            findings: [
                .init("device", .ok, "wg0 is up: the kernel's WireGuard"),
                .init("handshake", .error, "no handshake with bob yet", remedy: "look at its firewall"),
                .init("path", .unknown, "no echo request could be sent"),
            ])
    }

    @Test func findingsAsText() {
        #expect(
            DoctorText(Self.findings).text == """
                fra in mesh corp, interface wg0
                  ok       wg0 is up: the kernel's WireGuard
                  error    no handshake with bob yet
                           → look at its firewall
                  unknown  no echo request could be sent

                1 error. 1 thing could not be looked at.

                """)
        #expect(DoctorText(DoctorDocument()).text == "Nothing is wrong.\n")
    }

    @Test func problemsAreFound() throws {
        var schema = try Schema("WeftRender/WeftRender.docc/plan.schema.json")
        let good = try JSON.text(DocumentTests.plan)
        for (old, new) in [
            (#""version" : 1"#, #""version" : 2"#), (#""kind" : "device""#, #""kind" : "tun""#),
            (#""mtu" : 1420"#, #""mtu" : "1420""#), (#""prefix" : "10.98.0.0/16""#, #""prefix" : "10.98.0.0""#),
            (#""privateKey" : "set""#, #""privateKey" : "AAAA""#), (#""blocked" : false"#, #""blocket" : false"#),
            (#""path" : "net/ipv4/ip_forward""#, #""name" : "net/ipv4/ip_forward""#),
        ] {
            let before = schema.problems.count
            let bad = good.replacing(old, with: new)
            #expect(bad != good)
            try schema.check(bad)
            #expect(schema.problems.count > before, "\(new)")
        }
    }

    /// A page that explains a format names every field of it.
    @Test(arguments: [
        ("WeftRender/WeftRender.docc/", "plan", "PlanFormat"),
        ("WeftRender/WeftRender.docc/", "apply", "ApplyFormat"),
        ("WeftRender/WeftRender.docc/", "doctor", "DoctorFormat"),
        ("WeftRender/WeftRender.docc/", "state", "StateFormat"),
        ("WeftRender/WeftRender.docc/", "check", "CheckFormat"),
        ("WeftStatus/WeftStatus.docc/", "status", "StatusFormat"),
    ])
    func pagesNameEveryField(folder: String, schema: String, page: String) throws {
        let sources = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Sources")
        let data = try Data(contentsOf: sources.appending(path: "\(folder)\(page).md"))
        let text = String(decoding: data, as: UTF8.self)
        for property in try Schema("\(folder)\(schema).schema.json").properties {
            let name = property.split(separator: ".").last ?? ""
            #expect(text.contains("`\(name)`") || text.contains(".\(name)`"), "\(property)")
        }
    }
}
