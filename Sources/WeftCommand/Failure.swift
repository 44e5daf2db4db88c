// How a command ends when it cannot go on: a sentence, what to do, and an exit status.

internal import ArgumentParser
internal import WeftDiagnostics
internal import WeftKeys
internal import WeftPlan
internal import WeftRender

/// A command's end without success. Everything there is to say has been said, or is in `message`.
struct Failure: Error {
    var message: String
    /// What to do, a line each.
    var remedies: [String]

    /// The exit status.
    var status: Int32 = 1

    var remedy: String { remedies.joined(separator: "; ") }

    init(_ message: String, remedy: String = "") {
        self.message = message
        remedies = remedy.isEmpty ? [] : [remedy]
    }

    init(_ error: KeyError) {
        self.init("\(error.place): \(error.message)", remedy: error.remedy)
    }

    /// Keys that cannot be used, each with its place.
    init(_ errors: [KeyError]) {
        guard errors.count > 1 else {
            self.init(errors[0])
            return
        }
        self.init("\(errors.count) keys cannot be used")
        let shown = 16
        remedies = errors.sorted { $0.place < $1.place }.prefix(shown).map { error in
            "\(error.place): \(error.message)\(error.remedy.isEmpty ? "" : ": \(error.remedy)")"
        }
        if errors.count > shown { remedies.append("and \(errors.count - shown) more") }
    }

    init(_ error: DataplaneError) {
        self.init(error.description)
    }

    /// Any error in one sentence, with what to do.
    static func sentence(of error: any Error) -> String {
        guard let failure = Failure(any: error) else { return "\(error)" }
        return failure.remedy.isEmpty ? failure.message : "\(failure.message): \(failure.remedy)"
    }

    /// Nil for an error that is not to be said.
    init?(any error: any Error) {
        switch error {
        case let failure as Failure: self = failure
        case let error as KeyError: self.init(error)
        case let error as DataplaneError: self.init(error)
        default: return nil
        }
    }
}

/// Runs a command's body; a `Failure` goes to standard error, and a full disk under standard output is one too.
func reportingFailures(_ body: () throws -> Void) throws {
    let terminal = Terminal.standard
    do {
        try body()
    } catch let failure as Failure {
        terminal.write("error: \(failure.message.visible)", to: .error)
        for remedy in failure.remedies { terminal.write("note: \(remedy.visible)", to: .error) }
        throw ExitCode(failure.status)
    } catch {
        guard let failure = Failure(any: error) else { throw error }
        return try reportingFailures { throw failure }
    }
    if let failure = terminal.failure {
        terminal.write("error: standard output: \(failure)", to: .error)
        throw ExitCode.failure
    }
}
