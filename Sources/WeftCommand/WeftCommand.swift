// The command line's root.

package import ArgumentParser

package struct WeftCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "weft",
        abstract: "A declarative, reconciling network controller for WireGuard.",
        subcommands: [KeyCommand.self])

    package init() {}
}
