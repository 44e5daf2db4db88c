// weft device: what systemd starts for an agent that needs a user-space device.

internal import ArgumentParser
internal import Glibc
internal import WeftLinux

/// Not for people: see Deploy/weft-device@.service.
struct DeviceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "device",
        abstract:
            "Become the program behind a user-space device, as the agent at the other end of standard input asks.",
        shouldDisplay: false)

    func run() throws {
        try reportingFailures {
            let environment = Machine.environment()
            try DeviceStarter(connection: STDIN_FILENO, environment: environment).run()
        }
    }
}
