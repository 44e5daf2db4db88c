// What an agent needs of the machine for one mesh: the topology, the host's facts, its memory, its kernel.

package import WeftModel
package import WeftPlan
package import WeftTopology

/// A topology that was read whole and without errors.
package struct Revision<Source> {
    /// Where it came from.
    package enum Origin: String, Sendable, Hashable {
        /// The watched folder.
        case folder
        /// What the state folder keeps of the last good one.
        case kept
        /// No topology: the mesh was not there.
        case nothing
    }

    /// A digest of all its files: equal means the same topology.
    package var id: String
    package var origin: Origin
    package var source: Source

    package init(id: String, origin: Origin, source: Source) {
        self.id = id
        self.origin = origin
        self.source = source
    }
}

/// Why something could not be decided on: what a person reads.
package struct AgentProblem: Error, Hashable, Sendable {
    /// One sentence.
    package var summary: String
    /// More, as `weft check` would print it; may be empty.
    package var details: String
    /// Whether nothing but another agent or a person can end it: the agent then refuses to start.
    package var isFatal = false

    package init(_ summary: String, details: String = "", isFatal: Bool = false) {
        self.summary = summary
        self.details = details
        self.isFatal = isFatal
    }
}

/// What was found where the topology is.
package enum TopologyReading<Source> {
    case good(Revision<Source>)
    case broken(AgentProblem)
    /// It is yet to come, which is said elsewhere.
    case awaited
}

/// The machine, as one mesh's controller sees it. Nothing here waits for the network.
package protocol MeshHost {
    associatedtype Plane: Dataplane
    associatedtype Source

    /// Reads the topology as it is now.
    mutating func read() -> TopologyReading<Source>
    /// The last good topology, as the state folder keeps it.
    mutating func kept() -> Revision<Source>?
    /// Keeps a topology for the next start.
    mutating func keep(_ revision: Revision<Source>) throws(AgentProblem)
    /// What a topology means for this host, now.
    ///
    /// - Parameters:
    ///   - names: answers for endpoints' names, as far as there are any.
    ///   - leavesOut: nodes that are taken for disabled where their preshared keys are gone.
    /// - Returns: an empty state for a revision that is nothing.
    /// - Throws: where it means nothing for this host, or what this host cannot be.
    mutating func compile(
        _ revision: Revision<Source>, names: [String: [IPAddress]], leavesOut: (String) -> Bool
    ) throws(AgentProblem) -> Compilation
    /// From now on operations are those of this revision, with the keys that it was compiled with last.
    mutating func use(_ revision: Revision<Source>)
    /// What can be told of a host whose keys cannot be used: that it is the node which it was when a kill switch was in force
    /// here last. Nil where none was.
    func compileWithoutKeys(_ revision: Revision<Source>, because problem: AgentProblem) -> Compilation?
    /// The names of endpoints that this host dials.
    mutating func endpointNames(_ revision: Revision<Source>) -> [String]
    /// The address by which a node is asked whether it is there; nil where it has none.
    func address(ofNode name: String, in revision: Revision<Source>) -> IPAddress?
    /// Makes sure that nobody else changes the mesh's interface from now on. Called again, it does nothing.
    mutating func takeCharge(of mesh: MeshIdentity) throws(AgentProblem)
    /// The kernel.
    mutating func openDataplane() throws(DataplaneError) -> Plane

    mutating func memory(of mesh: MeshIdentity) throws(DataplaneError) -> MeshMemory
    mutating func remember(_ memory: MeshMemory, of mesh: MeshIdentity) throws(DataplaneError)
    /// What of all that is remembered could not be used, in sentences.
    var memoryProblems: [String] { get }

    /// What is remembered of a change on trial, or that failed; nil where there is none, and after a restart of the machine
    /// a trial's time is over.
    mutating func trial(of mesh: MeshIdentity) -> TrialRecord?
    /// Remembers it; nil: there is none any more.
    mutating func store(_ trial: TrialRecord?, of mesh: MeshIdentity) throws(AgentProblem)
    /// The wall clock.
    func now() -> UnixTime
    /// What must not be cut off, and how it is reached without the mesh.
    ///
    /// - Parameter mark: of the tunnel's own packets as they are now; 0: none.
    func guarded(_ desired: DesiredState, mark: UInt32) -> [Guarded]

    /// Has the kernel's events of until now told to the controller (`noteKernelEvents`), not only when their turn comes:
    /// who changed what has just been seen is among them.
    func hearKernel()

    /// An operation in a few words, with peers by name.
    func phrase(_ operation: Operation) -> String
}

extension MeshHost {
    mutating func compile(
        _ revision: Revision<Source>, names: [String: [IPAddress]]
    ) throws(AgentProblem) -> Compilation {
        try compile(revision, names: names) { _ in false }
    }
}
