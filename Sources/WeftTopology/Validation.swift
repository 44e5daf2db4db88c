// What must hold between the parts of a topology.

import WeftDiagnostics
import WeftModel
import YAML

extension Reader {
    /// Puts the parts together and checks them against one another.
    ///
    /// - Parameter isWhole: False where a file could not be read: unknown names are no finding then.
    mutating func validate(_ mesh: Mesh, isWhole: Bool, at time: UnixTime?) -> Topology? {
        let order = draft.nodes.indices.sorted { draft.nodes[$0].name < draft.nodes[$1].name }
        var isSorted = true
        for (position, index) in order.enumerated() where position != index {
            isSorted = false
            break
        }
        if !isSorted {
            draft.nodes = order.map { draft.nodes[$0] }
            draft.sources = order.map { draft.sources[$0] }
        }
        return Topology(
            mesh: mesh, nodes: draft.nodes, groups: draft.groups, links: draft.links, access: draft.access,
            tests: draft.tests)
    }
}
