// Work that may wait, on a thread of its own.

import Glibc

/// Starts threads for what would keep the loop waiting: the resolver, git. They tell what came of it through an `Inbox`.
package enum Worker {
    private final class Job: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// Runs `body` on a thread that nobody waits for. Where no thread can be made, it runs here and now.
    package static func start(_ body: @escaping @Sendable () -> Void) {
        let job = Unmanaged.passRetained(Job(body))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                Unmanaged<Job>.fromOpaque(context).takeRetainedValue().body()
                return nil
            }, job.toOpaque())
        if code == 0 {
            pthread_detach(thread)
        } else {
            job.takeRetainedValue().body()
        }
    }
}
