// Starts, knows and ends the programs behind user-space WireGuard devices.

internal import Glibc
internal import Netlink
package import WeftKeys
package import WeftPlan

/// User-space WireGuard as wg-quick falls back to it: wireguard-go, boringtun-cli, or what
/// WG_QUICK_USERSPACE_IMPLEMENTATION names.
package struct UserspacePrograms: UserspaceDevices {
    private let state: StateFolder
    private let secrets: () throws(DataplaneError) -> SecretArena
    private let environment: [String: String]
    private let runFolders: [String]
    private let tun: String
    private let service: String
    private let patience: Duration
    private let processes = MarkedProcesses()
    private let memo = Memo()

    /// Which process was found to be a device's last time: an agent looks every few seconds, and all of /proc is long.
    private final class Memo {
        var process: [String: pid_t] = [:]
    }

    /// - Parameters:
    ///   - secrets: where operations' tags are looked up.
    ///   - environment: PATH and WG_QUICK_USERSPACE_IMPLEMENTATION are read from it.
    ///   - runFolders: where programs put their sockets.
    ///   - service: the socket of the service that starts programs in units of their own. Where nobody listens there, or only
    ///     for another network namespace, they are started as children of this process.
    ///   - patience: how long a program may take to start, to answer and to end.
    package init(
        _ state: StateFolder, secrets: @escaping () throws(DataplaneError) -> SecretArena = noSecrets,
        environment: [String: String],
        runFolders: [String] = ["/run/wireguard", "/var/run/wireguard"], tun: String = Self.tun,
        service: String = DeviceService.defaultPath, patience: Duration = .seconds(20)
    ) {
        self.state = state
        self.secrets = secrets
        self.environment = environment
        self.runFolders = runFolders
        self.tun = tun
        self.service = service
        self.patience = patience
    }

    package func control(interface: String) -> any WireGuardControl {
        // An agent that runs as a user of its own has its devices do so too. It knows their keys anyhow.
        UserspaceControl(
            interface: interface, sockets: sockets(interface), secrets: secrets, patience: patience,
            trusting: state.owner)
    }

    package func isOurs(interface: String) -> Bool {
        guard let token = try? state.programToken(of: interface) else {
            // Without its record, the program still says itself that it was started by weft.
            return processes.holder(of: interface).map { processes.isMarked($0.process) } ?? false
        }
        if let process = memo.process[token], processes.has(token, process), processes.holds(interface, process) {
            return true
        }
        memo.process[token] = processes.find(token).first { processes.holds(interface, $0) }
        return memo.process[token] != nil
    }

    package func requireProgram() throws(DataplaneError) {
        if DeviceService(path: service) == nil { _ = try implementation() }
    }

    /// The program that would be started, with all that it needs there.
    package func implementation() throws(DataplaneError) -> String {
        try Self.chooseProgram(environment, "look for a program in the kernel's place", tun: tun)
    }

    package static let tun = "/dev/net/tun"

    static func chooseProgram(
        _ environment: [String: String], _ operation: String, tun: String = Self.tun
    ) throws(DataplaneError) -> String {
        try requireTun(tun, operation)
        return try findImplementation(environment, operation)
    }

    package mutating func start(interface: String) throws(DataplaneError) {
        let operation = "start a program for \(interface)"
        let service = DeviceService(path: service)
        // What is missing is said before anything is written down.
        if service == nil { _ = try Self.chooseProgram(environment, operation, tun: tun) }
        if let token = try state.programToken(of: interface), !processes.find(token).isEmpty {
            // An earlier run was ended between starting it and going on; or its link was taken away, and it is ending.
            if try waitForAnswer(interface, token, of: .earlierRun, operation) { return }
        }
        try requireFreeName(interface, operation)
        let token = Self.randomToken()
        try state.store(programToken: token, of: interface)
        do throws(DataplaneError) {
            if try service?.start(interface, token, operation) ?? false {
                _ = try waitForAnswer(interface, token, of: .service, operation)
            } else {
                let program = try Self.chooseProgram(environment, operation, tun: tun)
                try run(program, interface, token, operation)
            }
        } catch {
            // Nothing is left behind, whatever the program did before it failed.
            var end = EndOfMarked(processes, token)
            if end.force(patience: .seconds(2)) {
                removeStaleSockets(interface)
                try? state.store(programToken: nil, of: interface)
            }
            throw error
        }
    }

    package mutating func stop(interface: String) throws(DataplaneError) {
        guard let token = try state.programToken(of: interface) else { return }
        var end = EndOfMarked(processes, token)
        if !end.wait(min(patience, .seconds(5))) {
            guard end.force(patience: .seconds(2)) else {
                let list = end.remaining().map(String.init).joined(separator: ", ")
                throw DataplaneError(
                    .other, "process \(list) does not end", operation: "end the program of \(interface)")
            }
        }
        removeStaleSockets(interface)
        try state.store(programToken: nil, of: interface)
    }

    /// Removes what a program of ours that was killed left behind: its socket, and the record of its start. Nothing happens
    /// while the program lives, or where none was started.
    package mutating func clear(interface: String) throws(DataplaneError) {
        guard let token = try state.programToken(of: interface), processes.find(token).isEmpty else { return }
        removeStaleSockets(interface)
        try state.store(programToken: nil, of: interface)
    }

    private func run(
        _ program: String, _ interface: String, _ token: String, _ operation: String
    ) throws(DataplaneError) {
        let started: StartedProgram
        do throws(Errno) {
            started = try StartedProgram.start(
                program, [interface], environment: Self.variables(token: token, path: environment["PATH"]))
        } catch {
            throw DataplaneError(
                .noWireGuard, "\(program) cannot be started: \(error)", errno: error.rawValue, operation: operation)
        }
        _ = try waitForAnswer(interface, token, of: .child(started), operation)
    }

    /// What a program finds in its environment.
    static func variables(token: String, path: String?) -> [String: String] {
        var variables = [MarkedProcesses.variable: token]
        variables["PATH"] = path
        // Old versions of wireguard-go refuse to run on Linux without it.
        variables["WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD"] = "1"
        // boringtun otherwise looks for the user who logged in, and a service has none.
        variables["WG_SUDO"] = "1"
        // Its log is otherwise a file in /tmp.
        variables["WG_LOG_FILE"] = "/dev/null"
        return variables
    }

    /// How long the service's process may take to become the program that it has promised.
    private static let change = Duration.seconds(5)

    /// Who started a program.
    private enum Starter {
        case child(StartedProgram)
        /// The service has promised to.
        case service
        case earlierRun
    }

    /// Waits until the interface is there and its socket answers.
    ///
    /// - Returns: false where the program of an earlier run has ended instead. That of a child or of the service is an error.
    private func waitForAnswer(
        _ interface: String, _ token: String, of starter: Starter, _ operation: String
    ) throws(DataplaneError) -> Bool {
        let begin = ContinuousClock.now
        let deadline = begin + patience
        var launcherHasEnded = false
        var wasSeen = false
        var control = UserspaceControl(
            interface: interface, sockets: sockets(interface), patience: .seconds(2), trusting: state.owner)
        while ContinuousClock.now < deadline {
            if case .child(let started) = starter, !launcherHasEnded, let status = started.exitStatus() {
                if status != 0 { throw startFailure(of: started, status, interface, operation) }
                launcherHasEnded = true
            }
            let isThere = unsafe if_nametoindex(interface) != 0 && (try? control.read()) != nil
            if case .child = starter, !isThere, !launcherHasEnded {
                usleep(5_000)
                continue
            }
            let marked = processes.find(token)
            if isThere, marked.contains(where: { processes.holds(interface, $0) }) {
                if case .child(let started) = starter, !launcherHasEnded { started.reapSoon() }
                return true
            }
            wasSeen = wasSeen || !marked.isEmpty
            if marked.isEmpty {
                switch starter {
                case .child(let started):
                    if isThere { throw obstruction(interface, operation) }
                    if launcherHasEnded { throw startFailure(of: started, 0, interface, operation) }
                case .service where !wasSeen && .now - begin <= Self.change: break
                case .service:
                    throw DataplaneError(
                        .other, "its program has ended: journalctl -u 'weft-device@*' says why", operation: operation)
                case .earlierRun: return false
                }
            }
            usleep(5_000)
        }
        throw DataplaneError(
            .other, "it does not answer on \(sockets(interface)[0]) after \(patience.components.seconds) s",
            operation: operation)
    }

    private func startFailure(
        of started: StartedProgram, _ status: Int32, _ interface: String, _ operation: String
    ) -> DataplaneError {
        let line = started.lastLine()
        if line.contains("busy") || line.contains("in use") { return obstruction(interface, operation) }
        let said = line.isEmpty ? "it ended with status \(status)" : "it said: \(line)"
        let isRefused = line.contains("operation not permitted") || line.contains("permission denied")
        return DataplaneError(
            isRefused ? .notPermitted : .noWireGuard,
            "\(started.path): \(said)" + (isRefused ? "; it needs CAP_NET_ADMIN" : ""), operation: operation)
    }

    private static func requireTun(_ tun: String, _ operation: String) throws(DataplaneError) {
        do throws(Errno) {
            _ = try FileDescriptor.open(tun, O_RDWR)
        } catch {
            let remedy =
                switch error.rawValue {
                case ENOENT, ENODEV, ENXIO:
                    "load the kernel module `tun` (modprobe tun), or give this container the device "
                        + "(docker run --device /dev/net/tun)"
                case EACCES, EPERM:
                    "run this as root, or let all open it (chmod 666, as udev does), and this container use the device"
                default: "see what is wrong with it"
                }
            throw DataplaneError(
                .noWireGuard,
                "this kernel has no WireGuard, and \(tun), which programs in its place need, cannot be opened "
                    + "(\(error)): \(remedy)", errno: error.rawValue, operation: operation)
        }
    }

    private static func findImplementation(
        _ environment: [String: String], _ operation: String
    ) throws(DataplaneError) -> String {
        let path = environment["PATH"]
        if let named = environment["WG_QUICK_USERSPACE_IMPLEMENTATION"], !named.isEmpty {
            if let found = findProgram(named, path: path) { return found }
            throw DataplaneError(
                .noWireGuard,
                "WG_QUICK_USERSPACE_IMPLEMENTATION names \"\(named)\", which is no program here: correct it "
                    + "or unset it", operation: operation)
        }
        for name in ["wireguard-go", "boringtun-cli"] {
            if let found = findProgram(name, path: path) { return found }
        }
        throw DataplaneError(
            .noWireGuard,
            "this kernel has no WireGuard, and there is no program in its place: load the kernel module `wireguard` "
                + "(Linux 5.6 and newer have it), or install the package wireguard-go", operation: operation)
    }

    /// The name must be free: the device's, and the socket's, which all network namespaces share that see one /run.
    private func requireFreeName(_ interface: String, _ operation: String) throws(DataplaneError) {
        if unsafe if_nametoindex(interface) != 0 { throw obstruction(interface, operation) }
        // A program whose link was just taken away answers for a moment yet.
        let deadline = ContinuousClock.now + .seconds(2)
        for path in sockets(interface) {
            while answers(path) {
                if ContinuousClock.now < deadline {
                    usleep(20_000)
                    continue
                }
                throw DataplaneError(
                    .obstructed,
                    "another program answers on \(path): end it, or give the mesh another `interface`. If it serves another "
                        + "network namespace, give this one a /run/wireguard of its own (a private mount)",
                    operation: operation)
            }
        }
        removeStaleSockets(interface)
    }

    private func answers(_ path: String) -> Bool {
        do throws(UserspaceSocketError) {
            _ = try UserspaceSocket.connect(to: [path], patience: .seconds(1))
            return true
        } catch {
            return error != .nobody
        }
    }

    private func obstruction(_ interface: String, _ operation: String) -> DataplaneError {
        let holder = processes.holder(of: interface).map { " (held by \($0.name), process \($0.process))" } ?? ""
        return DataplaneError(
            .obstructed,
            "there is an interface \(interface) already that weft did not make\(holder): remove it, or give the mesh "
                + "another `interface`", operation: operation)
    }

    /// Removes sockets on which nobody listens: a program that was killed leaves its own.
    private func removeStaleSockets(_ interface: String) {
        for path in sockets(interface) {
            do throws(UserspaceSocketError) {
                _ = try UserspaceSocket.connect(to: [path], patience: .zero)
            } catch {
                if error == .nobody { _ = unsafe unlink(path) }
            }
        }
    }

    private func sockets(_ interface: String) -> [String] { runFolders.map { "\($0)/\(interface).sock" } }

    private static func randomToken() -> String {
        var digits = ""
        for _ in 0..<2 {
            let text = String(UInt64.random(in: .min ... .max), radix: 16)
            digits += String(repeating: "0", count: 16 - text.count) + text
        }
        return digits
    }
}
