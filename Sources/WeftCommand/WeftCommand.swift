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
            ConfirmCommand.self, RevertCommand.self, TrialCommand.self, StatusCommand.self, EventsCommand.self,
            DoctorCommand.self, KeyCommand.self, AgentCommand.self, DeviceCommand.self,
        ])

    package init() {}

    /// A caller may have closed them, and the next file to be opened would then take the number of standard output: the
    /// state folder's, or a device's socket, and the plan would be written into it.
    private static func keepStandardDescriptors() {
        for descriptor: Int32 in 0...2 where fcntl(descriptor, F_GETFD) == -1 {
            // The lowest free number is this one.
            _ = open("/dev/null", O_RDWR)
        }
    }

    /// Runs the command that the process was called with, and ends the process.
    package static func run() -> Never {
        keepStandardDescriptors()
        main()
        Glibc.exit(0)
    }
}
