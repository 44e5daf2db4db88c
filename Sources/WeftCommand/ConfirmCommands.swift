// weft confirm and weft revert: what becomes of a change on trial, whoever watches over it.

internal import ArgumentParser
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan

struct ConfirmCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "confirm", abstract: "Keep the change that is on trial.",
        discussion: "Asks the agents of this host, and whoever watches over a change that apply has put on trial.")

    @OptionGroup var holder: TrialHolder

    func run() throws { try reportingFailures { try holder.order("confirm") } }
}

struct RevertCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revert", abstract: "Take the change that is on trial back now.",
        discussion: """
            Asks the agents of this host, and whoever watches over a change that apply has put on trial. Where nobody watches \
            over it any more, it is taken back here; the key is needed for that, where it is not the usual one.
            """)

    @OptionGroup var holder: TrialHolder

    func run() throws { try reportingFailures { try holder.order("revert") } }
}

struct TrialHolder: ParsableArguments {
    @Option(help: ArgumentHelp("Ask only who listens here.", valueName: "path"))
    var socket: String?
    @OptionGroup var host: HostOptions

    func order(_ request: String) throws {
        if let socket { return try AgentClient(socket).order(request) }
        let machine = try Machine(stateDirectory: host.stateDir)
        // Who may not look into the state folder may still be let to ask the agent.
        let sockets = machine.holders.isEmpty ? [SocketOption.defaultPath] : machine.holders
        var refusals: [any Error] = []
        for socket in sockets {
            do { try AgentClient(socket).order(request) } catch { refusals.append(error) }
        }
        if refusals.count < sockets.count { return }
        if request == "revert", try takeBack(machine) { return }
        if machine.holders.isEmpty { throw Failure("no change is on trial") }
        throw refusals[0]
    }

    private func takeBack(_ machine: Machine) throws -> Bool {
        var isTaken = false
        for interface in machine.interfacesWithTrials {
            guard let mesh = try? machine.mesh(onInterface: interface) else { continue }
            if machine.trial(of: mesh)?.isDangling != true { continue }
            try requireNetworkRights(for: "change \(interface)")
            let lock = try machine.lock(mesh)
            try withExtendedLifetime(lock) {
                isTaken = try takeBackWhatDangles(machine, mesh, host, OutputOptions.parseOrExit([])) || isTaken
            }
        }
        return isTaken
    }
}
