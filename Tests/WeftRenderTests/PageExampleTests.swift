// The examples in the pages are real output.

import FoundationEssentials
import Testing
import WeftModel
import WeftPlan

@testable import WeftRender

@Suite struct PageExampleTests {
    /// The first code block of a page, without its fence.
    private func example(_ page: String) throws -> String {
        let sources = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Sources/WeftRender/WeftRender.docc/\(page).md")
        let text = String(decoding: try Data(contentsOf: sources), as: UTF8.self)
        let parts = text.components(separatedBy: "```")
        return parts.count > 1 ? String(parts[1].drop { $0 != "\n" }.dropFirst()) : ""
    }

    @Test func readingAPlan() throws {
        let ams = try #require(PublicKey("TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="))
        let ana = try #require(PublicKey("gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA="))
        let link = Link(name: "wg0", mtu: 1420, alias: "weft:corp")
        let before = HostState(
            link: link,
            peers: [Peer(publicKey: ana, allowedIPs: [Samples.prefix("10.1.0.0/16"), Samples.prefix("10.2.0.0/16")])],
            routes: [Samples.route("10.1.0.0/16"), Samples.route("10.2.0.0/16")])
        let after = HostState(
            link: link,
            peers: [
                Peer(
                    publicKey: ams, persistentKeepalive: 25,
                    allowedIPs: [Samples.prefix("10.80.0.2/32"), Samples.prefix("10.2.0.0/16")],
                    endpoint: SocketAddress(Samples.address("2001:db8::7"), port: 51820)),
                Peer(publicKey: ana),
            ],
            routes: [Samples.route("10.2.0.0/16"), Samples.route("10.80.0.2/32")])
        let desired = DesiredState(
            mesh: "corp", interface: "wg0", node: "fra", state: after, peerNames: [ams: "ams", ana: "ana-laptop"])
        let plan = Samples.plan(
            desired, from: Observation(state: before, statistics: [PeerStatistics()], time: Samples.now))
        #expect(PlanText(plan, labels: PlanLabels(desired)).text == (try example("ReadingAPlan")))
    }

    @Test func applyFormat() throws {
        let text = try example("ApplyFormat")
        var schema = try Schema("WeftRender/WeftRender.docc/apply.schema.json")
        try schema.check(text)
        #expect(schema.problems == [])
        #expect(try JSON.decode(ApplyDocument.self, text).converged)
    }

    @Test func planFormat() throws {
        let text = try example("PlanFormat")
        var schema = try Schema("WeftRender/WeftRender.docc/plan.schema.json")
        try schema.check(text)
        #expect(schema.problems == [])
        let document = try JSON.decode(PlanDocument.self, text)
        #expect(document.operations.first?.allowedIPs?.removed == ["10.1.0.0/16"])
    }
}
