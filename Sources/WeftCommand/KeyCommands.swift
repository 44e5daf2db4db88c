// weft key: makes keys that wg reads, and reads keys that wg makes.

package import ArgumentParser
internal import Glibc
internal import WeftKeys
internal import WeftModel

package struct KeyCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "key",
        abstract: "Make private, public and preshared keys.",
        discussion: """
            A host's private key never leaves the host: make it there, and put its public key into the topology.

              weft key generate --output /etc/weft/private.key
            """,
        subcommands: [Generate.self, Public.self, Preshared.self])

    package init() {}

    struct Generate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a private key, as `wg genkey` does.",
            discussion:
                "With --output, the private key goes into a new file of mode 600, and its public key is printed.")

        @Option(name: .shortAndLong, help: "A file to make; one that exists is never overwritten.")
        var output: String?

        func run() throws {
            try reportingKeyErrors { () throws(KeyError) in
                guard let output else {
                    try checkOutput()
                    try KeyMaker.makePrivateKey(to: .descriptor(STDOUT_FILENO, name: "standard output"))
                    return
                }
                let key = try KeyMaker.makePrivateKey(to: .file(output))
                Terminal.standard.write(key.base64)
            }
        }
    }

    struct Public: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the public key of a private key, as `wg pubkey` does.")

        @Argument(help: "The private key's file; without one, the key is read from standard input.")
        var file: String?

        func run() throws {
            try reportingKeyErrors { () throws(KeyError) in
                let key =
                    if let file, file != "-" {
                        try KeyMaker.publicKey(ofFile: file)
                    } else {
                        try KeyMaker.publicKey(ofDescriptor: STDIN_FILENO, name: "standard input")
                    }
                Terminal.standard.write(key.base64)
            }
        }
    }

    struct Preshared: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a preshared key, as `wg genpsk` does.",
            discussion: """
                The two hosts of a link need the same one, each under the other's node name:

                  weft key preshared --output /etc/weft/preshared-keys/NODE
                """)

        @Option(name: .shortAndLong, help: "A file to make; one that exists is never overwritten.")
        var output: String?

        func run() throws {
            try reportingKeyErrors { () throws(KeyError) in
                if output == nil { try checkOutput() }
                try KeyMaker.makePresharedKey(
                    to: output.map { .file($0) } ?? .descriptor(STDOUT_FILENO, name: "standard output"))
            }
        }
    }
}

/// Says what is wrong with a key and how to mend it, and ends the command with 1.
private func reportingKeyErrors(_ body: () throws(KeyError) -> Void) throws {
    ProcessHardening.apply()
    do throws(KeyError) {
        try body()
    } catch {
        Terminal.standard.write("error: \(error.place): \(error.message)", to: .error)
        if !error.remedy.isEmpty { Terminal.standard.write("note: \(error.remedy)", to: .error) }
        throw ExitCode.failure
    }
    if let failure = Terminal.standard.failure {
        Terminal.standard.write("error: standard output: \(failure)", to: .error)
        throw ExitCode.failure
    }
}

/// As wg does: a key that the shell writes into a file for all to read is worth a word. One that nobody reads is lost.
private func checkOutput() throws(KeyError) {
    var (status, null) = (stat(), stat())
    guard fstat(STDOUT_FILENO, &status) == 0 else { return }
    // Where standard output is closed, the run-time has put this in its place.
    if status.st_mode & S_IFMT == S_IFCHR, stat("/dev/null", &null) == 0, status.st_rdev == null.st_rdev {
        throw KeyError(
            .system, at: "standard output", "it is closed or leads nowhere: the key would be lost",
            remedy: "write it into a file with --output")
    }
    guard status.st_mode & S_IFMT == S_IFREG, status.st_mode & 0o077 != 0 else { return }
    Terminal.standard.write("warning: others can read the file that this key goes to; use --output", to: .error)
}
