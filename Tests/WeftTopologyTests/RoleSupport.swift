// What tests of roles share: a mesh of an exit, a client and a hub's spokes, what it compiles to, and packets.

import Testing
import WeftDiagnostics
import WeftModel
import WeftTestSupport

@testable import WeftTopology

/// When everything is compiled.
let now = UnixTime(seconds: 1_800_000_000)

/// A mesh of an exit, a client and a hub's spokes; lines are added to the exit, to the client, and at the end.
func topology(
    exit: String = "masquerade: true", client: String = "useExit: fra", more: String = "",
    endpoint: String = "192.0.2.1", ranges: String = "10.80.0.0/16",
    addresses: (exit: String, client: String) = ("10.80.0.1", "10.80.1.7")
) throws -> Topology {
    let text = """
        mesh: {name: corp, interface: wg0, addresses: [\(ranges)]}
        nodes:
          fra:
            publicKey: cJ3bS22/vO2/CTfx+EGVKEjRBfuO+OO7vaaK0PLCmGw=
            addresses: [\(addresses.exit)]
            endpoint: \(endpoint)
            exit: true
            \(exit)
          ana:
            publicKey: gi9Bnb4VjS1Ur7R7bgI1QG2DZPk1I6EkAgjozvupoRI=
            addresses: [\(addresses.client)]
            \(client)
        \(more)
        """
    let files = SourceFiles([SourceFiles.File(name: "corp.yaml", bytes: Array(text.utf8))])
    let (topology, diagnostics) = TopologyReader.read(files, at: now)
    return try #require(topology, "\(diagnostics.map(\.message))")
}

/// An address that a test writes out.
func ip(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

/// A prefix that a test writes out.
func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

extension Topology {
    func compilation(of name: String, _ facts: HostFacts = HostFacts()) throws -> Compilation {
        let node = try #require(index(ofNode: name))
        return compile(for: node, facts: facts, at: now)
    }

    func hostState(of name: String, _ facts: HostFacts = HostFacts()) throws -> HostState {
        try compilation(of: name, facts).desired.state
    }

    func firewall(of name: String) throws -> ModelFirewall {
        let firewall = try hostState(of: name).firewall
        let table: Firewall = try #require(firewall)
        return ModelFirewall(table)
    }
}

/// A packet from one address to another, in and out by interfaces; UDP from port 4000 to 4001.
func packet(
    _ source: String, _ destination: String, in input: String = "", out output: String = "",
    _ change: (inout ModelPacket) -> Void = { _ in }
) throws -> ModelPacket {
    var packet = ModelPacket(try ip(source), try ip(destination))
    packet.inputInterface = input
    packet.outputInterface = output
    packet.transport = 17
    packet.setPorts(4000, 4001)
    change(&packet)
    return packet
}
