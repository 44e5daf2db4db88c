// The latest time that this machine's clock has shown: a clock that falls back brings no expired node back.

internal import Netlink
package import WeftModel
package import WeftPlan

/// What `expires` is measured against: the wall clock, or where that has fallen back, the latest that it ever showed.
///
/// A machine without a battery begins in 1970 after each start, and a time server may be wrong for a while. What was seen
/// is kept in the state folder, for the whole machine; losing it only means that the wall clock is believed again.
package final class ClockFloor {
    private let state: StateFolder
    private let wall: () -> UnixTime
    private var latest: UnixTime
    /// What the file says.
    private var written: UnixTime?

    /// How much later it must be before it is written again.
    static let grain: Int64 = 3600
    /// How far the clock may be behind before a person must know: time servers and time zones are often wrong by less.
    static let tolerance: Int64 = 86_400

    /// - Parameter wall: reads the wall clock.
    package init(_ state: StateFolder, wall: @escaping () -> UnixTime) {
        self.state = state
        self.wall = wall
        latest = wall()
        reload()
    }

    /// The file, which a person removes to have the wall clock believed again.
    package var path: String { state.clockPath }

    /// What of its file could not be used.
    package var stateProblems: [StateProblem] { state.problems }

    /// Forgets what is not in the file.
    package func reload() {
        // Who may not read it, or finds it damaged, has the wall clock.
        written = try? state.latestClock()
        latest = max(wall(), written ?? wall())
    }

    /// Never earlier than it was before.
    package func now() -> UnixTime {
        latest = max(latest, wall())
        return latest
    }

    /// Writes it down where that matters: for the first time, after an hour, and when something has expired since.
    ///
    /// - Parameter expiries: the times at which nodes expire.
    package func save(passing expiries: some Sequence<UnixTime>) throws(DataplaneError) {
        let now = now()
        if let written {
            let isLate = now.seconds - written.seconds >= Self.grain
            guard isLate || expiries.contains(where: { written < $0 && $0 <= now }) else { return }
        }
        try save()
    }

    /// Writes it down.
    package func save() throws(DataplaneError) {
        let now = UnixTime(seconds: now().seconds)
        if now == written { return }
        try state.store(latestClock: now)
        written = now
    }

    /// What a person must know and do; nil where the clock is as late as it ever was, or nearly.
    package var problem: (message: String, remedy: String)? {
        let (wall, latest) = (wall(), now())
        guard latest.seconds - wall.seconds > Self.tolerance else { return nil }
        return (
            "the clock says \(wall), and has said \(latest) before: what had expired by then stays expired",
            "set the clock; if it was the later time that was wrong, remove \(path), and where an agent runs, "
                + "`weft agent reload`"
        )
    }
}

/// What is remembered of the clock, for all network namespaces.
struct ClockRecord: StateRecord {
    static let currentVersion = 1
    static var empty: Self { Self() }

    var version = Self.currentVersion
    /// RFC 3339, UTC; empty: none was seen.
    var latest = ""

    /// What a person must know where it is lost.
    static let loss =
        ". How late the clock has been is not known any more: see that it is right (`date`); where it is behind, nodes that "
        + "had expired come back"

    private enum CodingKeys: CodingKey { case version, latest }

    init() {}

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        version = try values.decode(Int.self, forKey: .version)
        latest = try values.decode(String.self, forKey: .latest)
        guard latest.isEmpty || UnixTime(rfc3339: latest) != nil else {
            throw DecodingError.dataCorruptedError(forKey: .latest, in: values, debugDescription: "`latest` is no time")
        }
    }
}

extension StateFolder {
    var clockPath: String { "\(root)/clock.json" }

    func latestClock() throws(DataplaneError) -> UnixTime? {
        UnixTime(rfc3339: try read(ClockRecord.self, clockPath).latest)
    }

    /// An earlier time than the one that is there changes nothing: another process may have seen more.
    func store(latestClock time: UnixTime) throws(DataplaneError) {
        try update(ClockRecord.self, clockPath) { record in
            if let old = UnixTime(rfc3339: record.latest), old >= time { return }
            record.latest = time.description
        }
    }
}
