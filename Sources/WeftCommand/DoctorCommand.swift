// weft doctor: everything that could keep the mesh from working here, each with what to do about it.

internal import ArgumentParser
internal import WeftDiagnostics
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftReconcile
internal import WeftRender
internal import WeftStatus
internal import WeftTopology

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Look for what keeps the mesh from working on this host. Changes nothing.",
        discussion: """
            Looks at the topology, the key, the clock, the device, what is applied, other programs' firewalls and network \
            managers, handshakes, whether packets of full size get through, and whether anything answers beyond the exit. \
            What access rules forbid to ask is not asked. \
            Exit status: 0, or 1 where something is an error.
            """)

    @OptionGroup var source: TopologyArgument
    @OptionGroup var host: HostOptions
    @OptionGroup var output: OutputOptions
    @Flag(help: "Send no packets: leave out the probes of paths to peers.")
    var offline = false

    private typealias Finding = DoctorDocument.Finding

    func run() throws {
        try reportingFailures {
            ProcessHardening.apply()
            var document = DoctorDocument()
            try examine(&document)
            switch output.format {
            case .json: Terminal.standard.write(try encodeJSON(document))
            case .text:
                Terminal.standard.write(DoctorText(document, options: output.text()).text, terminator: "")
            }
            if document.hasErrors { throw ExitCode.failure }
        }
    }

    private func examine(_ document: inout DoctorDocument) throws {
        let machine = try Machine(stateDirectory: host.stateDir)
        document.findings.append(clock(machine))
        for support in machine.support {
            switch support.result {
            case .success(let message): document.findings.append(Finding(support.check, .ok, message))
            case .failure(let error): document.findings.append(Finding(support.check, .error, error.description))
            }
        }
        let context: HostContext
        do {
            context = try HostContext(topology: source.topology, options: host, machine: machine)
        } catch let failure as Failure {
            document.findings.append(Finding("topology", .error, failure.message, remedy: failure.remedy))
            return
        } catch let error as KeyError {
            document.findings.append(
                Finding("key", .error, "\(error.place): \(error.message)", remedy: error.remedy))
            return
        } catch let error as DataplaneError {
            document.findings.append(Finding("host", .error, error.description))
            return
        }
        document.node = context.desired.node
        document.mesh = context.mesh.mesh
        document.interface = context.mesh.interface
        document.findings.append(
            Finding("topology", .ok, "the topology is sound, and this host is \(context.desired.node) in it"))
        document.findings += context.warnings.map { warning in
            Finding("topology", .warning, warning.message, remedy: warning.notes.map(\.message).joined(separator: "; "))
        }
        document.findings += context.compilation.refusals.map {
            Finding("topology", .error, $0.message, remedy: $0.notes.map(\.message).joined(separator: "; "))
        }
        if let trial = machine.unwatchedTrial(on: context.mesh.interface) {
            document.findings.append(Finding("trial", .warning, trial.message, remedy: trial.remedy))
        }
        let memory = try machine.memorySayingProblems(of: context.mesh)
        var reconciler = Reconciler(
            try machine.dataplane(
                looksForDetours: true,
                secrets: { () throws(DataplaneError) in
                    throw DataplaneError(.key, "an examination needs no key")
                }))
        do throws(DataplaneError) {
            let (plan, observation) = try reconciler.plan(context.mesh, desired: context.desired, memory: memory)
            let names = machine.names(
                context.labels.peers, of: observation.state.peers.lazy.map(\.publicKey), on: context.mesh)
            let examination = Examination(
                plan: plan, observation: observation, desired: context.desired, names: names,
                unreachable: try machine.endpointsWithoutRoute(context.desired, observation.state))
            document.findings += examination.findings
            let cuts = machine.cutOff(by: context.desired, topology: source.topology, live: observation.state)
            document.findings += cuts.map {
                Finding(
                    "cut-off", .warning, "the mesh keeps this host from \($0.guarded.words): \($0.then)",
                    remedy: $0.remedy)
            }
            if !offline {
                let (topology, now) = (context.loaded.topology, machine.calendar.now())
                let permits: EchoPolicy = { topology.permitsEcho(from: $0, to: $1, at: now) }
                document.findings += PathExamination(context.desired, names, observation, permits: permits).findings
                document.findings += ExitExamination(context.desired, names, observation, permits: permits).findings
            }
        } catch {
            document.findings.append(Finding("host", .error, error.description))
        }
    }

    /// A clock that stands years off makes every handshake look new or dead, and `expires` meaningless. WireGuard's own
    /// handshakes carry the time too: a clock that went back is refused by peers until it has caught up.
    private func clock(_ machine: Machine) -> Finding {
        let now = machine.now()
        guard now.seconds >= Self.earliest else {
            return Finding(
                "clock", .error,
                "the clock says \(now), which cannot be: peers refuse handshakes that are older than "
                    + "the last one", remedy: "set it, and let a time service keep it: `timedatectl set-ntp true`")
        }
        if let problem = machine.calendar.problem {
            return Finding("clock", .warning, problem.message, remedy: problem.remedy)
        }
        return Finding("clock", .ok, "the clock says \(now)")
    }

    /// 2026-01-01T00:00:00Z: no host with this program has an earlier time.
    private static let earliest: Int64 = 1_767_225_600
}
