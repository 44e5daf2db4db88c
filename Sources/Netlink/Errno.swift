// The system's error numbers as an error.

import Glibc

/// An error number of the system, with its own short text.
package struct Errno: Error, Hashable, Sendable, CustomStringConvertible {
    package let rawValue: Int32

    package init(_ rawValue: Int32) {
        self.rawValue = rawValue
    }

    /// Of the system call that has just failed on this thread.
    static var current: Errno { Errno(Glibc.errno) }

    /// `No such device`; see strerror(3).
    package var description: String {
        // glibc answers with a constant of its own for every number it knows.
        unsafe strerror(rawValue).map { text in unsafe String(cString: text) } ?? "error \(rawValue)"
    }
}
