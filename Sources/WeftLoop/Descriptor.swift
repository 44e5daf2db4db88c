// A file descriptor that is closed when it is let go, and the system calls on it that every signal may interrupt.

import Glibc

/// An open file descriptor, closed with its owner.
struct Descriptor: ~Copyable {
    let number: Int32

    /// Takes over what a system call answered; fails where that is an error.
    init(_ number: Int32, _ operation: @autoclosure () -> String) throws(LoopError) {
        guard number >= 0 else { throw LoopError(operation()) }
        self.number = number
    }

    deinit { close(number) }

    /// Reads the counter of an eventfd or a timerfd.
    ///
    /// - Returns: nil where there is none, with the reason in `errno`.
    func readCounter() -> UInt64? {
        var counter: UInt64 = 0
        let count = retryingEINTR { read(number, &counter, MemoryLayout<UInt64>.size) }
        return count == MemoryLayout<UInt64>.size ? counter : nil
    }
}

/// Calls again for as long as a signal interrupts.
func retryingEINTR<Value: SignedInteger>(_ call: () -> Value) -> Value {
    while true {
        let result = call()
        if result != -1 || errno != EINTR { return result }
    }
}
