// The composition root: the real kernel, the real state folder and the real clock behind the commands.

internal import Netlink
internal import WeftKeys
internal import WeftLinux
internal import WeftModel
internal import WeftPlan

/// This machine, in this network namespace.
struct Machine {
    private let state: StateFolder

    init(stateDirectory: String) throws {
        state = StateFolder(path: stateDirectory)
    }
}
