// Keeps the agent from fighting: what has to be done again and again is done less and less often.

package import WeftPlan

/// Remembers which operations were done lately, and says how long to wait before doing them once more (rules 4 and 6 of
/// reconciling). A plan in which anything is new goes at once: one quarrel must not keep other things broken.
package struct DriftGuard: Sendable {
    private struct Record {
        /// In a row, each soon after the one before.
        var count: Int
        var last: ContinuousClock.Instant
        var until: ContinuousClock.Instant
    }

    /// By the hash of the operation: thousands of operations are long, and two of one hash in 2⁶⁴ would only wait.
    private var records: [Int: Record] = [:]
    /// When whole plans were let go, the last ones.
    private var recent: [ContinuousClock.Instant] = []

    /// As many times in a row an operation is repeated at once.
    package static let patience = 3
    /// The longest wait.
    package static let longest = Duration.seconds(60)
    /// After so long without it, an operation is new again.
    static let memory = Duration.seconds(150)
    /// A writer that changes something else each time is met with at most so many repairs in ten seconds.
    package static let burst = 40

    package init() {}

    /// How long to wait before these are done; zero: now.
    package func wait(for operations: [Operation], at now: ContinuousClock.Instant) -> Duration {
        var wait = Duration.zero
        if recent.count >= Self.burst, let oldest = recent.first {
            wait = max(.zero, oldest + .seconds(10) - now)
        }
        var shortest: Duration?
        for operation in operations {
            guard let record = records[operation.hashValue], record.until > now else {
                shortest = .zero
                break
            }
            shortest = min(shortest ?? .seconds(3600), record.until - now)
        }
        return max(wait, shortest ?? .zero)
    }

    /// Notes that they were done, or tried.
    ///
    /// - Parameter failures: those that failed: they are not repeated at once even the first time.
    package mutating func note(
        _ operations: [Operation], failures: Set<Operation> = [], at now: ContinuousClock.Instant
    ) {
        recent.append(now)
        recent.removeFirst(max(0, recent.count - Self.burst))
        if records.count > 1000 { records = records.filter { now - $0.value.last < Self.memory } }
        // Of a plan of thousands, some thousands may fight; what is forgotten is only done once more.
        guard records.count + operations.count <= 20_000 else { return }
        for operation in operations {
            let key = operation.hashValue
            let old = records[key].flatMap { now - $0.last < Self.memory ? $0 : nil }
            let count = (old?.count ?? 0) + 1
            let steps = failures.contains(operation) ? count - 1 : count - Self.patience - 1
            let wait: Duration = steps < 0 ? .zero : min(Self.longest, .seconds(1) * (1 << min(steps, 6)))
            records[key] = Record(count: count, last: now, until: now + wait)
        }
    }

    /// Gives back the memory of what was done long ago.
    package mutating func forgetOld(at now: ContinuousClock.Instant) {
        if let last = recent.last, now - last > Self.memory { reset() }
    }

    /// Forgets all: something new is wanted.
    package mutating func reset() {
        records = [:]
        recent = []
    }
}
