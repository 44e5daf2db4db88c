// What must hold between the parts of a topology: the order of the checks, and what they share.

import WeftDiagnostics
import WeftModel
import YAML

extension Reader {
    /// Puts the parts together and checks them against one another.
    ///
    /// - Parameter isWhole: False where a file could not be read: names that are missing are no finding then.
    mutating func validate(_ mesh: Mesh, isWhole: Bool, at time: UnixTime?) -> Topology {
        sortNodes()
        let topology = Topology(
            mesh: mesh, nodes: draft.nodes, groups: draft.groups, links: draft.links, access: draft.access,
            tests: draft.tests)
        var validator = Validator(topology, draft: draft, trees: trees, problems: problems, at: time)
        validator.checkMesh()
        validator.checkKeys()
        validator.checkPrefixes()
        validator.checkEndpoints()
        validator.checkNames()
        if isWhole { validator.checkReferences() }
        validator.checkRoles()
        // What follows reads the mesh as a graph: of one that is broken it would say what is not so.
        if isWhole, !validator.problems.hasErrors {
            validator.checkPaths()
            validator.checkLoops()
            validator.checkExits()
            validator.checkIdleMasquerading()
            validator.checkAccess()
        }
        problems = validator.problems
        return topology
    }

    /// Sorts nodes by name, and drops all but the first of a name; of names within one file YAML has told already.
    private mutating func sortNodes() {
        let nodes = draft.nodes
        let isSorted = nodes.indices.dropFirst().allSatisfy { nodes[$0 - 1].name < nodes[$0].name }
        if isSorted { return }
        let order = nodes.indices.sorted { left, right in
            nodes[left].name == nodes[right].name
                ? nodes[left].place < nodes[right].place : nodes[left].name < nodes[right].name
        }
        var kept: [Int] = []
        kept.reserveCapacity(order.count)
        for index in order {
            if let last = kept.last, nodes[last].name == nodes[index].name {
                problems.error(
                    "topology.duplicate-name", "node \"\(nodes[index].name)\" is given twice", at: nodes[index].place,
                    notes: [Diagnostic.Note("the first one is here", at: nodes[last].place)])
            } else {
                kept.append(index)
            }
        }
        draft.nodes = kept.map { nodes[$0] }
        draft.sources = kept.map { draft.sources[$0] }
    }
}

/// Checks a topology. Every check is linear in the topology's size, but for sorting.
struct Validator {
    let topology: Topology
    let draft: Draft
    let trees: [YAMLTree]
    var problems: Problems
    /// Whether a node takes part: not disabled, nor expired at the moment of reading.
    let isActive: [Bool]
    /// Before everything, where the caller gave no time.
    let time: UnixTime
    /// Each group's index by its name; the first one's, where a name is given twice.
    let groups: [String: Int]
    private var suggestions = 0
    /// Places in `defaults` that were told about already: every node has what stands there.
    private var told: Set<SourceRange> = []

    init(_ topology: Topology, draft: Draft, trees: [YAMLTree], problems: Problems, at time: UnixTime?) {
        self.topology = topology
        self.draft = draft
        self.trees = trees
        self.problems = problems
        let time = time ?? UnixTime(seconds: .min)
        self.time = time
        groups = Dictionary(
            topology.groups.enumerated().map { ($0.element.name.value, $0.offset) },
            uniquingKeysWith: { first, _ in first })
        isActive = topology.nodes.map { $0.isActive(at: time) }
    }

    var nodes: [Node] { topology.nodes }

    // MARK: Places

    /// The value of a node's field, in the tree that it was read from: the node's own, or that of `defaults`.
    func value(of field: NodeField, _ node: Int) -> (tree: YAMLTree, id: YAMLTree.ID, isDefault: Bool)? {
        let own = draft.sources[node]
        if let id = Self.find(field, in: trees[own.tree], own.map) { return (trees[own.tree], id, false) }
        guard let defaults = draft.defaultsSource else { return nil }
        return Self.find(field, in: trees[defaults.tree], defaults.map).map { (trees[defaults.tree], $0, true) }
    }

    private static func find(_ field: NodeField, in tree: YAMLTree, _ map: YAMLTree.ID) -> YAMLTree.ID? {
        for (key, value) in tree.pairs(map) where tree.kind(key) == .scalar {
            if nodeFields.match(tree.text(key)) == field { return value }
        }
        return nil
    }

    /// Where a field's value was written; the node's name where it was not.
    func place(of field: NodeField, _ node: Int) -> SourceRange {
        value(of: field, node).map { $0.tree.place($0.id) } ?? nodes[node].place
    }

    /// True once for each place.
    mutating func isNew(_ place: SourceRange) -> Bool {
        told.insert(place).inserted
    }

    // MARK: Names

    /// Reports a name that stands for nothing, with the nearest that does.
    mutating func unknown(_ name: String, orGroup: Bool = false, at place: SourceRange) {
        // Comparing with 100,000 names takes a while: a generator's typo is explained a few times only.
        suggestions += 1
        var known: String?
        if suggestions <= 5 || nodes.count < 500 {
            known = nearest(to: name, among: nodes.lazy.map(\.name))
            if orGroup, known == nil { known = nearest(to: name, among: topology.groups.lazy.map(\.name.value)) }
        }
        let kind = orGroup ? "node or group" : "node"
        let hint = known.map { ": did you mean \"\($0)\"?" } ?? ""
        let fixIts = known.map { [Diagnostic.FixIt("write \($0)", replace: place, with: $0)] } ?? []
        problems.error(
            "topology.unknown-name", "there is no \(kind) named \"\(shown(name))\"\(hint)", at: place, fixIts: fixIts)
    }

    /// `"a", "b" and 3 more`.
    func list(_ names: [Int], total: Int? = nil) -> String {
        let total = total ?? names.count
        let shown = names.prefix(total <= 4 ? 4 : 3).map { "\"\(nodes[$0].name)\"" }
        if shown.count == 1, total == 1 { return shown[0] }
        if total > shown.count { return shown.joined(separator: ", ") + " and \(grouped(total - shown.count)) more" }
        return shown.dropLast().joined(separator: ", ") + " and " + shown[shown.count - 1]
    }

    /// 4312 as `4,312`.
    func grouped(_ number: Int) -> String {
        var digits = Array(String(number))
        var index = digits.count - 3
        while index > 0 {
            digits.insert(",", at: index)
            index -= 3
        }
        return String(digits)
    }
}
