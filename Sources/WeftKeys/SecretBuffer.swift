// Guarded scratch memory for text with keys in it, on its way in or out.

internal import CSodium
package import WeftModel

/// Bytes that are filled at the end and taken from the front: never copied elsewhere, locked, and zeroed at the latest
/// when they are freed.
package final class SecretBuffer: CustomStringConvertible {
    package let capacity: Int
    /// How many bytes are in it.
    package private(set) var count = 0
    private let memory: GuardedMemory

    package init(capacity: Int) {
        self.capacity = capacity
        memory = GuardedMemory(count: capacity)
    }

    package var free: Int { capacity - count }

    /// Lends the bytes.
    package func withBytes<Result, Failure: Error>(
        _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try memory.withBytes(0..<count, body)
    }

    /// Lends the free space; the closure says how much of it is bytes now.
    package func fill<Failure: Error>(
        _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Int
    ) throws(Failure) {
        let added = try unsafe memory.withMutableBytes { bytes throws(Failure) -> Int in
            try unsafe body(UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(bytes)[count...]))
        }
        precondition(added >= 0 && added <= free)
        count += added
    }

    /// Drops bytes from the front, and zeroes the room that they leave.
    package func removeFirst(_ dropped: Int) {
        precondition(dropped >= 0 && dropped <= count)
        unsafe memory.withMutableBytes { bytes in
            guard let start = bytes.baseAddress else { return }
            unsafe start.update(from: start + dropped, count: count - dropped)
            unsafe sodium_memzero(start + (count - dropped), dropped)
        }
        count -= dropped
    }

    /// Zeroes all.
    package func erase() {
        memory.zero()
        count = 0
    }

    /// Adds a byte; there must be room.
    package func append(_ byte: UInt8) {
        precondition(count < capacity)
        let index = count
        unsafe memory.withMutableBytes { unsafe $0[index] = byte }
        count += 1
    }

    /// Adds text; there must be room.
    package func append(_ text: String) {
        var text = text
        text.withUTF8 { source in
            precondition(source.count <= free)
            let start = count
            unsafe memory.withMutableBytes { bytes in
                for index in 0..<source.count { unsafe bytes[start + index] = source[index] }
            }
        }
        count += text.utf8.count
    }

    /// Adds two hexadecimal digits, in lower case, for each byte; there must be room.
    package func append(hexadecimal secret: Span<UInt8>) {
        for index in secret.indices {
            append(Self.digit(secret[index] >> 4))
            append(Self.digit(secret[index] & 15))
        }
    }

    // Without a table and without a branch, so that neither the cache nor time tells a digit.
    private static func digit(_ value: UInt8) -> UInt8 {
        let letter = (UInt8(9) &- value) >> 7
        return value &+ UInt8(ascii: "0") &+ letter &* 39
    }

    package var description: String { "(hidden)" }
}

/// A private or preshared key that a device says in hexadecimal: tagged, and forgotten.
package final class SecretScratch {
    private let memory = GuardedMemory(count: SecretArena.secretSize)

    package init() {}

    /// Something else than 64 hexadecimal digits.
    package struct Malformed: Error {}

    /// The tag of the key that 64 hexadecimal digits mean; nil where all of them are zero, which means no key.
    package func readPresharedKey(hexadecimal text: Span<UInt8>) throws(Malformed) -> SecretTag? {
        defer { memory.zero() }
        try decode(text)
        if memory.isZero { return nil }
        return memory.withBytes(0..<memory.count) { SecretTagger.tag($0) }
    }

    /// As `readPresharedKey(hexadecimal:)`, clamped, with the public key that belongs to it.
    package func readPrivateKey(hexadecimal text: Span<UInt8>) throws(Malformed) -> OwnKey? {
        defer { memory.zero() }
        try decode(text)
        if memory.isZero { return nil }
        memory.clamp()
        return memory.withBytes(0..<memory.count) {
            OwnKey(tag: SecretTagger.tag($0), publicKey: derivePublicKey(from: $0))
        }
    }

    private func decode(_ text: Span<UInt8>) throws(Malformed) {
        guard text.count == 2 * memory.count else { throw Malformed() }
        try unsafe memory.withMutableBytes { bytes throws(Malformed) in
            for index in 0..<bytes.count {
                guard let high = hexDigit(text[index * 2]), let low = hexDigit(text[index * 2 + 1]) else {
                    throw Malformed()
                }
                unsafe bytes[index] = high << 4 | low
            }
        }
    }
}
