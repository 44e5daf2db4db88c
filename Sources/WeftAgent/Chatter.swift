// Somebody who changes the host a hundred times a second does not fill the log.

/// Counts what is told, and says when it becomes too much.
struct Chatter {
    private var begun: ContinuousClock.Instant?
    private var count = 0

    /// As many are told in one `period`; of the rest their number.
    static let limit = 20
    static let period = Duration.seconds(10)

    /// Whether more is not told.
    var isTooMuch: Bool { count > Self.limit }

    /// Notes one more.
    ///
    /// - Returns: whether it is not to be told.
    mutating func note(at now: ContinuousClock.Instant) -> Bool {
        if begun == nil { begun = now }
        count += 1
        return isTooMuch
    }

    /// Ends a period that is over.
    ///
    /// - Returns: how many were not told in it; nil where all were, or it still lasts.
    mutating func end(at now: ContinuousClock.Instant) -> Int? {
        guard let begun, now - begun >= Self.period else { return nil }
        let untold = count - Self.limit
        self = Self()
        return untold > 0 ? untold : nil
    }
}
