// Where a test executable may put itself between the commands and the machine. `weft` itself sets nothing here.

package import Netlink
internal import Synchronization
internal import WeftModel
package import WeftPlan

/// Hooks of test executables (kill points, fault injection). Set before a command runs, never by `weft`.
package struct Seams: Sendable {
    /// Wraps every netlink socket that a command opens.
    package var wrapTransport: (@Sendable (any Transport, Bus) -> any Transport)?
    /// Called before each operation; operations then reach the dataplane one at a time.
    package var beforeOperation: (@Sendable (Operation) -> Void)?

    package init() {}

    private static let shared = Mutex(Seams())

    package static var current: Seams {
        get { shared.withLock { $0 } }
        set { shared.withLock { $0 = newValue } }
    }
}

/// A dataplane with a hook before each operation.
struct HookedDataplane<Base: Dataplane>: Dataplane {
    var base: Base
    var beforeOperation: (@Sendable (Operation) -> Void)?

    mutating func observe(_ mesh: MeshIdentity, _ interests: Interests) throws(DataplaneError) -> Observation {
        try base.observe(mesh, interests)
    }

    mutating func foreignRoutes(at keys: [Route.Key], of mesh: MeshIdentity) throws(DataplaneError) -> [ForeignObject] {
        try base.foreignRoutes(at: keys, of: mesh)
    }

    mutating func holder(ofPort port: UInt16) -> ForeignObject? { base.holder(ofPort: port) }

    mutating func perform(_ operations: [Operation], for mesh: MeshIdentity) -> [Outcome] {
        guard let beforeOperation else { return base.perform(operations, for: mesh) }
        var outcomes: [Outcome] = []
        for operation in operations {
            beforeOperation(operation)
            outcomes += base.perform([operation], for: mesh)
        }
        return outcomes
    }
}
