// A digest of contents that are no secret: two that are equal are the same.

internal import CSodium

/// BLAKE2b with 128 bits (RFC 7693), by libsodium.
@safe
package struct ContentDigest: ~Copyable {
    /// libsodium's state, which Swift does not see into: it wants to stand at a multiple of 64.
    private let memory: UnsafeMutableRawPointer
    private var state: OpaquePointer { unsafe OpaquePointer(memory) }
    private static var length: Int { 16 }

    package init() {
        unsafe memory = .allocate(byteCount: crypto_generichash_statebytes(), alignment: 64)
        _ = unsafe crypto_generichash_init(OpaquePointer(memory), nil, 0, Self.length)
    }

    deinit { unsafe memory.deallocate() }

    /// Takes a piece; where it ends takes part in the digest too.
    package mutating func take(_ bytes: [UInt8]) {
        var count = UInt64(bytes.count).littleEndian
        unsafe withUnsafeBytes(of: &count) { unsafe add($0) }
        unsafe bytes.withUnsafeBytes { unsafe add($0) }
    }

    private func add(_ bytes: UnsafeRawBufferPointer) {
        _ = unsafe crypto_generichash_update(
            state, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(bytes.count))
    }

    /// 32 hexadecimal digits.
    package consuming func finish() -> String {
        var digest = [UInt8](repeating: 0, count: Self.length)
        _ = unsafe crypto_generichash_final(state, &digest, digest.count)
        return digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
