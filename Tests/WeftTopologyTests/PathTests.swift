// What validation says about pairs without a path, held against the paths that hosts really compile.

import Testing
import WeftDiagnostics
import WeftModel
import WeftTestSupport
import WeftTopology

@Suite struct PathTests {
    /// A small mesh with anything that decides who links to whom.
    private func topologyText(_ generator: inout SeededGenerator) -> String {
        let names = (0..<Int.random(in: 2...7, using: &generator)).map { "n\($0)" }
        func one(in count: Int) -> Bool { Int.random(in: 0..<count, using: &generator) == 0 }
        var text =
            "mesh: {name: m, interface: wg0, addresses: [10.0.0.0/16], connect: \(one(in: 3) ? "hubs" : "full")}\n"
        text += "nodes:\n"
        for (index, name) in names.enumerated() {
            var bytes = [UInt8](repeating: 7, count: 32)
            bytes[0] = UInt8(index)
            let key = PublicKey(bytes: bytes.span)?.base64 ?? ""
            text += "  \(name): {publicKey: \(key), addresses: [10.0.0.\(index + 1)]"
            if one(in: 3) { text += ", endpoint: \(name).example" }
            if one(in: 3) { text += ", hub: true" }
            if one(in: 8) { text += ", disabled: true" }
            if one(in: 4) {
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: text += ", connect: full"
                case 1: text += ", connect: hubs"
                default:
                    let others = names.filter { $0 != name && Int.random(in: 0..<2, using: &generator) == 0 }
                    text += ", connect: [\(others.joined(separator: ", "))]"
                }
            }
            text += "}\n"
        }
        if one(in: 3) {
            text += "links:\n  - {between: [n0, n1], endpoints: {n\(one(in: 2) ? 0 : 1): 192.0.2.1}}\n"
        }
        return text
    }

    /// Whether every active node has a peer that leads to every other.
    private func isWhole(_ topology: Topology) -> Bool {
        let time = UnixTime(seconds: 0)
        let active = topology.nodes.indices.filter { topology.nodes[$0].isActive(at: time) }
        return active.allSatisfy { index in
            let state = topology.compile(for: index, facts: HostFacts(), at: time).desired.state
            let reached = Set(state.peers.flatMap { Array($0.allowedIPs) })
            return active.allSatisfy { other in
                other == index
                    || topology.nodes[other].addresses.allSatisfy { reached.contains(IPPrefix(host: $0.value)) }
            }
        }
    }

    @Test(arguments: 0..<20)
    func warnsExactlyWhereAPathIsMissing(seed: Int) throws {
        var generator = SeededGenerator(seed: UInt64(seed) &+ 1000)
        var whole = 0
        var broken = 0
        for _ in 0..<60 {
            let text = topologyText(&generator)
            let files = SourceFiles([SourceFiles.File(name: "t.yaml", bytes: Array(text.utf8))])
            let (topology, diagnostics) = TopologyReader.read(files)
            guard let topology else {
                #expect(
                    diagnostics.filter { $0.severity == .error }.allSatisfy { $0.id == "topology.no-entry" }, "\(text)")
                continue
            }
            let isWhole = isWhole(topology)
            #expect(diagnostics.contains { $0.id == "topology.no-path" } == !isWhole, "\(text)")
            if isWhole { whole += 1 } else { broken += 1 }
        }
        #expect(whole > 0 && broken > 0)
    }

    /// A hub relays no family that it has no address of.
    @Test func aHubWithoutAFamilyIsTold() throws {
        func warnings(_ hub: String, _ more: String = "") -> [String] {
            func key(_ first: UInt8) -> String {
                var bytes = [UInt8](repeating: 7, count: 32)
                bytes[0] = first
                return PublicKey(bytes: bytes.span)?.base64 ?? ""
            }
            let text = """
                mesh: {name: m, interface: wg0, addresses: [10.0.0.0/8, "fd00::/48"]}
                nodes:
                  hub: {publicKey: \(key(1)), addresses: [10.0.0.1\(hub)], endpoint: hub.example, hub: true}
                  ana: {publicKey: \(key(2)), addresses: [10.0.0.2, "fd00::2"]}
                  bob: {publicKey: \(key(3)), addresses: [10.0.0.3, "fd00::3"]\(more)}
                """
            let files = SourceFiles([SourceFiles.File(name: "t.yaml", bytes: Array(text.utf8))])
            return TopologyReader.read(files).diagnostics.map(\.message)
        }
        #expect(
            warnings("") == [
                "\"ana\" and \"bob\" reach each other through \"hub\", which has no IPv6 address: their IPv6 ends there"
            ])
        #expect(warnings(", \"fd00::1\"").isEmpty)
        // They link directly.
        #expect(warnings("", ", endpoint: bob.example").isEmpty)
    }

    /// Links within a large mesh do not make its nodes differ.
    @Test func largeMeshesAreTold() throws {
        var text = "mesh: {name: m, interface: wg0, addresses: [10.0.0.0/8]}\nnodes:\n"
        for index in 0..<3000 {
            var bytes = [UInt8](repeating: 7, count: 32)
            bytes[0] = UInt8(index & 255)
            bytes[1] = UInt8(index >> 8)
            let key = PublicKey(bytes: bytes.span)?.base64 ?? ""
            let endpoint = index % 2 == 0 ? ", endpoint: n\(index).example" : ""
            text += "  n\(index): {publicKey: \(key), addresses: [10.1.\(index >> 8).\(index & 255)]\(endpoint)}\n"
        }
        text += "links:\n"
        for index in 0..<2500 {
            text += "  - {between: [n\(index), n\(index + 1)], endpoints: {n\(index): 192.0.2.1}}\n"
        }
        let files = SourceFiles([SourceFiles.File(name: "t.yaml", bytes: Array(text.utf8))])
        let (topology, diagnostics) = TopologyReader.read(files)
        #expect(topology != nil)
        #expect(diagnostics.map(\.id) == ["topology.no-path"])
        #expect(diagnostics.first?.message == "\"n1\", \"n1001\", \"n1003\" and 1,497 more cannot reach one another")
    }
}
