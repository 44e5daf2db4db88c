// The side of a trial that a person sees: it starts who watches over the change, and shows what that says.

internal import ArgumentParser
internal import Netlink
internal import WeftAgent
internal import WeftDiagnostics
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftRender
internal import WeftTopology

struct TrialFront {
    var path: String
    var loaded: LoadedTopology
    var host: HostOptions
    var output: OutputOptions
    var confirm: ConfirmOptions
    var within: Duration
    /// Whether the person at the terminal is asked.
    var asks: Bool

    /// Runs until the trial is over. Where this process ends before, the trial goes on.
    func run(_ machine: Machine, _ mesh: MeshIdentity, lock: borrowing FileLock) throws {
        let process: TrialProcess
        do throws(Errno) {
            process = try TrialProcess(
                arguments: arguments, environment: environment(machine), input: loaded.files.kept(below: path),
                lock: lock)
        } catch {
            throw Failure("the process that watches over the trial cannot be started: \(error): nothing was changed")
        }
        while process.exitStatus == nil {
            relay(process)
            guard asks else {
                Terminal.standard.pause(.milliseconds(50))
                continue
            }
            guard let answer = Terminal.standard.takeAnswer(.milliseconds(50)) else { continue }
            // Said before there was anything to say it about, it counts for nothing.
            try? AgentClient(machine.trialSocket(of: mesh)).order(answer ? "confirm" : "revert")
        }
        relay(process)
        guard let status = process.exitStatus, status != 0 else { return }
        if status >= 128 {
            Terminal.standard.write(
                "The process that watched over the trial was ended by signal \(status - 128).", to: .error)
            try takeBackWhatDangles(machine, mesh, host, output)
        }
        throw ExitCode.failure
    }

    private func relay(_ process: TrialProcess) {
        for (text, stream) in [(process.takeOutput(), Terminal.Stream.output), (process.takeErrors(), .error)]
        where !text.isEmpty {
            Terminal.standard.write(text, terminator: "", to: stream)
        }
    }

    private var arguments: [String] {
        [
            "trial", path, "--private-key", host.privateKey, "--preshared-keys", host.presharedKeys, "--state-dir",
            host.stateDir,
        ]
            + (host.node.map { ["--node", $0] } ?? []) + ["--format", output.format.rawValue]
            + (output.full ? ["--full"] : [])
            + confirm.arguments(within: within, manually: asks || confirm.confirmManually)
    }

    private func environment(_ machine: Machine) -> [String: String] {
        var values = Machine.environment(["PATH", "WG_QUICK_USERSPACE_IMPLEMENTATION", "TERM", "NO_COLOR", "LANG"])
        // sudo(8) drops it, and who is above this process is not above the other one.
        if let session = machine.session {
            values["SSH_CONNECTION"] =
                "\(session.remote.address) \(session.remote.port) \(session.local.address) \(session.local.port)"
        }
        if let width = Terminal.standard.width { values["COLUMNS"] = "\(width)" }
        return values
    }
}

/// Takes back a change over whose trial nobody watches any more: whoever did was killed, or the machine was started anew.
/// The interface's lock is held.
///
/// - Returns: false where there is none.
@discardableResult
func takeBackWhatDangles(
    _ machine: Machine, _ mesh: MeshIdentity, _ options: HostOptions, _ output: OutputOptions
) throws -> Bool {
    guard var record = machine.trial(of: mesh), !record.isUndone else { return false }
    let reason = record.reason.isEmpty ? "nobody confirmed it, and who watched over it is gone" : record.reason
    Terminal.standard.write("Topology \(record.id) was on trial: \(reason). It is taken back.", to: .error)
    var job = Job(
        mesh: mesh, desired: nil, labels: PlanLabels(), warnings: [], files: SourceFiles(), output: output, yes: true)
    job.isQuiet = output.format == .json
    var keys: HostContext?
    if let before = try machine.topologyInForce(mesh) {
        guard let revision = AgentHost.revision(before.files, below: before.root, at: machine.calendar.now()) else {
            throw Failure("what was in force before cannot be read any more: nothing was changed")
        }
        let context = try HostContext(revision.source, options: options, machine: machine)
        job.desired = context.desired
        job.labels = context.labels
        keys = context
    }
    try job.restore(on: machine) { () throws(DataplaneError) in
        guard let keys else { throw DataplaneError(.key, "taking a mesh down needs no key") }
        return try keys.arena(options)
    }
    record.isRejected = true
    record.isUndone = true
    record.reason = reason
    try machine.store(record, of: mesh)
    return true
}
