// All secrets of one run in one guarded block, found by their tags.

internal import CSodium
package import WeftModel

/// The private key and the preshared keys of one run: 32 bytes each, in one guarded block, because a block for each
/// of 10,000 would cost two guard pages and three mappings per key. Unreadable except while a closure below runs.
package final class SecretArena: CustomStringConvertible, CustomReflectable {
    /// Bytes in a secret.
    package static let secretSize = 32

    private let memory: GuardedMemory
    private var slots: [SecretTag: Int] = [:]
    private let capacity: Int
    // How many closures are running: the first one opens the block, the last one closes it.
    private var readers = 0

    /// An arena for as many secrets; equal ones take one place.
    package init(capacity: Int) {
        self.capacity = capacity
        memory = GuardedMemory(count: capacity * Self.secretSize)
        memory.forbid()
    }

    /// How many different secrets it holds.
    package var count: Int { slots.count }

    package func contains(_ tag: SecretTag) -> Bool { slots[tag] != nil }

    /// Lends the 32 bytes of the secret with this tag; nil where the arena does not hold it. The bytes are readable
    /// only while the closure runs, and must not be copied anywhere that is not zeroed afterwards.
    package func withSecret<Result, Failure: Error>(
        _ tag: SecretTag, _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result? {
        guard let slot = slots[tag] else { return nil }
        return try whileReadable { () throws(Failure) -> Result in
            try memory.withBytes(slot * Self.secretSize..<(slot + 1) * Self.secretSize, body)
        }
    }

    /// Keeps the arena readable for as long as the closure runs, so that looking up many secrets changes the
    /// protection once.
    package func whileReadable<Result, Failure: Error>(
        _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        if readers == 0 { memory.allowReading() }
        readers += 1
        defer {
            readers -= 1
            if readers == 0 { memory.forbid() }
        }
        return try body()
    }

    /// Copies a secret in, and says its tag. More than the capacity is a mistake of the caller's.
    @discardableResult
    package func insert(_ secret: Span<UInt8>) -> SecretTag {
        precondition(secret.count == Self.secretSize, "a secret has 32 bytes")
        let tag = SecretTagger.tag(secret)
        if slots[tag] != nil { return tag }
        precondition(readers == 0 && slots.count < capacity, "no place in the arena")
        let slot = slots.count
        memory.allowWriting()
        unsafe memory.withMutableBytes { bytes in
            for index in 0..<Self.secretSize { unsafe bytes[slot * Self.secretSize + index] = secret[index] }
        }
        memory.forbid()
        slots[tag] = slot
        return tag
    }

    package var description: String { "(hidden)" }
    package var customMirror: Mirror { Mirror(self, children: [:]) }
}
