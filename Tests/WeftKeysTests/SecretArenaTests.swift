// The arena and the tags: what is found, what is hidden, and what stays unreadable.

import Testing
import WeftKeys
import WeftModel

@Suite struct SecretArenaTests {
    private func secret(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 32) }

    @Test func findsWhatWasInserted() {
        let arena = SecretArena(capacity: 3)
        let tags = (1...3).map { arena.insert(secret($0).span) }
        #expect(Set(tags).count == 3)
        for (index, tag) in tags.enumerated() {
            let copy = arena.withSecret(tag) { span in (0..<span.count).map { span[$0] } }
            #expect(copy == secret(UInt8(index + 1)))
        }
        #expect(arena.withSecret(SecretTagger.tag(secret(9).span)) { _ in true } == nil)
    }

    @Test func equalSecretsShareAPlace() {
        let arena = SecretArena(capacity: 1)
        #expect(arena.insert(secret(1).span) == arena.insert(secret(1).span))
        #expect(arena.count == 1)
    }

    @Test func tagsDependOnEveryByte() {
        let base = SecretTagger.tag(secret(0).span)
        for index in 0..<32 {
            var changed = secret(0)
            changed[index] = 1
            #expect(SecretTagger.tag(changed.span) != base)
        }
        #expect(SecretTagger.tag(secret(0).span) == base)
    }

    @Test func closuresNestAndErrorsPassThrough() throws {
        struct Stop: Error {}
        let arena = SecretArena(capacity: 2)
        let first = arena.insert(secret(1).span)
        let second = arena.insert(secret(2).span)
        let sum = arena.withSecret(first) { one in
            let inner = arena.withSecret(second) { two in one[0] + two[0] }
            // Still readable after the inner closure has ended.
            return (inner ?? 0) + one[31]
        }
        #expect(sum == 4)
        #expect(throws: Stop.self) { try arena.withSecret(first) { _ throws(Stop) in throw Stop() } }
        #expect(arena.withSecret(first) { $0[0] } == 1)
    }

    @Test func printsNothing() {
        let arena = SecretArena(capacity: 1)
        let tag = arena.insert(secret(0x41).span)
        #expect("\(arena)" == "(hidden)")
        #expect(String(reflecting: tag) == "(hidden)")
        var dumped = ""
        dump(arena, to: &dumped)
        #expect(dumped == "- (hidden) #0\n")
    }

    @Test func isUnreadableBetweenUses() async {
        await #expect(processExitsWith: .failure) {
            let arena = SecretArena(capacity: 1)
            let tag = arena.insert([UInt8](repeating: 1, count: 32).span)
            let address = arena.withSecret(tag) { span in
                span.withUnsafeBufferPointer { UInt(bitPattern: $0.baseAddress) }
            }
            guard let address, let pointer = UnsafePointer<UInt8>(bitPattern: address) else { return }
            precondition(pointer.pointee < 255)
        }
    }

    @Test func isReadableInAClosure() async {
        // The control of the test above: the same reading, in time, exits with success.
        await #expect(processExitsWith: .success) {
            let arena = SecretArena(capacity: 1)
            let tag = arena.insert([UInt8](repeating: 1, count: 32).span)
            let value = arena.withSecret(tag) { $0[0] }
            precondition(value == 1)
        }
    }
}
