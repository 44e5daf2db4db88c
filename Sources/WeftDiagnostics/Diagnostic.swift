// A problem as a value: what, where, how bad, and how to mend it.

/// A place in a file: a line and a column, both counted from 1; columns count Unicode scalars.
@frozen
package struct SourcePosition: Hashable, Comparable, Sendable {
    package var line: UInt32
    package var column: UInt32

    @inlinable
    package init(line: UInt32, column: UInt32) {
        self.line = line
        self.column = column
    }

    package static func < (left: Self, right: Self) -> Bool {
        (left.line, left.column) < (right.line, right.column)
    }
}

/// Where a problem stands: a file of a `SourceFiles`, and the range in it, end excluded. Plain bits, because a
/// topology carries one for every value in it.
@frozen
package struct SourceRange: Hashable, Comparable, Sendable {
    /// Index into the `SourceFiles` that were read; files are in path order, so places sort as people read.
    package var file: UInt32
    package var start: SourcePosition
    package var end: SourcePosition

    @inlinable
    package init(file: UInt32, start: SourcePosition, end: SourcePosition) {
        self.file = file
        self.start = start
        self.end = end
    }

    package static func < (left: Self, right: Self) -> Bool {
        (left.file, left.start, left.end) < (right.file, right.start, right.end)
    }
}

/// The files that places point into, with their text, so that a message can show the line.
package struct SourceFiles: Sendable {
    package struct File: Sendable {
        /// As the user named it, or below the folder that the user named.
        package var name: String
        package var bytes: [UInt8]

        package init(name: String, bytes: [UInt8]) {
            self.name = name
            self.bytes = bytes
        }
    }

    package var files: [File]

    package init(_ files: [File] = []) {
        self.files = files
    }

    package subscript(_ file: UInt32) -> File { files[Int(file)] }
}

/// How bad a problem is. Errors refuse the topology; warnings, notes and infos do not.
package enum Severity: String, Hashable, Sendable, Comparable, Codable {
    case error, warning, note

    private var rank: Int {
        switch self {
        case .error: 0
        case .warning: 1
        case .note: 2
        }
    }

    package static func < (left: Self, right: Self) -> Bool { left.rank < right.rank }
}

/// One problem. `id` is stable and dotted (`topology.duplicate-key`), so that scripts can match it.
package struct Diagnostic: Hashable, Sendable {
    /// A remark that belongs to the problem: the other place, the reason, the remedy.
    package struct Note: Hashable, Sendable {
        package var message: String
        package var place: SourceRange?

        package init(_ message: String, at place: SourceRange? = nil) {
            self.message = message
            self.place = place
        }
    }

    /// A replacement of the text at `range` that mends the problem. An empty range is an insertion.
    package struct FixIt: Hashable, Sendable {
        package var message: String
        package var range: SourceRange
        package var replacement: String

        package init(_ message: String, replace range: SourceRange, with replacement: String) {
            self.message = message
            self.range = range
            self.replacement = replacement
        }
    }

    /// Of the one that says how many of a file's are not shown.
    package static let unshownID = "topology.too-many"

    package var id: String
    package var severity: Severity
    package var message: String
    /// Nil for what belongs to no file (an empty folder, a missing permission).
    package var place: SourceRange?
    package var notes: [Note]
    package var fixIts: [FixIt]
    /// What may be a secret in the source: formatters mask these places in every line that they show.
    package var secrets: [SourceRange]

    package init(
        _ id: String,
        _ severity: Severity,
        _ message: String,
        at place: SourceRange? = nil,
        notes: [Note] = [],
        fixIts: [FixIt] = [],
        secrets: [SourceRange] = []
    ) {
        self.id = id
        self.severity = severity
        self.message = message
        self.place = place
        self.notes = notes
        self.fixIts = fixIts
        self.secrets = secrets
    }

    /// An error.
    package init(
        _ id: String,
        _ message: String,
        at place: SourceRange? = nil,
        notes: [Note] = [],
        fixIts: [FixIt] = [],
        secrets: [SourceRange] = []
    ) {
        self.init(id, .error, message, at: place, notes: notes, fixIts: fixIts, secrets: secrets)
    }
}
