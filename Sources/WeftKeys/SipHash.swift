// SipHash for inputs of 32 bytes, with 128 bits of output: for tags of keys, which all have that length.

/// SipHash's state (Aumasson and Bernstein, "SipHash: a fast short-input PRF"), for exactly four words. Branch-free and
/// without a table, so that neither the cache nor time tells anything of the input.
struct SipHash {
    private var v0: UInt64
    private var v1: UInt64
    private var v2: UInt64
    private var v3: UInt64

    @inline(__always)
    private init(_ key: (UInt64, UInt64)) {
        v0 = key.0 ^ 0x736F_6D65_7073_6575
        // 0xEE, here and at the end, is how the form with 128 bits differs from the one with 64.
        v1 = key.1 ^ 0x646F_7261_6E64_6F6D ^ 0xEE
        v2 = key.0 ^ 0x6C79_6765_6E65_7261
        v3 = key.1 ^ 0x7465_6462_7974_6573
    }

    /// - Parameters:
    ///   - word: gives the input's words of 64 bits, little-endian, by index 0…3.
    ///   - compression: rounds for each word: the c of SipHash-c-d.
    ///   - finalization: rounds before each half of the output: the d of it.
    @inline(__always)
    static func hash(
        key: (UInt64, UInt64), compression: Int, finalization: Int, _ word: (Int) -> UInt64
    ) -> (UInt64, UInt64) {
        var state = SipHash(key)
        for index in 0..<4 { state.absorb(word(index), compression) }
        // The last word holds what does not fill one, which is nothing, and in its top byte the input's length.
        state.absorb(32 << 56, compression)
        state.v2 ^= 0xEE
        let first = state.squeeze(finalization)
        state.v1 ^= 0xDD
        return (first, state.squeeze(finalization))
    }

    @inline(__always)
    private mutating func absorb(_ word: UInt64, _ rounds: Int) {
        v3 ^= word
        for _ in 0..<rounds { round() }
        v0 ^= word
    }

    @inline(__always)
    private mutating func squeeze(_ rounds: Int) -> UInt64 {
        for _ in 0..<rounds { round() }
        return v0 ^ v1 ^ v2 ^ v3
    }

    @inline(__always)
    private mutating func round() {
        v0 &+= v1
        v1 = Self.rotate(v1, 13) ^ v0
        v0 = Self.rotate(v0, 32)
        v2 &+= v3
        v3 = Self.rotate(v3, 16) ^ v2
        v0 &+= v3
        v3 = Self.rotate(v3, 21) ^ v0
        v2 &+= v1
        v1 = Self.rotate(v1, 17) ^ v2
        v2 = Self.rotate(v2, 32)
    }

    @inline(__always)
    private static func rotate(_ value: UInt64, _ count: UInt64) -> UInt64 {
        value &<< count | value &>> (64 &- count)
    }
}
