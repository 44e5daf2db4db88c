// How a process without memory tells a mesh's own objects from all others.

/// A mesh on a host: its name, its interface, and the numbers that follow from the interface's name.
package struct MeshIdentity: Hashable, Sendable {
    package var mesh: String
    package var interface: String

    package init(mesh: String, interface: String) {
        self.mesh = mesh
        self.interface = interface
    }

    /// The routing protocol number, and the address protocol number, of everything that Weft adds.
    package static let protocolNumber: UInt8 = 119

    package var alias: String { Link.alias(mesh: mesh) }

    /// The metric of this mesh's `unreachable` routes: 0x7700_0000 plus the low 24 bits of the FNV-1a hash of the
    /// interface's name. Worse than any metric in use, and another for each interface.
    package var unreachableMetric: UInt32 { 0x7700_0000 | Self.hash(interface) & 0x00FF_FFFF }

    /// Whether a metric is the one of some mesh's `unreachable` routes.
    package static func isUnreachableMetric(_ metric: UInt32) -> Bool { metric >> 24 == 0x77 }

    /// The mark, table and priorities of this mesh's full tunnel: mark and table are 0x7700_0000 plus the low 24 bits of
    /// the FNV-1a hash of the interface's name, as the unreachable metric is; the priority is an even number from 10,000
    /// to 29,998 by the same hash. Never "the first free": every process finds the same.
    package var routingNumbers: RoutingNumbers {
        RoutingNumbers(
            mark: unreachableMetric, table: unreachableMetric, priority: 10_000 + Self.hash(interface) % 10_000 * 2)
    }

    /// Which bits of a packet's mark a tunnel's policy rule looks at. The marks that Weft derives share their highest byte,
    /// and the rules look at no more than that: where a host has several full tunnels, none takes the packets of another,
    /// which would go round for ever. A mark that the topology sets means just itself.
    package static func mask(of mark: UInt32) -> UInt32 { mark >> 24 == 0x77 ? 0xFF00_0000 : .max }

    /// A mark with its mask, as ip-rule(8) prints them: `fwmark 0xca6c`, `fwmark 0x77123456/0xff000000`.
    package static func words(forMark mark: UInt32) -> String {
        let mask = mask(of: mark)
        return "fwmark 0x\(String(mark, radix: 16))\(mask == .max ? "" : "/0x\(String(mask, radix: 16))")"
    }

    /// The mesh's own table in nf_tables, of family `inet`.
    package var firewallTable: String { "weft-\(interface)" }

    /// The name under which a kernel device is made before it gets its alias and its final name, in one message.
    /// A link of this name is a half-made one of this mesh, and of nobody else.
    package var reservedName: String {
        let digits = String(Self.hash("\(interface)\u{0}\(mesh)"), radix: 16)
        return "weft~" + String(repeating: "0", count: 8 - digits.count) + digits
    }

    /// FNV-1a, 32 bits.
    package static func hash(_ text: String) -> UInt32 {
        var hash: UInt32 = 2_166_136_261
        for byte in text.utf8 {
            hash = (hash ^ UInt32(byte)) &* 16_777_619
        }
        return hash
    }
}
