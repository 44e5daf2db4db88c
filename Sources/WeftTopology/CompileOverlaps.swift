// Networks that the host is connected to and the mesh has too: which packets go where.

import WeftDiagnostics
import WeftModel

extension Compiler {
    mutating func warnAboutOverlaps(_ routes: [Route]) {
        for network in facts.connectedNetworks {
            let hits = routes.filter { !$0.prefix.isDefault && $0.prefix.overlaps(network.prefix) }
            if hits.isEmpty { continue }
            // A range is what the others lie in: it is named after them.
            let prefixes = hits.filter { $0.target == .interface }.map(\.prefix)
            let ranges = hits.filter { $0.target == .unreachable }.map(\.prefix)
            let names = prefixes.map(\.description) + ranges.map { "the mesh's range \($0)" }
            diagnostics.append(
                Diagnostic(
                    "host.overlaps-connected", .warning,
                    "\(Self.words(names)) \(hits.count > 1 ? "overlap" : "overlaps") \(network.prefix), which this host "
                        + "is connected to by \(network.interface)",
                    at: node.place,
                    notes: ways(prefixes, ranges, network).map { Diagnostic.Note($0) }))
        }
    }

    /// Which packets go where: the longest prefix decides, and of equal ones the lowest metric. Prefixes that overlap are
    /// equal, or the longer one lies in the other.
    private func ways(
        _ prefixes: [IPPrefix], _ ranges: [IPPrefix], _ network: HostFacts.ConnectedNetwork
    ) -> [String] {
        let (own, interface) = (network.prefix, network.interface)
        let taken = prefixes.filter { $0.length > own.length }
        let refused = ranges.filter { $0.length > own.length }
        let around = prefixes.filter { $0.length < own.length }
        let rest = taken.isEmpty ? "" : "the rest of "
        var ways: [String] = []
        if !taken.isEmpty {
            ways.append(
                "packets to \(Self.words(taken.map(\.description))) would go into the mesh, and no longer to \(interface)"
            )
        }
        if !refused.isEmpty {
            ways.append(
                "packets to \(rest)\(Self.words(refused.map(\.description))) would be refused as unreachable, and no longer "
                    + "go to \(interface)")
        }
        if prefixes.contains(own) {
            let metric = Route.defaultMetric(own.family)
            ways.append(
                "packets to \(rest)\(own) go by the route with the lower metric, and the mesh's "
                    + "has \(metric)"
                    + (metric == 0 ? ": where that of \(interface) has 0 too, the mesh's cannot be made" : ""))
        } else if !around.isEmpty || ranges.contains(where: { $0.length <= own.length }) {
            let other = around.isEmpty ? "" : ", and the rest of \(Self.words(around.map(\.description))) into the mesh"
            ways.append("packets to \(rest)\(own) still go to \(interface)\(other)")
        }
        return ways
    }

    /// Up to three of them by name.
    private static func words(_ names: [String]) -> String {
        if names.count > 3 { return names.prefix(3).joined(separator: ", ") + " and \(names.count - 3) more" }
        guard let last = names.last, names.count > 1 else { return names.joined() }
        return names.dropLast().joined(separator: ", ") + " and \(last)"
    }
}
