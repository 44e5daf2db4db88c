// What an agent does about the wall clock: it writes down how late it was, and says when it has fallen back.

internal import WeftAgent
internal import WeftLinux
internal import WeftPlan

/// Looks at the clock whenever the agent is awake anyway.
struct ClockKeeper {
    let calendar: ClockFloor
    private var wasBehind = false
    /// Why the latest time could not be written down.
    private var failure: String?
    private var nextTry = ContinuousClock.now

    init(_ calendar: ClockFloor) { self.calendar = calendar }

    /// What a person must know; nil: all is well.
    var problem: String? { calendar.problem.map { "\($0.message); \($0.remedy)" } ?? failure }

    /// - Parameter isMoment: whether the time must be written down now: something has expired, or the agent ends.
    /// - Returns: what there is to say.
    mutating func look(isMoment: Bool = false, at now: ContinuousClock.Instant = .now) -> [AgentEvent] {
        var events: [AgentEvent] = []
        let problem = calendar.problem
        if let problem, !wasBehind {
            events.append(
                AgentEvent(.warning, .clock, interface: nil, "\(problem.message); \(problem.remedy)"))
        } else if problem == nil, wasBehind {
            events.append(AgentEvent(.notice, .clock, interface: nil, "the clock is as late as it was before"))
        }
        wasBehind = problem != nil
        guard isMoment || now >= nextTry else { return events }
        do throws(DataplaneError) {
            if isMoment { try calendar.save() } else { try calendar.save(passing: []) }
            failure = nil
        } catch {
            if failure == nil {
                events.append(
                    AgentEvent(
                        .warning, .clock, interface: nil,
                        "\(error.description). Until it can be written, a restart with a wrong clock may bring expired nodes back"
                    ))
            }
            failure = error.description
        }
        nextTry = now + .seconds(30)
        return events
    }
}
