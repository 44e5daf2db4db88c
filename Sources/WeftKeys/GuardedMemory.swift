// One block of memory for secrets: guard pages around it, locked, out of core dumps, zeroed when it is freed.

internal import CSodium

/// A block from sodium_malloc(3): it ends at a guard page, is locked where the limit allows it, stays out of core
/// dumps, and is zeroed as it is freed. Between uses it can be made unreadable.
@safe struct GuardedMemory: ~Copyable {
    private let base: UnsafeMutableRawPointer
    let count: Int

    /// Allocates zeroed bytes. Running out of memory ends the process, as everywhere in Swift.
    init(count: Int) {
        Sodium.start()
        guard let base = unsafe sodium_malloc(max(count, 1)) else {
            fatalError("no memory for \(count) guarded bytes: raise the limit (ulimit -v, ulimit -l)")
        }
        unsafe self.base = unsafe base
        self.count = count
        unsafe sodium_memzero(base, max(count, 1))
    }

    deinit { unsafe sodium_free(base) }

    /// Lends the bytes of a range, for reading.
    func withBytes<Result, Failure: Error>(
        _ range: Range<Int>, _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let start = unsafe UnsafePointer(base.assumingMemoryBound(to: UInt8.self))
        let span = unsafe Span(_unsafeStart: start, count: count)
        return try body(span.extracting(range))
    }

    /// Lends the bytes for writing.
    func withMutableBytes<Result, Failure: Error>(
        _ body: (UnsafeMutableBufferPointer<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let start = unsafe base.assumingMemoryBound(to: UInt8.self)
        return try unsafe body(UnsafeMutableBufferPointer(start: start, count: count))
    }

    /// Makes every access a fault.
    func forbid() { unsafe require(sodium_mprotect_noaccess(base)) }

    /// Makes every write a fault.
    func allowReading() { unsafe require(sodium_mprotect_readonly(base)) }

    /// Makes the bytes plain memory again.
    func allowWriting() { unsafe require(sodium_mprotect_readwrite(base)) }

    /// mprotect(2) fails only where the kernel cannot split one more mapping. Going on would leave secrets readable.
    private func require(_ result: Int32) {
        precondition(result == 0, "the protection of guarded memory cannot be changed: too many mappings")
    }
}

/// The library's one-time start.
enum Sodium {
    private static let started: Bool = sodium_init() >= 0

    /// Must have run before anything else of libsodium.
    static func start() {
        precondition(started, "libsodium does not start: no source of random bytes")
    }
}

// What is done to a key in place: 32 bytes, never in plain memory.
extension GuardedMemory {
    func zero() { unsafe sodium_memzero(base, count) }

    var isZero: Bool { unsafe sodium_is_zero(base.assumingMemoryBound(to: UInt8.self), count) == 1 }

    func fillRandomly() { unsafe randombytes_buf(base, count) }

    /// Sets the bits that make 32 bytes a Curve25519 scalar, as the kernel does: see RFC 7748, section 5.
    func clamp() {
        unsafe withMutableBytes { bytes in
            unsafe bytes[0] &= 248
            unsafe bytes[31] = unsafe bytes[31] & 127 | 64
        }
    }

    /// Takes 44 characters of canonical base64; false where they are not.
    func decodeBase64(_ text: Span<UInt8>) -> Bool {
        var length = 0
        let result = unsafe text.withUnsafeBytes { input in
            unsafe sodium_base642bin(
                base.assumingMemoryBound(to: UInt8.self), count, input.assumingMemoryBound(to: CChar.self).baseAddress,
                input.count, nil, &length, nil, sodium_base64_VARIANT_ORIGINAL)
        }
        return result == 0 && length == count
    }

    /// Writes the 44 characters of 32 bytes, and the zero byte after them for which the library wants room.
    func encodeBase64(into text: borrowing GuardedMemory) {
        _ = unsafe sodium_bin2base64(
            text.base.assumingMemoryBound(to: CChar.self), text.count, base.assumingMemoryBound(to: UInt8.self), count,
            sodium_base64_VARIANT_ORIGINAL)
    }
}
