// The options that several commands share.

internal import ArgumentParser
internal import WeftKeys
internal import WeftRender

/// Where the topology is.
struct TopologyArgument: ParsableArguments {
    static let defaultPath = "/etc/weft/topology"

    @Argument(help: "The topology: a folder of YAML files, or one file.")
    var topology = Self.defaultPath
}

/// Who this host is, and where it keeps what is its own.
struct HostOptions: ParsableArguments {
    @Option(help: ArgumentHelp("This host's private key.", valueName: "file"))
    var privateKey = KeyFiles.defaultPrivateKey

    @Option(
        help: ArgumentHelp(
            "Preshared keys, a file each by the peer's node name (`presharedKeys: directory`).", valueName: "folder"))
    var presharedKeys = KeyFiles.defaultPresharedKeys

    @Option(
        help: ArgumentHelp("This host's node name; refused where the private key is another node's.", valueName: "name")
    )
    var node: String?

    @Option(help: ArgumentHelp("What must be remembered between runs.", valueName: "folder"))
    var stateDir = "/var/lib/weft"

    func validate() throws {
        try NotEmpty.check([
            ("--private-key", privateKey), ("--preshared-keys", presharedKeys), ("--state-dir", stateDir),
        ])
    }

    var keyFiles: KeyFiles { KeyFiles(privateKey: privateKey, presharedKeys: presharedKeys) }
}

/// A path that is an empty variable in somebody's script would mean the root, or the current folder.
enum NotEmpty {
    static func check(_ paths: [(option: String, value: String)]) throws {
        for path in paths where path.value.isEmpty { throw ValidationError("\(path.option) is given an empty path") }
    }
}

enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json
}

/// How the answer looks.
struct OutputOptions: ParsableArguments {
    @Option(help: "text or json.")
    var format = OutputFormat.text

    @Flag(help: "Write long lists out.")
    var full = false

    /// A document is for programs, and they answer no questions.
    func refuseQuestions(yes: Bool) throws {
        if format == .json, !yes { throw ValidationError("--format json shows no plan to agree to: add --yes") }
    }

    /// For what goes to a stream: in colour only on a terminal.
    func text(_ stream: Terminal.Stream = .output) -> TextOptions {
        TextOptions(
            style: Terminal.standard.usesColor(stream) ? .ansi : .plain,
            width: Terminal.standard.width ?? 100, full: full)
    }
}
