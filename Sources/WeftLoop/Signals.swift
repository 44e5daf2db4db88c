// Signals as something to read, so that none comes between two lines of code.

import CLinux
import Glibc

/// The signals that a service is told with: SIGTERM, SIGINT, SIGHUP.
package final class Signals {
    private let file: Descriptor

    /// Blocks them in this thread, and so in all that it starts: made before any other thread is. Programs that are
    /// started must unblock them.
    package init() throws(LoopError) {
        var signals = sigset_t()
        sigemptyset(&signals)
        for signal in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&signals, signal) }
        let failure = pthread_sigmask(SIG_BLOCK, &signals, nil)
        guard failure == 0 else { throw LoopError("block signals", errno: failure) }
        file = try Descriptor(
            signalfd(-1, &signals, Int32(SFD_CLOEXEC | SFD_NONBLOCK)), "read signals")
    }

    /// Readable when a signal waits.
    package var descriptor: Int32 { file.number }

    /// Takes one signal; nil where none waits. Several of one kind that came before they were taken are one.
    package func next() -> Int32? {
        var information = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        guard retryingEINTR({ read(file.number, &information, size) }) == size else { return nil }
        return Int32(bitPattern: information.ssi_signo)
    }
}
