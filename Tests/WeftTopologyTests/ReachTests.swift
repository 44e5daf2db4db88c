// Access rules that come to very many elements are told of, with how many.

import Testing
import WeftDiagnostics
import WeftModel

@testable import WeftTopology

@Suite struct ReachTests {
    /// A mesh of senders and receivers, whose addresses lie `gap` apart, and rules between the two groups.
    private func warnings(senders: Int, receivers: Int, gap: Int = 2, rules: [String]) throws -> [Diagnostic] {
        var text = "mesh: {name: corp, interface: wg0, addresses: [10.80.0.0/12], connect: hubs}\nnodes:\n"
        for index in 0..<(senders + receivers) as Range<Int> {
            let key = PublicKey(bigEndianWords: UInt64(index + 1) << 32, 1, 2, 3)
            let address = IPAddress(v4: 0x0A50_0001 + UInt32(index * gap))
            let more = index == 0 ? ", endpoint: 192.0.2.1, hub: true" : ""
            text += "  n\(index): {publicKey: \(key.base64), addresses: [\(address)]\(more)}\n"
        }
        func members(_ range: Range<Int>) -> String { range.map { "n\($0)" }.joined(separator: ", ") }
        text += "groups: {from: [\(members(0..<senders))], to: [\(members(senders..<(senders + receivers)))]}\n"
        text += "access:\n" + rules.map { "  - \($0)\n" }.joined()
        let files = SourceFiles([SourceFiles.File(name: "corp.yaml", bytes: Array(text.utf8))])
        let (topology, diagnostics) = TopologyReader.read(files)
        #expect(topology != nil, "\(diagnostics.map(\.message))")
        return diagnostics.filter { $0.id == "topology.access-size" }
    }

    @Test func groupsThatMultiplyAreTold() throws {
        // Ports in a row are one range: three to each pair by the first rule.
        let rules = [
            "{from: [from], to: [to], ports: [tcp/1, tcp/2, udp/7, icmp]}", "{from: [to], to: [from]}",
            "{from: [from], to: [to, from], ports: [icmp]}",
        ]
        #expect(
            try warnings(senders: 120, receivers: 100, rules: rules).map(\.message) == [
                "access rules come to as many as 74,400 elements, 36,000 of them by this rule: a host that passes packets on "
                    + "has one for each pair of sender and receiver, and takes long to load them"
            ])
    }

    @Test func fewStayUnsaid() throws {
        let rule = ["{from: [from], to: [to], ports: [tcp/1, tcp/3, udp/7, icmp]}"]
        #expect(try warnings(senders: 120, receivers: 100, rules: rule).isEmpty)
        // What lies in a row is one range.
        let many = [String](repeating: "{from: [from], to: [to], ports: [tcp/9]}", count: 6)
        #expect(try warnings(senders: 120, receivers: 100, gap: 1, rules: many).isEmpty)
        #expect(try warnings(senders: 120, receivers: 100, rules: many).count == 1)
    }
}
