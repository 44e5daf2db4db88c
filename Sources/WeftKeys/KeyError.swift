// What can be wrong with a key, as a value: where, what, and the way to mend it.

package import WeftModel

/// A key that cannot be used or made. No byte of it is ever in here.
package struct KeyError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Code: Hashable, Sendable {
        case missing
        /// A directory, a device, a FIFO or a socket.
        case notAFile
        /// The group or others can read or write it.
        case tooOpen
        /// It belongs to another user than root and the caller.
        case foreignOwner
        case empty
        case notAKey(KeyTextError)
        /// A wg-quick file where a key file was expected.
        case configurationFile
        case allZero
        /// It is not what it was when the plan was made.
        case changed
        /// The file to be made is there already.
        case exists
        /// The system refused; see `errno`.
        case system
    }

    package var code: Code
    /// The file, or `standard input`.
    package var place: String
    /// What is wrong, without the place.
    package var message: String
    /// What to do, as a sentence or a command; empty where nothing is to be said.
    package var remedy: String
    /// The system's error number, 0 where there is none.
    package var errno: Int32

    package init(_ code: Code, at place: String, _ message: String, remedy: String = "", errno: Int32 = 0) {
        self.code = code
        self.place = place
        self.message = message
        self.remedy = remedy
        self.errno = errno
    }

    package var description: String { "\(place): \(message)" + (remedy.isEmpty ? "" : "; \(remedy)") }
}

extension KeyError {
    /// The error of a system call on a key's file.
    static func system(_ number: Int32, _ action: String, _ place: String) -> KeyError {
        let reason = systemMessage(number)
        return KeyError(.system, at: place, "cannot \(action) this file: \(reason)", errno: number)
    }

    /// Text that is not a key, said by what it looks like.
    static func text(_ error: KeyTextError, at place: String, remedy: String) -> KeyError {
        let message =
            switch error {
            case .wrongLength(let count): "this is not a key: it has \(count) characters, a key has 44"
            case .badCharacter(let index): "this is not a key: character \(index + 1) does not belong to base64"
            case .notCanonical: "this is not a key: its last character has bits that no key has"
            }
        return KeyError(.notAKey(error), at: place, message, remedy: remedy)
    }
}

/// A word as a shell takes it: quoted where it must be.
package func shellQuoted(_ text: String) -> String {
    let plain = text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "/._-+=:@%,".utf8.contains(byte)
        }
    }
    if plain, !text.isEmpty { return text }
    return "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
}
