// Messages from other threads to the loop's.

import CLinux
import Glibc
import Synchronization

/// A mailbox: any thread posts, the loop's thread drains.
package final class Inbox<Message: Sendable>: Sendable {
    private let bell: Bell
    private let messages = Mutex<[Message]>([])

    package init() throws(LoopError) { bell = try Bell() }

    /// Readable when there are messages.
    package var descriptor: Int32 { bell.descriptor }

    /// Adds a message, from any thread. Those of one thread arrive in their order.
    package func post(_ message: Message) {
        messages.withLock { messages in
            if messages.isEmpty { bell.ring() }
            messages.append(message)
        }
    }

    /// Takes all messages; empty where there are none.
    package func drain() -> [Message] {
        bell.hush()
        return messages.withLock { messages in
            defer { messages = [] }
            return messages
        }
    }
}

/// An eventfd that is readable from the moment it is rung until it is hushed.
private final class Bell: Sendable {
    let descriptor: Int32

    init() throws(LoopError) {
        descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard descriptor >= 0 else { throw LoopError("make an event counter") }
    }

    deinit { close(descriptor) }

    func ring() {
        // A counter that is full is readable already.
        var one: UInt64 = 1
        _ = retryingEINTR { write(descriptor, &one, MemoryLayout<UInt64>.size) }
    }

    func hush() {
        var counter: UInt64 = 0
        _ = retryingEINTR { read(descriptor, &counter, MemoryLayout<UInt64>.size) }
    }
}
