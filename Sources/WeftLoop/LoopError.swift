// What can go wrong with the things that a loop waits for.

import Glibc

/// A system call that failed, and what it was for.
package struct LoopError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was to be done, in the words of a person: `listen on /run/weft/weft.sock`.
    package let operation: String
    /// See errno(3).
    package let errno: Int32
    /// What to do about it; empty where nothing is known.
    package let remedy: String

    package init(_ operation: String, errno: Int32 = Glibc.errno, remedy: String = "") {
        self.operation = operation
        self.errno = errno
        self.remedy = remedy
    }

    /// `cannot listen on /run/weft/weft.sock: Permission denied`, and then the remedy.
    package var description: String {
        "cannot \(operation): \(systemText(errno))" + (remedy.isEmpty ? "" : "; \(remedy)")
    }
}

/// The system's own short text for an error number.
func systemText(_ number: Int32) -> String {
    // glibc answers with a constant of its own for every number it knows.
    strerror(number).map { String(cString: $0) } ?? "error \(number)"
}
