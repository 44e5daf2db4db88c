// From the bytes of all files to one topology: gathers the sections of every file, then reads them in the order in
// which they need one another.

package import WeftDiagnostics
package import WeftModel
import YAML

/// Reads topologies.
package enum TopologyReader {
    /// Reads and validates all files as one topology.
    ///
    /// - Parameters:
    ///   - files: In path order, as diagnostics are to name them.
    ///   - time: Nodes that have expired by then are validated as disabled ones. Nil: none has.
    /// - Returns: The topology, and every problem of it sorted by place. Nil if any of them is an error.
    package static func read(
        _ files: SourceFiles, at time: UnixTime? = nil
    ) -> (topology: Topology?, diagnostics: [Diagnostic]) {
        var reader = Reader()
        let topology = reader.read(files, at: time)
        return (reader.problems.hasErrors ? nil : topology, reader.problems.sorted())
    }
}

/// The state of one reading.
struct Reader {
    /// A value of a section, and the tree that it stands in.
    struct Section {
        var tree: Int
        var key: YAMLTree.ID
        var value: YAMLTree.ID
    }

    var problems = Problems()
    var trees: [YAMLTree] = []
    /// The tree that is being read.
    var tree = YAMLTree.empty
    var draft = Draft()
    /// What the last unknown field was probably meant to be.
    var suggested: String?

    /// Files that hold nothing but comments and blank lines.
    private var blanks: [UInt32] = []
    private var sections: [[Section]] = Array(repeating: [], count: RootField.allCases.count)

    mutating func read(_ files: SourceFiles, at time: UnixTime?) -> Topology? {
        guard !files.files.isEmpty else {
            problems.error(
                "topology.empty", "no topology: there is no *.yaml or *.yml file", at: nil,
                notes: [Diagnostic.Note("files and folders whose names begin with a dot are not read")])
            return nil
        }
        let isWhole = parse(files)
        let mesh = readMesh(isWhole: isWhole)
        readDefaults()
        for section in sections(.nodes) { readNodes(section) }
        for section in sections(.groups) { readGroups(section) }
        for section in sections(.links) { readLinks(section) }
        readAccess()
        for section in sections(.tests) { readTests(section) }
        guard let mesh else { return nil }
        return validate(mesh, isWhole: isWhole, at: time)
    }

    /// Parses every file and notes where its sections are. False where a file could not be read, so that names may be
    /// missing.
    private mutating func parse(_ files: SourceFiles) -> Bool {
        var isWhole = true
        for index in files.files.indices {
            let (tree, found) = YAML.parse(files, UInt32(index))
            for problem in found { problems.add(problem) }
            guard let tree else {
                if found.isEmpty { blanks.append(UInt32(index)) } else { isWhole = false }
                continue
            }
            use(tree)
            guard isMapping(tree.root, "a topology file") else {
                isWhole = false
                continue
            }
            for (key, value) in tree.pairs(tree.root) {
                guard let field = field(key, value, in: rootFields) else {
                    // What stands under a misspelt section is missing below.
                    if suggested != nil { isWhole = false }
                    continue
                }
                sections[Self.index(field)].append(Section(tree: trees.count - 1, key: key, value: value))
            }
        }
        return isWhole
    }

    private mutating func use(_ tree: YAMLTree) {
        trees.append(tree)
        self.tree = tree
    }

    /// Makes a section's tree the one that is read.
    mutating func enter(_ section: Section) {
        tree = trees[section.tree]
    }

    private static func index(_ field: RootField) -> Int {
        RootField.allCases.firstIndex(of: field) ?? 0
    }

    func sections(_ field: RootField) -> [Section] { sections[Self.index(field)] }

    /// The one section of a kind that a topology may have once; all others are reported.
    private mutating func single(_ field: RootField) -> Section? {
        guard let first = sections(field).first else { return nil }
        for other in sections(field).dropFirst() {
            problems.error(
                "topology.duplicate-section", "a topology has one `\(field.rawValue)` section",
                at: trees[other.tree].place(other.key),
                notes: [Diagnostic.Note("the first one is here", at: trees[first.tree].place(first.key))])
        }
        return first
    }

    private mutating func readMesh(isWhole: Bool) -> Mesh? {
        guard let section = single(.mesh) else {
            // Where a file is unreadable, the section may be in it.
            if isWhole {
                func start(of file: UInt32) -> SourceRange {
                    let first = SourcePosition(line: 1, column: 1)
                    return SourceRange(file: file, start: first, end: first)
                }
                problems.error(
                    "topology.no-mesh", "no file has a `mesh` section", at: start(of: trees.first?.file ?? 0),
                    notes: [Diagnostic.Note("it gives the mesh its `name` and its `addresses`")]
                        + blanks.prefix(3).map {
                            Diagnostic.Note("this file holds nothing but comments and blank lines", at: start(of: $0))
                        })
            }
            return nil
        }
        enter(section)
        return readMesh(section.value, key: section.key)
    }

    private mutating func readDefaults() {
        guard let section = single(.defaults) else { return }
        enter(section)
        readDefaults(section)
    }

    private mutating func readAccess() {
        guard !sections(.access).isEmpty else { return }
        draft.access = []
        for section in sections(.access) { readAccess(section) }
    }

    /// Whether a section holds nothing, as `groups:` with all its lines commented out.
    func isEmpty(_ section: Section) -> Bool {
        tree.isNull(section.value)
    }
}

/// What was read so far, with nodes that lack something kept, so that their names are known.
struct Draft {
    /// Where a node was read from, to find places that the model does not carry.
    struct Source {
        var tree: Int
        var map: YAMLTree.ID
    }

    /// Whether a range of the mesh could not be read: an address outside of the others is no finding then.
    var lacksRange = false
    /// What every node begins as.
    var defaults: Node?
    var defaultsSource: Source?
    var nodes: [Node] = []
    /// Beside `nodes`.
    var sources: [Source] = []
    /// Nodes whose key or addresses could not be read: a zero key of these is no finding.
    var incomplete: Set<String> = []
    var groups: [Group] = []
    var links: [PairLink] = []
    /// The names under a link's `endpoints`, by the link's index.
    var linkEndpointNames: [Int: [Located<String>]] = [:]
    /// Links of which something could not be read.
    var faultyLinks: Set<Int> = []
    var access: [AccessRule]?
    var tests: [PolicyTest] = []
}
