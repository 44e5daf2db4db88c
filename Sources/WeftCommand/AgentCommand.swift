// weft agent: the daemon, and what is asked of it.

internal import ArgumentParser
internal import WeftAgent
internal import WeftKeys
internal import WeftLinux
internal import WeftLoop
internal import WeftModel
internal import WeftStatus

struct AgentCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "agent",
        abstract: "Keep this host as the topology wants it, for as long as it runs.",
        subcommands: [
            AgentRunCommand.self, AgentReloadCommand.self, AgentStatusCommand.self,
        ],
        defaultSubcommand: AgentRunCommand.self)
}

/// Where the agent listens.
struct SocketOption: ParsableArguments {
    static let defaultPath = "/run/weft/agent.sock"

    @Option(help: ArgumentHelp("The agent's socket.", valueName: "path"))
    var socket = Self.defaultPath
}

extension AgentEvent.Level: ExpressibleByArgument {
    package static var allValueStrings: [String] { allCases.map(\.name) }

    package init?(argument: String) {
        guard let level = Self.allCases.first(where: { $0.name == argument }) else { return nil }
        self = level
    }
}

extension MeshController<AgentHost>.Settings.Drift: ExpressibleByArgument {}

struct AgentRunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Watch topologies and the kernel, and put right what differs (the default).",
        discussion: """
            Runs in the foreground; systemd starts it. SIGHUP, and `weft agent reload`, make it fetch and look at everything at once. When \
            it ends, the tunnels stay up: `weft down` takes a mesh down.
            """)

    @Argument(
        help:
            "The topologies: folders of YAML files, or single files; each has an interface of its own here. With --git: where they are in the repository."
    )
    var topologies: [String] = []
    @Option(help: ArgumentHelp("Follow a git repository, by the system's git.", valueName: "url"))
    var git: String?
    @Option(help: ArgumentHelp("The branch or tag to follow.", valueName: "name"))
    var ref = "main"
    @Option(help: ArgumentHelp("How often to look at the repository, 1 to 86400.", valueName: "seconds"))
    var interval = 60
    @Flag(help: "Follow the ref also where its history was rewritten.")
    var allowRewrites = false
    @Option(
        name: .customLong("private-key"),
        help: ArgumentHelp(
            "This host's private key: one for all, or one for each topology in order.", valueName: "file"))
    var privateKeys: [String] = []
    @Option(
        help: ArgumentHelp(
            "Preshared keys, a file each by the peer's node name (`presharedKeys: directory`).", valueName: "folder"))
    var presharedKeys = KeyFiles.defaultPresharedKeys
    @Option(help: ArgumentHelp("What must be remembered between runs.", valueName: "folder"))
    var stateDir = "/var/lib/weft"
    @OptionGroup var socket: SocketOption
    @Option(
        help: ArgumentHelp(
            "Who besides root may ask the agent; the group weft, where there is one.", valueName: "group"))
    var group: String?
    @Option(help: "What to do about changes from outside: repair or report.")
    var drift = MeshController<AgentHost>.Settings.Drift.repair
    @Option(
        help: ArgumentHelp("How often to look at what the kernel tells nobody about, 1 to 30.", valueName: "seconds"))
    var poll = 5
    @OptionGroup var confirm: ConfirmOptions
    @Flag(
        help: ArgumentHelp(
            "Have the kernel log what its WireGuard does, for as long as the agent runs.",
            discussion: """
                In the kernel's log (`dmesg`, `journalctl -k`): handshakes by address, and no keys. The whole kernel's \
                WireGuard is meant, not this host's meshes alone. An agent that is killed leaves it on.
                """))
    var wireguardLog = false
    @Option(help: "error, warning, notice, info or debug: events of less weight are not logged.")
    var logLevel = AgentEvent.Level.info

    func validate() throws {
        if !(1...30).contains(poll) { throw ValidationError("--poll takes 1 to 30 seconds") }
        if !(1...86_400).contains(interval) { throw ValidationError("--interval takes 1 to 86400 seconds") }
        if git != nil,
            let path = topologies.first(where: { $0.hasPrefix("/") || $0.split(separator: "/").contains("..") })
        {
            throw ValidationError("with --git, \(path) must be a path inside the repository")
        }
        if privateKeys.count > 1, privateKeys.count != topologies.count {
            throw ValidationError("--private-key is given once, or once for each of the \(topologies.count) topologies")
        }
        if Set(topologies.map(Self.plain)).count != topologies.count {
            throw ValidationError("a topology is named twice")
        }
        try NotEmpty.check([("--state-dir", stateDir), ("--socket", socket.socket)])
        // A folder may come later, but a bare word that is none is a subcommand that there is not.
        if git == nil, let word = topologies.first, !word.contains("/"), !FolderWatch.exists(word) {
            throw ValidationError(
                "there is no folder \"\(word)\" here, and no such subcommand: there are run, reload and status. A topology that "
                    + "is yet to come is named with a slash: ./\(word)")
        }
    }

    /// A path without the slashes at its end: the same topology is kept under the same name.
    private static func plain(_ path: String) -> String {
        var path = path
        while path.hasSuffix("/"), path != "/" { path.removeLast() }
        return path
    }

    func run() throws {
        var code: Int32 = 0
        try reportingFailures {
            ProcessHardening.apply()
            try requireNetworkRights(for: "be an agent")
            var host = HostOptions.parseOrExit([])
            host.presharedKeys = presharedKeys
            host.stateDir = stateDir
            let follower = try follower()
            let paths = follower.map { follower in
                (topologies.isEmpty ? ["."] : topologies.map(Self.plain)).map {
                    $0 == "." ? follower.link : "\(follower.link)/\($0)"
                }
            }
            var settings = AgentService.Settings(
                topologies: paths ?? (topologies.isEmpty ? [TopologyArgument.defaultPath] : topologies.map(Self.plain)),
                keys: privateKeys, host: host, socket: socket.socket, group: group)
            settings.git = follower
            settings.gitInterval = .seconds(interval)
            settings.hasWireGuardLog = wireguardLog
            settings.controller.drift = drift
            settings.controller.poll = .seconds(poll)
            settings.controller.confirm = confirm.settings
            if follower != nil { settings.controller.confirm?.measures.insert(.git) }
            settings.controller.confirmPeers = confirm.confirmPeers
            settings.controller.guardsItself = confirm.guardsItself
            do {
                code = try AgentService(settings, log: AgentLog(least: logLevel)).run()
            } catch let error as LoopError {
                throw Failure(error.description)
            }
        }
        if code != 0 { throw ExitCode(code) }
    }

    /// Each repository and ref has a folder of its own below that of the network namespace.
    private func follower() throws -> GitFollower? {
        guard let git else { return nil }
        let name = "git-\(String(MeshIdentity.hash("\(git) \(ref)"), radix: 16))"
        let folder = StateFolder(path: stateDir).folder(named: name)
        do throws(GitFollower.Problem) {
            return try GitFollower(
                url: git, ref: ref, folder: folder, allowsRewrites: allowRewrites,
                environment: Machine.environment(["PATH", "HOME", "GIT_SSH_COMMAND", "SSH_AUTH_SOCK"]))
        } catch {
            throw Failure(error.description)
        }
    }
}

struct AgentReloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload",
        abstract: "Make the agent fetch, read its topologies and look at the kernel at once, and say what came of it.",
        discussion: "Ends with 1 where a topology was refused, or could not be fetched.")

    @OptionGroup var socket: SocketOption

    func run() throws {
        try reportingFailures { try AgentClient(socket.socket).reload { Terminal.standard.write($0) } }
    }
}

struct AgentStatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the agent's own document, as JSON: topologies in force, problems, figures.")

    @OptionGroup var socket: SocketOption

    func run() throws {
        try reportingFailures {
            Terminal.standard.write(try AgentClient(socket.socket).status(), terminator: "")
        }
    }
}

struct EventsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events",
        abstract: "Show what happens, a line each, from now on: peers up and down, drift, changes, topologies.")

    @OptionGroup var socket: SocketOption
    @Option(help: "text or json (a document a line).")
    var format = OutputFormat.text

    func run() throws {
        try reportingFailures {
            try AgentClient(socket.socket).follow("events") { line in
                switch format {
                case .json: Terminal.standard.write(line)
                case .text: Terminal.standard.write(EventDocument.text(ofLine: line))
                }
                return !Terminal.standard.hasNoReader
            }
            if Terminal.standard.hasNoReader { return }
            throw Failure(
                "no more events come: the agent has ended, or did not want to wait for this reader",
                remedy: "run `weft events` again when the agent runs")
        }
    }
}
