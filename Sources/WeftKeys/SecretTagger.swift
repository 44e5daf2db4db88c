// Turns a secret into the tag that stands for it in states, diffs and plans.

internal import CSodium
package import WeftModel

/// Makes tags of secrets under a random key that this process alone has.
package enum SecretTagger {
    /// SipHash-1-3 with 128 bits of output. A tag needs a pseudo-random function and nothing more: its key never leaves
    /// this process and no tag leaves it either, so a collision can only happen by chance (2⁻¹²⁸ per pair). SipHash is
    /// one, with fewer rounds where nobody sees the output; and it costs a twentieth of a keyed BLAKE2b, for each of
    /// 10,000 peers in each pass.
    @safe private final class Key: Sendable {
        // Written once before it is shared, and read-only from then on, also to the processor.
        nonisolated(unsafe) private let memory: UnsafeMutableRawPointer

        init() {
            Sodium.start()
            guard let memory = unsafe sodium_malloc(16) else { fatalError("no memory for the key of secret tags") }
            unsafe self.memory = unsafe memory
            unsafe randombytes_buf(memory, 16)
            let result = unsafe sodium_mprotect_readonly(memory)
            precondition(result == 0, "the protection of guarded memory cannot be changed")
        }

        @inline(__always)
        func hash(_ secret: Span<UInt8>) -> SecretTag {
            let key = unsafe (
                memory.loadUnaligned(as: UInt64.self), memory.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
            )
            let bytes = unsafe secret.bytes
            let words = SipHash.hash(key: key, compression: 1, finalization: 3) { index in
                let word = unsafe bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: index &* 8, as: UInt64.self)
                return UInt64(littleEndian: word)
            }
            return SecretTag(words.0, words.1)
        }
    }

    // Never freed: a tag must mean the same until the process ends.
    private static let key = Key()

    /// The tag of a secret of 32 bytes, which is what all keys have.
    package static func tag(_ secret: Span<UInt8>) -> SecretTag {
        precondition(secret.count == SecretArena.secretSize, "a secret has 32 bytes")
        return key.hash(secret)
    }
}
