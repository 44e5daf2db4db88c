// Turns a secret into the tag that stands for it in states, diffs and plans.

internal import CSodium
package import WeftModel

/// Makes tags of secrets under a random key that this process alone has.
package enum SecretTagger {
    /// SipHash-2-4 with 128 bits of output. A tag needs a pseudo-random function and nothing more: its key never leaves
    /// this process and no tag leaves it either, so a collision can only happen by chance (2⁻¹²⁸ per pair). SipHash is
    /// one, and costs a tenth of a keyed BLAKE2b, for each of 10,000 peers in each pass.
    @safe private final class Key: Sendable {
        // Written once before it is shared, and read-only from then on, also to the processor.
        nonisolated(unsafe) private let memory: UnsafeMutableRawPointer

        init() {
            Sodium.start()
            guard let memory = unsafe sodium_malloc(Int(crypto_shorthash_siphashx24_KEYBYTES)) else {
                fatalError("no memory for the key of secret tags")
            }
            unsafe self.memory = unsafe memory
            unsafe randombytes_buf(memory, Int(crypto_shorthash_siphashx24_KEYBYTES))
            let result = unsafe sodium_mprotect_readonly(memory)
            precondition(result == 0, "the protection of guarded memory cannot be changed")
        }

        func hash(_ secret: Span<UInt8>) -> SecretTag {
            var words: (UInt64, UInt64) = (0, 0)
            unsafe secret.withUnsafeBufferPointer { input in
                unsafe withUnsafeMutablePointer(to: &words) { words in
                    unsafe words.withMemoryRebound(to: UInt8.self, capacity: 16) { output in
                        _ = unsafe crypto_shorthash_siphashx24(
                            output, input.baseAddress, UInt64(input.count), memory.assumingMemoryBound(to: UInt8.self))
                    }
                }
            }
            return SecretTag(words.0, words.1)
        }
    }

    // Never freed: a tag must mean the same until the process ends.
    private static let key = Key()

    /// The tag of a secret, of any length.
    package static func tag(_ secret: Span<UInt8>) -> SecretTag { key.hash(secret) }
}
