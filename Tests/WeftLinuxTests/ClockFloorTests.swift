// The latest time that was ever seen: what it is after steps, restarts and damage.

import Testing
import WeftModel

@testable import WeftLinux

@Suite struct ClockFloorTests {
    private let temporary = TemporaryFolder()
    private let clock = Clock()

    private final class Clock {
        var now = UnixTime(seconds: 1_800_000_000)
    }

    private var state: StateFolder { StateFolder(path: "\(temporary.path)/state", namespace: "host", bootID: "a") }
    private var file: String { "\(temporary.path)/state/clock.json" }

    private func floor() -> ClockFloor { ClockFloor(state) { [clock] in clock.now } }

    @Test func neverGoesBack() throws {
        let floor = floor()
        #expect(floor.stateProblems.isEmpty)
        let start = floor.now()
        clock.now.seconds += 50
        #expect(floor.now().seconds == start.seconds + 50)
        clock.now.seconds = 7
        #expect(floor.now().seconds == start.seconds + 50)
        clock.now.seconds = start.seconds + 60
        #expect(floor.now().seconds == start.seconds + 60)
    }

    @Test func outlivesTheProcess() throws {
        try floor().save()
        clock.now.seconds = 7
        let other = floor()
        #expect(other.now() == UnixTime(seconds: 1_800_000_000))
        // An earlier time is not written over a later one.
        try other.save()
        #expect(floor().now() == UnixTime(seconds: 1_800_000_000))
        let problem = try #require(other.problem)
        #expect(
            problem.message.contains("the clock says 1970-01-01T00:00:07Z, and has said 2027-01-15T08:00:00Z before"))
        #expect(problem.remedy.contains(file))
    }

    @Test func isWrittenSeldom() throws {
        let floor = floor()
        try floor.save(passing: [])
        let first = contents(of: file)
        #expect(first.contains("2027-01-15T08:00:00Z"))
        let expiry = UnixTime(seconds: clock.now.seconds + 100)
        clock.now.seconds += 99
        try floor.save(passing: [expiry])
        #expect(contents(of: file) == first)
        clock.now.seconds += 1
        try floor.save(passing: [expiry])
        let second = contents(of: file)
        #expect(second.contains("2027-01-15T08:01:40Z"))
        clock.now.seconds += 3599
        try floor.save(passing: [expiry])
        #expect(contents(of: file) == second)
        clock.now.seconds += 1
        try floor.save(passing: [])
        #expect(contents(of: file) != second)
    }

    @Test func aWrongClockIsForgottenWithItsFile() throws {
        let floor = floor()
        let right = clock.now
        clock.now.seconds += 50 * 366 * 86_400
        try floor.save()
        clock.now = right
        #expect(floor.now() > right)
        #expect(floor.problem != nil)
        temporary.remove("state/clock.json")
        floor.reload()
        #expect(floor.now() == right)
        #expect(floor.problem == nil)
    }

    @Test func aSmallStepIsNoProblem() throws {
        let floor = floor()
        _ = floor.now()
        clock.now.seconds -= 86_400
        #expect(floor.problem == nil)
        clock.now.seconds -= 1
        #expect(floor.problem != nil)
    }

    @Test(arguments: [
        "", "garbage", "{\"version\":1,\"latest\":\"soon\"}", "{\"version\":99,\"latest\":\"2099-01-01T00:00:00Z\"}",
    ])
    func damageMeansTheWallClock(text: String) throws {
        try floor().save()
        temporary.write(text, to: "state/clock.json")
        clock.now.seconds -= 1000
        let floor = floor()
        #expect(floor.now() == clock.now)
        let problem = try #require(floor.stateProblems.first)
        #expect(problem.path == file)
        #expect(problem.message.contains("it is not used. How late the clock has been is not known any more: see that"))
        try floor.save()
        #expect(contents(of: file).contains("2027-01-15T07:43:20Z"))
        // What was there is kept, and still told of.
        #expect(floor.stateProblems.map(\.path) == [file + ".corrupt"])
    }
}
