// weft confirm and weft revert: what becomes of a change on trial, whoever watches over it.

internal import ArgumentParser
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan

struct ConfirmCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "confirm", abstract: "Keep the change that is on trial.",
        discussion: """
            Asks the agents of this host, and whoever watches over a change that apply has put on trial. Where there are several, \
            --interface says which.
            """)

    @OptionGroup var holder: TrialHolder

    func run() throws { try reportingFailures { try holder.order(.confirm) } }
}

struct RevertCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revert", abstract: "Take the change that is on trial back now.",
        discussion: """
            Asks the agents of this host, and whoever watches over a change that apply has put on trial. Where nobody watches \
            over it any more, it is taken back here; the key is needed for that, where it is not the usual one. Where there are several, \
            --interface says which.
            """)

    @OptionGroup var holder: TrialHolder

    func run() throws { try reportingFailures { try holder.order(.revert) } }
}

struct TrialHolder: ParsableArguments {
    @Option(name: .shortAndLong, help: ArgumentHelp("The change on this interface.", valueName: "name"))
    var interface: String?
    @Option(help: ArgumentHelp("Ask only who listens here.", valueName: "path"))
    var socket: String?
    @OptionGroup var host: HostOptions

    func order(_ verb: TrialOrder.Verb) throws {
        let order = TrialOrder(verb, interface: interface)
        if let socket { return try AgentClient(socket).order(order.request) }
        let machine = try Machine(stateDirectory: host.stateDir)
        let open = machine.interfacesWithTrials.filter { name in
            (interface == nil || name == interface) && isOpen(name, verb, machine)
        }
        if open.count > 1 { throw Failure(TrialOrder.ambiguity(open)) }
        // Who may not look into the state folder may still be let to ask the agent.
        let sockets = machine.holders.isEmpty ? [SocketOption.defaultPath] : machine.holders
        var refusals: [any Error] = []
        for socket in sockets {
            do { try AgentClient(socket).order(order.request) } catch { refusals.append(error) }
        }
        if refusals.count < sockets.count { return }
        if verb == .revert, let name = open.first, try takeBack(machine, name) { return }
        for name in machine.interfacesWithTrials where interface == nil || name == interface {
            if let trial = machine.unwatchedTrial(on: name) { throw trial }
        }
        if machine.holders.isEmpty { throw Failure(order.refusal) }
        throw refusals[0]
    }

    /// Whether there is something to decide; with nobody there to keep it, a change can only be taken back.
    private func isOpen(_ interface: String, _ verb: TrialOrder.Verb, _ machine: Machine) -> Bool {
        guard let record = machine.trial(on: interface), !record.isUndone else { return false }
        return machine.isHeld(interface) ? !record.isRejected : verb == .revert
    }

    private func takeBack(_ machine: Machine, _ interface: String) throws -> Bool {
        guard machine.unwatchedTrial(on: interface) != nil else { return false }
        let mesh = try machine.mesh(onInterface: interface)
        try requireNetworkRights(for: "change \(interface)")
        let lock = try machine.lock(mesh)
        return try withExtendedLifetime(lock) {
            try takeBackWhatDangles(machine, mesh, host, OutputOptions.parseOrExit([]))
        }
    }
}
