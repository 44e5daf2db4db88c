// What an agent tells of itself and of its meshes: the document that crosses its socket.

/// An agent's status. Field by field in AgentFormat.md. Holds no secret. Absent fields are unknown or not set.
package struct AgentDocument: Codable, Hashable, Sendable {
    /// The name of the format.
    package static let formatName = "weft.agent"
    /// The current version of the format.
    package static let currentVersion = 1

    /// Always `weft.agent`.
    package var format = Self.formatName
    /// 1. Raised when a field changes its meaning or goes; new fields do not raise it.
    package var version = Self.currentVersion
    /// When it was written: RFC 3339, UTC.
    package var time: String
    /// The agent's process.
    package var process: Int32
    /// RFC 3339, UTC.
    package var startedAt: String
    /// What is wrong with the wall clock, or with remembering it; absent where nothing is.
    package var clock: String?
    /// The repository that is followed; absent where none is.
    package var git: Git?
    /// In the order of the command line.
    package var meshes: [Mesh]

    /// A repository that is followed.
    package struct Git: Codable, Hashable, Sendable {
        package var url: String
        package var ref: String
        /// The commit in force; absent where none of those fetched is, or was since the start.
        package var commit: String?
        /// The commit fetched last, where that is not the one in force: refused, on trial, or about to be read.
        package var fetched: String?
        /// Why the last look at it failed.
        package var problem: String?

        package init(url: String, ref: String, commit: String?, fetched: String? = nil, problem: String?) {
            self.url = url
            self.ref = ref
            self.commit = commit
            self.fetched = fetched
            self.problem = problem
        }
    }

    /// One topology, and the mesh that it makes of this host.
    package struct Mesh: Codable, Hashable, Sendable {
        /// The watched folder or file.
        package var topology: String
        /// `waiting`, `converged`, `applying`, `drifted`, `held`, `blocked`, `failing`.
        package var stage: String
        /// Absent where nothing is in force.
        package var revision: Revision?
        /// Why what the folder holds is not in force.
        package var problem: Problem?
        /// Why the kernel could not be read.
        package var failure: String?
        /// What of the state folder could not be used, or written; absent where all could. The tunnels do not hang on
        /// it.
        package var memory: String?
        /// The topology that must prove itself, or be taken back; absent where there is none.
        package var onTrial: String?
        /// `repair` or `report`.
        package var drift: String
        /// What differs from the topology and is not repaired now: a line for each, at most 20.
        package var remaining: [String]
        /// What is not weft's and stands in the way, each with what to do: a line for each, at most 20. Absent where
        /// nothing does.
        package var obstacles: [String]?
        package var figures: Figures
        /// As `weft status` shows it; absent before the first look.
        package var status: StatusDocument?

        package init(
            topology: String, stage: String, revision: Revision?, problem: Problem?, failure: String?,
            memory: String? = nil, onTrial: String?, drift: String, remaining: [String],
            obstacles: [String]? = nil, figures: Figures, status: StatusDocument?
        ) {
            self.topology = topology
            self.stage = stage
            self.revision = revision
            self.problem = problem
            self.failure = failure
            self.memory = memory
            self.onTrial = onTrial
            self.drift = drift
            self.remaining = remaining
            self.obstacles = obstacles
            self.figures = figures
            self.status = status
        }
    }

    /// The topology in force.
    package struct Revision: Codable, Hashable, Sendable {
        /// A digest of its files.
        package var id: String
        /// `folder`, or `kept`: what the state folder had of the last good one.
        package var origin: String

        package init(id: String, origin: String) {
            self.id = id
            self.origin = origin
        }
    }

    /// A topology that could not be taken.
    package struct Problem: Codable, Hashable, Sendable {
        package var summary: String
        /// As `weft check` would print it; may be empty.
        package var details: String

        package init(summary: String, details: String) {
            self.summary = summary
            self.details = details
        }
    }

    /// What was done since the start.
    package struct Figures: Codable, Hashable, Sendable {
        /// Times that everything was looked at.
        package var passes: Int
        /// Times that something was found changed from outside.
        package var drifts: Int
        /// Plans applied because of it.
        package var repairs: Int
        /// Plans applied because something else was wanted.
        package var applies: Int
        /// Single operations done.
        package var changes: Int

        package init(passes: Int, drifts: Int, repairs: Int, applies: Int, changes: Int) {
            self.passes = passes
            self.drifts = drifts
            self.repairs = repairs
            self.applies = applies
            self.changes = changes
        }
    }

    package init(
        time: String, process: Int32, startedAt: String, clock: String? = nil, git: Git? = nil, meshes: [Mesh]
    ) {
        self.time = time
        self.process = process
        self.startedAt = startedAt
        self.clock = clock
        self.git = git
        self.meshes = meshes
    }
}
