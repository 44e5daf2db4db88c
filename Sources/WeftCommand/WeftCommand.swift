// The command line's root.

package import ArgumentParser

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
}
