// Asks a `LineServer`, for programs that may wait.

import Glibc

/// The other end of a `LineServer`.
package enum UnixClient {
    /// What is answered, line by line.
    package final class Lines {
        /// How long each wait for more may be; nil: for ever.
        package var timeout: Duration?

        init(timeout: Duration?) { self.timeout = timeout }

        /// The next line, without its end; nil when the server has finished.
        package func next() throws(LoopError) -> String? { nil }
    }

    /// Sends one line, and waits up to `timeout` for the connection and for each line of the answer.
    package static func request(_ path: String, _ line: String, timeout: Duration?) throws(LoopError) -> Lines {
        throw LoopError("ask at \(path)", errno: ENOSYS)
    }
}
