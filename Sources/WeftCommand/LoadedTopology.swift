// A topology as a command has it: read, checked, and with its text at hand for messages.

internal import WeftDiagnostics
internal import WeftFiles
internal import WeftModel
internal import WeftRender
internal import WeftTopology

struct LoadedTopology {
    var topology: Topology
    var files: SourceFiles
    /// Warnings and notes; none is an error.
    var diagnostics: [Diagnostic]

    init(topology: Topology, files: SourceFiles, diagnostics: [Diagnostic]) {
        self.topology = topology
        self.files = files
        self.diagnostics = diagnostics
    }

    /// Reads a topology. Its errors go to standard error, and end the command.
    ///
    /// - Parameter time: nodes that have expired by then take no part in what is checked.
    init(_ path: String, at time: UnixTime = Machine.clock()) throws {
        let (topology, files, diagnostics) = Self.read(path, at: time)
        guard let topology else {
            Self.show(diagnostics, files)
            throw Failure("\(path) has errors: nothing was planned and nothing was changed")
        }
        self.topology = topology
        self.files = files
        self.diagnostics = diagnostics
    }

    static func read(_ path: String, at time: UnixTime = Machine.clock()) -> (Topology?, SourceFiles, [Diagnostic]) {
        let (files, problems) = TopologyFolder(path).read()
        if !problems.isEmpty { return (nil, files, problems) }
        let (topology, diagnostics) = TopologyReader.read(files, at: time)
        return (topology, files, diagnostics)
    }

    /// Writes diagnostics to standard error.
    static func show(_ diagnostics: [Diagnostic], _ files: SourceFiles) {
        if diagnostics.isEmpty { return }
        let text = DiagnosticText(usesColour: Terminal.standard.usesColor(.error)).render(diagnostics, in: files)
        Terminal.standard.write(text, terminator: "", to: .error)
    }

    func index(ofNode name: String) throws -> Int {
        if let index = topology.index(ofNode: name) { return index }
        throw Failure(
            "no node is called \"\(name)\"", remedy: Self.suggestion(for: name, among: topology.nodes.map(\.name)))
    }

    private static func suggestion(for name: String, among names: [String]) -> String {
        let near = names.filter { $0.lowercased().hasPrefix(name.lowercased().prefix(3)) }.prefix(5)
        if !near.isEmpty { return "did you mean \(near.joined(separator: ", "))?" }
        return names.count <= 10 ? "the nodes are \(names.joined(separator: ", "))" : "there are \(names.count) nodes"
    }
}
