// weft trial: the process that applies a change, watches over it, and takes it back. Apply starts it; nobody else does.

internal import ArgumentParser
internal import Glibc
internal import WeftAgent
internal import WeftDiagnostics
internal import WeftKeys
internal import WeftLinux
internal import WeftLoop
internal import WeftModel
internal import WeftPlan
internal import WeftTopology

struct TrialCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trial", abstract: "Watch over a change on trial; apply starts it.", shouldDisplay: false)

    @OptionGroup var source: TopologyArgument
    @OptionGroup var host: HostOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var confirm: ConfirmOptions

    func run() throws {
        var code: Int32 = 0
        try reportingFailures {
            ProcessHardening.apply()
            guard let settings = confirm.settings, let files = SourceFiles(kept: input(), below: source.topology),
                case (let topology?, let diagnostics) = TopologyReader.read(
                    files, at: Machine.calendar(of: host.stateDir).now())
            else { throw Failure("apply starts this command, and nobody else does") }
            let candidate = LoadedTopology(topology: topology, files: files, diagnostics: diagnostics)
            do {
                code = try TrialGuard(
                    candidate, path: source.topology, options: host, output: output, confirm: settings,
                    peers: confirm.confirmPeers
                ).run()
            } catch let error as LoopError {
                throw Failure(error.description)
            } catch let problem as AgentProblem {
                throw Failure("\(problem.summary): nothing was changed")
            }
        }
        if code != 0 { throw ExitCode(code) }
    }

    /// The topology that was agreed to: what the folder holds may be another one by now.
    private func input() -> [UInt8] {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = read(0, &piece, piece.count)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { return bytes }
            bytes += piece[..<count]
        }
    }
}
