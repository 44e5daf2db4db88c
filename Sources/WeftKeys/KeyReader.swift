// Reads one key from a file or a descriptor, straight into guarded memory.

internal import CSodium
internal import Glibc
internal import WeftModel

/// What a key is for; it decides what is done with its bytes, and what the advice says.
enum KeyPurpose {
    /// Clamped as it is read, because devices read it back so.
    case privateKey
    case presharedKey

    var maker: String {
        switch self {
        case .privateKey: "weft key generate --output"
        case .presharedKey: "weft key preshared --output"
        }
    }

    /// How to come by a key in this file.
    func remedy(making path: String) -> String {
        let command = "\(maker) \(shellQuoted(path))"
        return switch self {
        case .privateKey: "make one: \(command)"
        case .presharedKey:
            "make it on one of the two hosts, and copy it to the other as its file for this node: \(command)"
        }
    }
}

/// Reads keys one after the other through one piece of guarded memory.
struct KeyReader: ~Copyable {
    // A key's text: 44 characters and an end of line. More than this much is no key.
    private static let textLimit = 256
    private let text = GuardedMemory(count: KeyReader.textLimit)
    private let key = GuardedMemory(count: SecretArena.secretSize)

    /// Lends the 32 bytes of the key in a file: regular, owned by root or the caller, and closed to all others.
    func withKey<Result>(
        at path: String, for purpose: KeyPurpose, _ body: (Span<UInt8>) throws(KeyError) -> Result
    ) throws(KeyError) -> Result {
        // O_NONBLOCK and O_NOCTTY: opening a FIFO must not wait for its writer, nor a terminal become ours.
        let descriptor = retryingEINTR { unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) }
        guard descriptor >= 0 else {
            if errno == ENOENT || errno == ENOTDIR {
                throw KeyError(
                    .missing, at: path, "there is no such file",
                    remedy: purpose.remedy(making: path), errno: errno)
            }
            if errno == EACCES {
                throw KeyError(.system, at: path, "no permission to read it", remedy: "run as root", errno: errno)
            }
            // A UNIX socket cannot be opened at all.
            if errno == ENXIO { throw KeyError(.notAFile, at: path, "this is not a file", errno: errno) }
            throw .system(errno, "open", path)
        }
        defer { close(descriptor) }
        let size = try check(descriptor, path)
        return try withKey(from: descriptor, place: path, size: size, for: purpose, body)
    }

    /// Lends the 32 bytes of the key that a descriptor yields until its end, whatever kind it is.
    ///
    /// - Parameter size: how many bytes it yields, where that is known.
    func withKey<Result>(
        from descriptor: Int32, place: String, size: Int? = nil, for purpose: KeyPurpose,
        _ body: (Span<UInt8>) throws(KeyError) -> Result
    ) throws(KeyError) -> Result {
        defer {
            text.zero()
            key.zero()
        }
        let count = try fill(from: descriptor, place: place)
        try decode(count: count, of: size, place: place, purpose: purpose)
        return try key.withBytes(0..<SecretArena.secretSize, body)
    }

    /// - Returns: the file's size in bytes.
    private func check(_ descriptor: Int32, _ path: String) throws(KeyError) -> Int {
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { throw .system(errno, "look at", path) }
        let quoted = shellQuoted(path)
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw KeyError(.notAFile, at: path, "this is not a file", remedy: "name a file that holds a key")
        }
        guard status.st_uid == 0 || status.st_uid == geteuid() else {
            throw KeyError(
                .foreignOwner, at: path, "it belongs to user \(status.st_uid), who can read and change it",
                remedy: "chown \(geteuid()) \(quoted)")
        }
        guard status.st_mode & 0o077 == 0 else {
            let mode = String(status.st_mode & 0o7777, radix: 8)
            throw KeyError(
                .tooOpen, at: path, "others than its owner have access to it (mode \(mode))",
                remedy: "chmod 600 \(quoted)")
        }
        return Int(status.st_size)
    }

    /// Reads up to the end or the limit; the count of bytes.
    private func fill(from descriptor: Int32, place: String) throws(KeyError) -> Int {
        var count = 0
        while count < Self.textLimit {
            let got = unsafe text.withMutableBytes { bytes in
                retryingEINTR { unsafe read(descriptor, bytes.baseAddress?.advanced(by: count), bytes.count - count) }
            }
            guard got >= 0 else { throw .system(errno, "read", place) }
            if got == 0 { break }
            count += got
        }
        return count
    }

    private func decode(count: Int, of size: Int?, place: String, purpose: KeyPurpose) throws(KeyError) {
        let remedy = "a key is one line as `wg genkey` writes it"
        try text.withBytes(0..<count) { characters throws(KeyError) in
            var end = count
            while end > 0, isBlank(characters[end - 1]) { end -= 1 }
            if end == 0 {
                throw KeyError(.empty, at: place, "it is empty", remedy: "a key is 44 characters of base64")
            }
            // As wg does, which takes blanks behind a key only.
            if end > 3, characters[0] == 0xEF, characters[1] == 0xBB, characters[2] == 0xBF {
                throw KeyError(
                    .notAKey(.wrongLength(end)), at: place,
                    "a byte-order mark stands before the key: wg refuses that too",
                    remedy: "save it as UTF-8 without one (sed -i '1s/^\\xef\\xbb\\xbf//' FILE)")
            }
            if isBlank(characters[0]) {
                throw KeyError(
                    .notAKey(.wrongLength(end)), at: place,
                    "a blank or an empty line stands before the key: wg refuses that too", remedy: remedy)
            }
            if startsWithQuote(characters) {
                throw KeyError(
                    .notAKey(.wrongLength(end)), at: place, "a quote stands before the key: it is written without",
                    remedy: remedy)
            }
            if looksLikeConfiguration(characters.extracting(0..<end)) {
                throw KeyError(
                    .configurationFile, at: place, "this is a wg-quick file, not a key",
                    remedy: "write the value of its PrivateKey into a file of its own")
            }
            if count == Self.textLimit {
                let length = size.map { "\($0) bytes" } ?? "more than \(Self.textLimit - 1) bytes"
                throw KeyError(
                    .notAKey(.wrongLength(size ?? count)), at: place,
                    "this is not a key: it has \(length), a key has 44 characters", remedy: remedy)
            }
            guard end == 44 else { throw .text(.wrongLength(end), at: place, remedy: remedy) }
            if let bad = firstForeignCharacter(characters) {
                throw .text(.badCharacter(at: bad), at: place, remedy: remedy)
            }
            guard key.decodeBase64(characters.extracting(0..<44)) else {
                throw .text(.notCanonical, at: place, remedy: remedy)
            }
        }
        guard !key.isZero else {
            throw KeyError(
                .allZero, at: place, "all its bytes are zero, which is no key",
                remedy: "make another: \(purpose.maker) FILE")
        }
        if case .privateKey = purpose { key.clamp() }
    }

    private func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }

    /// Plain ones, and those of print: U+2018 to U+201F.
    private func startsWithQuote(_ characters: Span<UInt8>) -> Bool {
        if characters[0] == UInt8(ascii: "\"") || characters[0] == UInt8(ascii: "'") { return true }
        return characters.count > 2 && characters[0] == 0xE2 && characters[1] == 0x80
            && (0x98...0x9F).contains(characters[2])
    }

    private func looksLikeConfiguration(_ characters: Span<UInt8>) -> Bool {
        let marks: [StaticString] = ["[Interface]", "[interface]", "PrivateKey"]
        for mark in marks where characters.count >= mark.utf8CodeUnitCount {
            var same = true
            for index in 0..<mark.utf8CodeUnitCount where unsafe characters[index] != mark.utf8Start[index] {
                same = false
            }
            if same { return true }
        }
        return false
    }

    /// The index of the first of 44 characters that base64 with one `=` at its end does not have there.
    private func firstForeignCharacter(_ characters: Span<UInt8>) -> Int? {
        for index in 0..<43 {
            switch characters[index] {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "/"):
                continue
            default: return index
            }
        }
        return characters[43] == UInt8(ascii: "=") ? nil : 43
    }
}

/// Calls again for as long as a signal interrupts.
func retryingEINTR<Value: SignedInteger>(_ call: () -> Value) -> Value {
    while true {
        let result = call()
        if result != -1 || errno != EINTR { return result }
    }
}

/// The system's words for an error number: `Permission denied`.
func systemMessage(_ number: Int32) -> String {
    var text = [CChar](repeating: 0, count: 256)
    // The XSI form: 0, and the text is in the buffer.
    guard unsafe strerror_r(number, &text, text.count) == 0 else { return "error \(number)" }
    return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}
