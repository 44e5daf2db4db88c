// Makes keys, and writes them where nobody else can read them.

internal import Glibc
package import WeftModel

/// Makes private and preshared keys. Their bytes and their text are only ever in guarded memory and in the kernel.
package enum KeyMaker {
    package enum Destination: Hashable, Sendable {
        /// A file that must not exist yet; it is made with mode 600.
        case file(String)
        /// An open descriptor, and what it is called in errors.
        case descriptor(Int32, name: String)
    }

    /// Writes a new private key, clamped, as one line of base64.
    ///
    /// - Returns: its public key.
    @discardableResult
    package static func makePrivateKey(to destination: Destination) throws(KeyError) -> PublicKey {
        let key = randomKey()
        key.clamp()
        try write(key, to: destination)
        return key.withBytes(0..<SecretArena.secretSize) { derivePublicKey(from: $0) }
    }

    /// Writes a new preshared key as one line of base64.
    package static func makePresharedKey(to destination: Destination) throws(KeyError) {
        try write(randomKey(), to: destination)
    }

    /// The public key of the private key in a file, which must be as guarded as one that is used.
    package static func publicKey(ofFile path: String) throws(KeyError) -> PublicKey {
        try KeyFiles(privateKey: path).ownKey().publicKey
    }

    /// The public key of the private key that a descriptor yields.
    package static func publicKey(ofDescriptor descriptor: Int32, name: String) throws(KeyError) -> PublicKey {
        try KeyReader().withKey(from: descriptor, place: name, for: .privateKey) { key throws(KeyError) in
            derivePublicKey(from: key)
        }
    }

    private static func randomKey() -> GuardedMemory {
        let key = GuardedMemory(count: SecretArena.secretSize)
        key.fillRandomly()
        return key
    }

    private static func write(_ key: borrowing GuardedMemory, to destination: Destination) throws(KeyError) {
        let line = GuardedMemory(count: 45)
        key.encodeBase64(into: line)
        unsafe line.withMutableBytes { unsafe $0[44] = UInt8(ascii: "\n") }
        switch destination {
        case .descriptor(let descriptor, let name): try writeAll(line, to: descriptor, place: name)
        case .file(let path): try create(path, holding: line)
        }
    }

    private static func create(_ path: String, holding line: borrowing GuardedMemory) throws(KeyError) {
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW
        let descriptor = retryingEINTR { unsafe open(path, flags, 0o600) }
        guard descriptor >= 0 else {
            if errno == EEXIST {
                throw KeyError(
                    .exists, at: path, "there is such a file already, and it may hold the only copy of a key",
                    remedy: "choose another name, or remove it first", errno: errno)
            }
            if errno == ENOENT {
                throw KeyError(
                    .missing, at: path, "its folder does not exist",
                    remedy: "make it: mkdir -p -m 700 \(shellQuoted(folder(of: path)))",
                    errno: errno)
            }
            throw .system(errno, "make", path)
        }
        defer { close(descriptor) }
        do throws(KeyError) {
            try writeAll(line, to: descriptor, place: path)
            // A public key that is already in a topology must not outlive its private key.
            guard fsync(descriptor) == 0 else { throw .system(errno, "write", path) }
        } catch {
            _ = unsafe unlink(path)
            throw error
        }
    }

    private static func folder(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    private static func writeAll(
        _ line: borrowing GuardedMemory, to descriptor: Int32, place: String
    ) throws(KeyError) {
        var done = 0
        while done < line.count {
            let count = unsafe line.withMutableBytes { bytes in
                retryingEINTR {
                    unsafe Glibc.write(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done)
                }
            }
            guard count >= 0 else { throw .system(errno, "write", place) }
            done += count
        }
    }
}
