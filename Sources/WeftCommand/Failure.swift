// How a command ends when it cannot go on: a sentence, what to do, and exit status 1.

internal import ArgumentParser
internal import WeftDiagnostics
internal import WeftKeys
internal import WeftPlan
internal import WeftRender

/// A command's end with exit status 1. Everything there is to say has been said, or is in `message`.
struct Failure: Error {
    var message: String
    var remedy: String

    init(_ message: String, remedy: String = "") {
        self.message = message
        self.remedy = remedy
    }

    init(_ error: KeyError) {
        self.init("\(error.place): \(error.message)", remedy: error.remedy)
    }

    /// Several keys that cannot be used, each with its place.
    init(_ errors: [KeyError]) {
        let shown = 16
        let places = errors.prefix(shown).map { "\($0.place): \($0.message)" }.joined(separator: "; ")
        let rest = errors.count > shown ? "; and \(errors.count - shown) more" : ""
        let remedies = errors.prefix(shown).map(\.remedy).filter { !$0.isEmpty }
        self.init(
            errors.count > 1 ? "\(errors.count) keys cannot be used: \(places)\(rest)" : places,
            remedy: Set(remedies).count == 1 ? remedies[0] : remedies.joined(separator: "; "))
    }

    init(_ error: DataplaneError) {
        self.init(error.description)
    }
}

/// Runs a command's body; a `Failure` goes to standard error, and a full disk under standard output is one too.
func reportingFailures(_ body: () throws -> Void) throws {
    let terminal = Terminal.standard
    do {
        try body()
    } catch let failure as Failure {
        terminal.write("error: \(failure.message.visible)", to: .error)
        if !failure.remedy.isEmpty { terminal.write("note: \(failure.remedy.visible)", to: .error) }
        throw ExitCode.failure
    } catch let error as KeyError {
        return try reportingFailures { throw Failure(error) }
    } catch let error as DataplaneError {
        return try reportingFailures { throw Failure(error) }
    }
    if let failure = terminal.failure {
        terminal.write("error: standard output: \(failure)", to: .error)
        throw ExitCode.failure
    }
}
