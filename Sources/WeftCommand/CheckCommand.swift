// weft check: every problem of a topology in one run.

internal import ArgumentParser
internal import WeftDiagnostics
internal import WeftRender
internal import WeftTopology

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Check a topology, and report every problem in one run.",
        discussion: "Needs no privileges. Exit status: 0 where there is no error, 1 where there is one.")

    @OptionGroup var source: TopologyArgument
    @Option(help: "text or json.")
    var format = OutputFormat.text

    func run() throws {
        try reportingFailures {
            let (topology, files, read) = LoadedTopology.read(source.topology)
            var diagnostics = read
            if let test = topology?.tests.first {
                diagnostics.append(
                    Diagnostic(
                        "check.tests-not-built", .warning,
                        "this version of weft reads `tests`, and does not run them yet",
                        at: test.place))
            }
            let terminal = Terminal.standard
            switch format {
            case .json:
                terminal.write(try encodeJSON(DiagnosticReport(diagnostics, in: files)))
            case .text:
                if !diagnostics.isEmpty {
                    let formatter = DiagnosticText(usesColour: terminal.usesColor())
                    terminal.write(formatter.render(diagnostics, in: files), terminator: "")
                }
                if let topology, !diagnostics.contains(where: { $0.severity == .error }) {
                    let count = topology.nodes.count
                    terminal.write("\(topology.mesh.name.value): \(count) node\(count == 1 ? "" : "s"), no errors")
                }
            }
            if diagnostics.contains(where: { $0.severity == .error }) { throw ExitCode.failure }
        }
    }
}
