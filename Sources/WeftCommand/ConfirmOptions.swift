// How a change proves itself: what apply and the agent share.

internal import ArgumentParser
internal import WeftAgent
internal import WeftModel

/// A time as people say it: `60`, `60s`, `2m`; or none at all.
enum ConfirmTime: ExpressibleByArgument, Equatable {
    case off
    case within(seconds: Int)

    init?(argument: String) {
        if argument == "off" {
            self = .off
            return
        }
        let factor = argument.hasSuffix("m") ? 60 : 1
        let digits = argument.hasSuffix("m") || argument.hasSuffix("s") ? argument.dropLast() : argument[...]
        guard !digits.isEmpty, digits.count <= 5, digits.allSatisfy({ $0.isASCII && $0.isNumber }),
            let number = Int(digits)
        else { return nil }
        self = .within(seconds: number * factor)
    }

    var defaultValueDescription: String {
        switch self {
        case .off: "off"
        case .within(let seconds): "\(seconds)s"
        }
    }
}

struct ConfirmOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Put a change on trial: what does not prove itself in this time is taken back. 10s to 60m, or off.",
            discussion: """
                Peers that answered an echo request before a change must answer after it. Without this option only a change is on \
                trial, for 60s, that would cut an SSH session, the git remote or a name server; off makes it without.
                """,
            valueName: "time"))
    var confirmWithin: ConfirmTime?
    @Option(
        name: .customLong("confirm-ping"),
        help: ArgumentHelp("An address that must answer after a change too; may be repeated.", valueName: "address"))
    var confirmPings: [String] = []
    @Option(
        name: .customLong("confirm-peer"),
        help: ArgumentHelp(
            "A node from which WireGuard must hear after a change, also where it answers no echo; may be repeated.",
            valueName: "name"))
    var confirmPeers: [String] = []
    @Flag(help: "Only a person keeps a change, by `weft confirm`.")
    var confirmManually = false

    func validate() throws {
        if case .within(let seconds) = confirmWithin, !(10...3600).contains(seconds) {
            throw ValidationError("--confirm-within takes 10s to 60m, or off")
        }
        for text in confirmPings where IPAddress(text) == nil {
            throw ValidationError("--confirm-ping takes an address, and \(text) is none")
        }
        if confirmWithin == .off, confirmManually || !confirmPings.isEmpty || !confirmPeers.isEmpty {
            throw ValidationError("--confirm-within off leaves nothing to confirm")
        }
    }

    /// Whether a change is put on trial that nobody asked to be.
    var guardsItself: Bool { confirmWithin != .off }

    /// Nil where nothing asks for a trial. Who is named needs no time to be named.
    var settings: ConfirmSettings? {
        let seconds: Int
        switch confirmWithin {
        case .off: return nil
        case .within(let time): seconds = time
        case nil:
            if !confirmManually, confirmPings.isEmpty, confirmPeers.isEmpty { return nil }
            seconds = Int(ConfirmSettings.automatic.within.components.seconds)
        }
        return ConfirmSettings(
            within: .seconds(seconds), addresses: confirmPings.compactMap { IPAddress($0) }, isManual: confirmManually)
    }

    /// As another process is told.
    func arguments(within time: Duration, manually: Bool) -> [String] {
        ["--confirm-within", "\(time.components.seconds)"] + confirmPings.flatMap { ["--confirm-ping", $0] }
            + confirmPeers.flatMap { ["--confirm-peer", $0] }
            + (manually ? ["--confirm-manually"] : [])
    }
}
