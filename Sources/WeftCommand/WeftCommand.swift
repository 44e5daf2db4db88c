// The command line's root.

package import ArgumentParser
internal import Glibc

package struct WeftCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "weft",
        abstract: "A declarative, reconciling network controller for WireGuard.",
        discussion: "Describe the mesh in YAML, look at the plan, apply it.",
        version: "0.1.0",
        subcommands: [
            CheckCommand.self, ShowCommand.self, PlanCommand.self, ApplyCommand.self, DownCommand.self,
            StatusCommand.self, KeyCommand.self,
        ])

    package init() {}

    /// Runs the command that the process was called with, and ends the process.
    package static func run() -> Never {
        main()
        Glibc.exit(0)
    }
}
