// ICMP errors under access rules: an error is judged as the flow that it is about.

import Testing
import WeftModel
import WeftTestSupport

@testable import WeftTopology

@Suite struct AccessErrorTests {
    private typealias Tuple = ModelPacket.Tuple

    /// An error to who opened a flow over UDP from port 4000, from anywhere on the flow's way.
    private func error(
        from router: String, about flow: (opener: String, destination: String, port: UInt16), in input: String,
        out output: String = "", _ change: (inout ModelPacket) -> Void = { _ in }
    ) throws -> ModelPacket {
        let (opener, destination) = (try ip(flow.opener), try ip(flow.destination))
        return try packet(router, flow.opener, in: input, out: output) {
            $0.transport = opener.family == .v4 ? 1 : 58
            $0.header = [3, 3, 0, 0]
            $0.flowTransport = 17
            $0.state = 4
            $0.isReply = true
            $0.original = Tuple(opener, 4000, destination, flow.port)
            $0.reply = Tuple(destination, flow.port, opener, 4000)
            change(&$0)
        }
    }

    private func mesh(_ access: String) throws -> Topology {
        try topology(
            more: "access: [\(access)]", ranges: "10.80.0.0/16, \"fd80::/48\"",
            addresses: ("10.80.0.1, \"fd80::1\"", "10.80.1.7, \"fd80::107\""))
    }

    @Test(arguments: [
        ("10.80.1.7", "10.80.0.1", (own: "192.168.0.7", other: "192.168.0.9")),
        ("fd80::107", "fd80::1", (own: "fd00:7::7", other: "fd00:7::9")),
    ])
    func whatIsAboutAFlowReachesWhoOpenedIt(
        _ ana: String, _ fra: String, _ elsewhere: (own: String, other: String)
    ) throws {
        let mesh = try mesh("{from: [ana], to: [fra], ports: [udp/80]}")
        var firewall = try mesh.firewall(of: "ana")
        func verdict(
            _ opener: String, _ port: UInt16, to destination: String? = nil,
            _ change: (inout ModelPacket) -> Void = { _ in }
        ) throws -> ModelFirewall.Verdict {
            var packet = try error(from: fra, about: (opener, destination ?? fra, port), in: "wg0", change)
            return firewall.receive(&packet)
        }
        // Whatever it asks itself: it is told that it may not.
        #expect(try verdict(ana, 80) == .accepted)
        #expect(try verdict(ana, 81) == .accepted)
        // A flow that is none of the mesh's; none at all.
        #expect(try verdict(elsewhere.own, 80, to: elsewhere.other) == .refused)
        #expect(try verdict(ana, 80) { $0.isTracked = false } == .refused)
        // About an answer, to who answers.
        var back = try mesh.firewall(of: "fra")
        for (port, verdict) in [(80, .accepted), (81, .refused)] as [(UInt16, ModelFirewall.Verdict)] {
            var packet = try packet(ana, fra, in: "wg0") {
                $0.transport = $0.source.family == .v4 ? 1 : 58
                $0.flowTransport = 17
                $0.state = 4
                $0.original = try? Tuple(ip(ana), 4000, ip(fra), port)
                $0.reply = try? Tuple(ip(fra), port, ip(ana), 4000)
            }
            #expect(back.receive(&packet) == verdict)
        }
    }

    @Test func routersBeyondAnExitAreHeard() throws {
        var firewall = try mesh("{from: [ana], to: [internet], ports: [udp/80]}").firewall(of: "fra")
        for (port, verdict) in [(80, .accepted), (81, .refused)] as [(UInt16, ModelFirewall.Verdict)] {
            var packet = try error(
                from: "203.0.113.1", about: ("10.80.1.7", "198.51.100.9", port), in: "eth0", out: "wg0")
            #expect(firewall.forward(&packet) == verdict)
        }
        // Nobody in the mesh tells the exit of its own flows elsewhere.
        var forged = try error(from: "10.80.1.7", about: ("192.168.7.1", "192.168.7.9", 80), in: "wg0")
        #expect(firewall.receive(&forged) == .refused)
    }
}
