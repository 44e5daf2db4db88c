// A host's routes: one for each prefix in the mesh, and none for packets to nobody.

import WeftDiagnostics
import WeftModel

extension Compiler {
    /// The mesh's routes, in the order of their keys.
    mutating func routes(_ prefixes: [IPPrefix]) -> [Route] {
        let table: UInt32
        switch node.table {
        case .off: return []
        case .main: table = Route.mainTable
        case .number(let number): table = number
        }
        var sources: [IPAddress.Family: IPAddress] = [:]
        for address in node.addresses where sources[address.value.family] == nil {
            sources[address.value.family] = address.value
        }
        let source4 = sources[.v4]
        let source6 = sources[.v6]
        var routes: [Route] = []
        routes.reserveCapacity(prefixes.count + topology.mesh.addresses.count)
        var withoutAddress: [IPAddress.Family: Int] = [:]
        // Of one table and one metric, so their order is that of their prefixes, and those are small to sort.
        var last: IPPrefix?
        for prefix in prefixes.sorted() where prefix != last && !prefix.isDefault {
            last = prefix
            guard let source = prefix.family == .v4 ? source4 : source6 else {
                withoutAddress[prefix.family, default: 0] += 1
                continue
            }
            routes.append(
                Route(
                    prefix, table: table, metric: Route.defaultMetric(prefix.family), target: .interface,
                    source: source))
        }
        func insert(_ route: Route) {
            routes.insert(route, at: routes.partitioningIndex { route.key < $0.key })
        }
        let metric = identity.unreachableMetric
        for range in topology.mesh.addresses where sources[range.value.family] != nil {
            insert(Route(range.value, table: table, metric: metric, target: .unreachable, source: nil))
        }
        for route in defaultRoutes() { insert(route) }
        for (family, count) in withoutAddress.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            let name = family == .v4 ? "IPv4" : "IPv6"
            diagnostics.append(
                Diagnostic(
                    "host.no-address-in-family", .warning,
                    "\(node.name) has no \(name) address in the mesh: "
                        + (count == 1 ? "one \(name) prefix gets" : "\(count) \(name) prefixes get") + " no route here",
                    at: node.place,
                    notes: [
                        Diagnostic.Note("give \(node.name) an \(name) address from the mesh's ranges to reach them")
                    ]))
        }
        return routes
    }
}

extension Array {
    /// The index of the first element of a sorted array from which on `predicate` holds.
    func partitioningIndex(where predicate: (Element) -> Bool) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if predicate(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
