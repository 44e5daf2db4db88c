// Ctrl-C, or the end of a session, in the middle of a change.

internal import Glibc
internal import WeftLoop

/// Takes SIGINT, SIGTERM and SIGHUP from its making on: a change ends between two batches, and says how far it got.
final class Interruption {
    private let signals = try? Signals()
    /// The first that came.
    private(set) var signal: Int32?

    /// Whether one has come.
    var hasCome: Bool {
        signal = signal ?? signals?.next()
        return signal != nil
    }
}

extension Failure {
    init(interruptedBy signal: Int32, after done: Int, of all: Int) {
        let names = [SIGINT: "SIGINT", SIGTERM: "SIGTERM", SIGHUP: "SIGHUP"]
        self.init(
            "interrupted by \(names[signal] ?? "signal \(signal)") after \(done) of \(all) operations: what is done stays",
            remedy: "run the same command again: it goes on from there")
        status = 128 + signal
    }
}
