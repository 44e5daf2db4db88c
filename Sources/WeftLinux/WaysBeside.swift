// How packets go that are not the mesh's: the ways that a change of the mesh must leave open.

package import Netlink
package import WeftModel
package import WeftPlan

/// Looks up how packets go that are not the mesh's.
package struct WaysBeside {
    private let lookup: RouteLookup

    /// Opens a socket in the calling thread's network namespace, and reads its links.
    package init(
        transports: TransportFactory = { (bus) throws(Errno) in try Socket(bus) }
    ) throws(DataplaneError) {
        lookup = try RouteLookup(transports: transports)
    }

    /// The route that leads to an address past a mesh's interface, by the first of its ways where it has several; nil where
    /// there is none, or the mesh hides it.
    ///
    /// - Parameters:
    ///   - mark: of the tunnel's own packets, which go past its policy rules; 0: none.
    package func way(to address: IPAddress, past interface: String, mark: UInt32) -> Guarded.Way? {
        for mark in mark == 0 ? [0] : [0, mark] {
            guard let route = try? lookup.route(to: address, mark: mark),
                let link = route.interfaces.first.flatMap({ lookup.links[$0] }), link.name != interface
            else { continue }
            return Guarded.Way(interface: link.name, length: route.length, table: route.table)
        }
        return nil
    }
}
