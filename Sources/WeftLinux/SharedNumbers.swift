// What two meshes on one host have both: networks, which is refused, and a mark or a table, which is only said.

import WeftModel
import WeftPlan

extension ForeignObject {
    /// - Parameter networks: which both meshes would have.
    init(networks: [IPPrefix], of other: MeshIdentity, and mesh: MeshIdentity) {
        let shown = networks.count > 3 ? 2 : networks.count
        var names = networks.prefix(shown).map(\.description)
        if shown < networks.count { names.append("\(networks.count - shown) more") }
        let last = names.removeLast()
        self.init(
            kind: "mesh",
            description: "\(other.mesh) on \(other.interface) and \(mesh.mesh) on \(mesh.interface) both use "
                + (names.isEmpty ? last : "\(names.joined(separator: ", ")) and \(last)"),
            relation: .sharesNetworks,
            remedy: "Packets to these addresses can only go into one of the two: give one of them another range, or a "
                + "`table` of its own.")
    }

    /// - Parameter number: a mark or a table, as the topology says it.
    fileprivate init(number: String, of other: MeshIdentity, remedy: String) {
        self.init(
            kind: "mesh", description: "\(other.mesh) on \(other.interface) uses \(number) too", relation: .hinders,
            remedy: remedy)
    }
}

extension KernelDataplane {
    /// Other meshes that say the same `fwMark`, or the same `table`, as one without a full tunnel: that works, and what
    /// somebody else's rules do with the number holds for all of them.
    mutating func sharedNumbers(of mesh: MeshIdentity, _ interests: Interests) throws(DataplaneError) -> [ForeignObject]
    {
        // A full tunnel's numbers are its own: who else has them is in its way.
        guard interests.rules.isEmpty else { return [] }
        let mark = interests.traffic.mark
        let table = interests.routes.first.map(\.table) ?? Route.mainTable
        guard mark != 0 || table != Route.mainTable else { return [] }
        var found: [ForeignObject] = []
        for other in try ownMeshes(route) where other.interface != mesh.interface {
            guard case .ours(let link, let kind) = try links.owner(of: other, parts.userspace) else { continue }
            if mark != 0, (try? readDevice(link, kind))?.device.fwMark == mark {
                found.append(
                    ForeignObject(
                        number: "fwMark 0x\(String(mark, radix: 16))", of: other,
                        remedy: "Rules for it hold for both tunnels: where that is not meant, set another `fwMark`."))
            }
            if table != Route.mainTable, try has(link, aRouteIn: table) {
                found.append(
                    ForeignObject(
                        number: "table \(table)", of: other,
                        remedy: "Rules that lead there reach both meshes: where that is not meant, set another `table`."
                    ))
            }
        }
        return found
    }

    private func has(_ link: LiveLink, aRouteIn table: UInt32) throws(DataplaneError) -> Bool {
        let identity = MeshIdentity(mesh: "", interface: link.name)
        return try Routes(channel: route, links: links, mesh: identity, interface: link.index).read(expecting: 0).ours
            .contains { $0.table == table }
    }
}
