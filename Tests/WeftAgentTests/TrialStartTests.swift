// Trials and starts of an agent: one goes on after a kill, and a topology that came meanwhile is a change as any other.

import Testing
import WeftModel
import WeftPlan
import WeftTestSupport

@testable import WeftAgent

/// A minute for a person to confirm it.
private let byAPerson = ConfirmSettings(within: .seconds(60), isManual: true)

extension TrialTests {
    /// A change that is on trial until a person confirms it.
    private func awaitingAPerson() throws -> (agent: Agent, seed: Int) {
        let agent = try settled(byAPerson)
        let seed = try neighbour()
        put(seed, agent)
        for _ in 0..<4 { try agent.sleep() }
        return (agent, seed)
    }

    @Test func anAgentThatWasKilledGoesOnWaitingForAHandshake() throws {
        let agent = try settled(settings)
        let seed = try neighbour(rekeying: true)
        agent.answers = { _ in true }
        put(seed, agent)
        for _ in 0..<6 { try agent.sleep() }
        let next = agent.successor(confirm: settings)
        next.answers = { _ in true }
        for _ in 0..<12 { try next.sleep() }
        #expect(next.controller.onTrial == "\(seed)")
        for key in rekeyed(seed).values {
            next.kernel.links["wg0"]?.statistics[key] = PeerStatistics(lastHandshake: next.host.clock)
        }
        for _ in 0..<6 { try next.sleep() }
        #expect(next.controller.onTrial == nil)
        #expect(try next.isAsWanted(seed))
    }

    /// Who answered before the change, and is no echo, is waited for also by who is started after a kill.
    @Test(arguments: [true, false]) func anAgentThatWasKilledStillWaitsForAll(isReached: Bool) throws {
        var settings = ConfirmSettings(within: .seconds(60))
        let port = SocketAddress(IPAddress(v4: 0xCB00_7101), port: 9418)
        settings.measures = [.git, .connection(port), .resolver(IPAddress(v4: 0xCB00_7135))]
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.answers = { _ in true }
        agent.others = { [unowned agent] _ in agent.controller.force?.revision.id == "1" }
        put(seed, agent)
        for _ in 0..<6 { try agent.sleep() }
        #expect(agent.controller.onTrial == "\(seed)" && agent.host.record?.proofs.count == 3)
        // What it was told to measure is not asked of whom it does not know to have answered.
        let next = agent.successor(confirm: settings)
        next.answers = { _ in true }
        next.others = { _ in isReached }
        let start = next.now
        while next.now - start < .seconds(70) { try next.sleep() }
        #expect(try next.isAsWanted(isReached ? seed : 1))
        #expect(next.controller.problem?.summary.contains("no answer from") == (isReached ? nil : true))
    }

    @Test func anAgentThatWasKilledGoesOn() throws {
        let (agent, seed) = try awaitingAPerson()
        let next = agent.successor(confirm: byAPerson)
        try next.settle()
        #expect(next.controller.onTrial == "\(seed)")
        let start = next.now
        while next.now - start < .seconds(70) { try next.sleep() }
        #expect(try next.isAsWanted(1))
        #expect(next.host.record?.isRejected == true)
    }

    @Test func aClockThatWasSetBackMakesNoTrialLonger() throws {
        let (agent, seed) = try awaitingAPerson()
        agent.host.clock.seconds -= 3600
        let next = agent.successor(confirm: byAPerson)
        try next.settle()
        #expect(next.controller.onTrial == "\(seed)")
        let start = next.now
        while next.now - start < .seconds(70) { try next.sleep() }
        #expect(try next.isAsWanted(1))
    }

    @Test func oneThatComesBackTooLateTakesItBack() throws {
        let (agent, seed) = try awaitingAPerson()
        #expect(try agent.isAsWanted(seed))
        agent.host.clock.seconds += 100
        let next = Agent(host: agent.host, confirm: byAPerson)
        try next.settle()
        #expect(try next.isAsWanted(1))
        #expect(next.controller.problem?.summary.contains("it was not confirmed in time") == true)
        #expect(next.host.record?.reason == "it was not confirmed in time" && next.host.record?.isUndone == true)
        #expect(next.said(.revision).contains("topology 1, in force again"))
        // And so does the one after it.
        let third = Agent(host: agent.host, confirm: byAPerson)
        try third.settle()
        #expect(try third.isAsWanted(1))
    }

    /// The folder changed while no agent ran: that is a change as any other.
    @Test func aChangeAtTheStartIsOnTrialToo() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.host.put(seed)
        let next = agent.successor(confirm: byAPerson)
        for _ in 0..<5 { try next.sleep() }
        #expect(next.controller.onTrial == "\(seed)")
        #expect(next.controller.revert(by: "a person"))
        for _ in 0..<3 { try next.sleep() }
        #expect(try next.isAsWanted(1))
    }

    /// Who watched over a trial that apply began was killed: the agent that comes after takes it back.
    @Test func anotherOnesTrialIsTakenBack() throws {
        for hadBefore in [true, false] {
            let agent = try settled(settings)
            let seed = try neighbour()
            put(seed, agent)
            for _ in 0..<5 { try agent.sleep() }
            #expect(try agent.isAsWanted(seed))
            var record = TrialRecord(
                id: "\(seed)", deadline: UnixTime(seconds: agent.host.clock.seconds + 50), wanted: [], isRejected: false
            )
            record.isResumable = false
            agent.host.record = record
            agent.host.keptRevision = hadBefore ? Revision(id: "1", origin: .kept, source: 1) : nil
            let next = agent.successor()
            for _ in 0..<3 { try next.sleep() }
            if hadBefore { #expect(try next.isAsWanted(1)) } else { #expect(next.kernel.links["wg0"] == nil) }
            #expect(agent.host.record?.isRejected == true && agent.host.record?.isUndone == true)
        }
    }

    /// What an earlier trial left must not be gone back to when something else is in force since.
    @Test func aTopologyAfterALeftTrialClosesIt() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.host.record = TrialRecord(
            id: "another", deadline: agent.host.clock, wanted: [], isRejected: false)
        let next = agent.successor()
        agent.host.put(seed)
        for _ in 0..<3 { try next.sleep() }
        #expect(try next.isAsWanted(seed))
        #expect(agent.host.record == nil)
    }

    /// At the start of the machine the network comes after the agent.
    @Test(arguments: [true, false]) func atAStartTheNetworkIsWaitedFor(isGood: Bool) throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.host.put(seed)
        let next = agent.successor(confirm: settings)
        for _ in 0..<20 { try next.sleep() }
        #expect(next.controller.isWaitingForAnswers && next.controller.force?.revision.id == "1")
        #expect(next.said(.confirm).count == 1)
        #expect(
            next.said(.confirm).first?.hasPrefix("nobody answers yet who could prove a change: what was before") == true
        )
        // What was before is healed meanwhile, and an edit does not end the waiting.
        next.kernel.routes.removeAll { $0.isOurs }
        next.controller.noteKernelEvents([])
        put(try neighbour(after: seed), next)
        put(seed, next)
        for _ in 0..<2 { try next.sleep() }
        #expect(try next.isAsWanted(1))
        #expect(next.controller.isMeasuring)
        next.answers = { [unowned next] _ in isGood || next.controller.force?.revision.id == "1" }
        let start = next.now
        while next.now - start < .seconds(75) { try next.sleep() }
        #expect(try next.isAsWanted(isGood ? seed : 1))
        #expect(agent.host.record?.isRejected == (isGood ? nil : true))
    }

    @Test func atAStartTheNetworkIsNotWaitedForWithoutEnd() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.host.put(seed)
        let next = agent.successor(confirm: settings)
        let start = next.now
        while next.now - start < .seconds(118) { try next.sleep() }
        #expect(try next.isAsWanted(1))
        while next.now - start < .seconds(130) { try next.sleep() }
        #expect(try next.isAsWanted(seed))
        #expect(next.controller.verdict == .untried)
    }

    /// Where a person applies a change, the network is there.
    @Test func anApplyWaitsForNoNetwork() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        let next = agent.successor(confirm: settings)
        agent.host.put(seed)
        try next.controller.begin(with: Revision(id: "1", origin: .kept, source: 1), at: next.now)
        let start = next.now
        while next.now - start < .seconds(5) { try next.sleep() }
        #expect(next.controller.verdict == .untried)
        #expect(try next.isAsWanted(seed))
    }

    /// A node goes, and its preshared key with it: what was before is gone back to without that node.
    @Test(arguments: [true, false]) func whoIsGoneWithItsKeyIsNoPartOfWhatWasBefore(isStaying: Bool) throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.host.put(seed)
        let staying = try #require(state(seed).peerNames.values.sorted().first)
        agent.host.lost[1] = [isStaying ? staying : "gone"]
        let next = agent.successor(confirm: settings)
        next.answers = { [unowned next] _ in next.controller.force?.revision.id == "1" }
        for _ in 0..<6 { try next.sleep() }
        #expect(try next.isAsWanted(seed))
        #expect(next.controller.onTrial == (isStaying ? nil : "\(seed)"))
        let warnings = next.said(.confirm).filter { $0.contains("could not be gone back to") }
        #expect(warnings.count == (isStaying ? 1 : 0))
        if isStaying { return }
        // Killed meanwhile, too.
        let third = Agent(host: agent.host, confirm: settings)
        third.now = next.now
        try third.settle()
        #expect(third.controller.onTrial == "\(seed)")
        let start = third.now
        while third.now - start < .seconds(70) { try third.sleep() }
        #expect(try third.isAsWanted(1))
        #expect(third.controller.problem?.summary.contains("was taken back") == true)
        third.controller.reload()
        try third.settle()
        #expect(third.controller.obsolescence == nil)
    }

    /// What was on trial when what was before became impossible stays, and that is said.
    @Test func withoutWhatWasBeforeAChangeStays() throws {
        let (agent, seed) = try awaitingAPerson()
        agent.host.impossible = [1]
        agent.host.clock.seconds += 100
        let next = agent.successor(confirm: settings)
        for _ in 0..<20 { try next.sleep() }
        #expect(next.controller.stage == .converged && next.controller.force?.revision.id == "\(seed)")
        #expect(next.said(.confirm).count == 1 && next.host.record == nil)
    }

    /// Neither what the folder holds can be in force, nor what was kept: each is said once.
    @Test func twoProblemsAreSaidOnce() throws {
        let agent = Agent()
        agent.host.put(1)
        try agent.settle()
        agent.host.impossible = [1]
        agent.host.folder = .broken(AgentProblem("it has errors"))
        let next = Agent(host: agent.host)
        for _ in 0..<20 { try next.sleep() }
        #expect(next.said(.revision).count == 2)
        #expect(next.controller.problem?.summary == "it has errors")
    }

    /// Operations are done with the keys of what they lead to.
    @Test func keysAreThoseOfWhatIsInForce() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.host.put(seed)
        let next = agent.successor(confirm: settings)
        try next.settle()
        #expect(next.controller.isMeasuring && agent.host.used == "1")
        next.answers = { _ in true }
        while next.controller.isMeasuring { try next.sleep() }
        #expect(next.controller.onTrial == "\(seed)" && agent.host.used == "\(seed)")
    }

    /// A change on top of one that goes on after a kill is judged by who answered before both.
    @Test func aChangeOnTopOfOneThatGoesOnIsJudgedWithIt() throws {
        let (agent, seed) = try judging()
        let next = agent.successor(confirm: settings)
        try next.settle()
        #expect(next.controller.onTrial == "\(seed)")
        let second = try neighbour(after: seed)
        put(second, next)
        while next.controller.onTrial != "\(second)" { try next.sleep() }
        #expect(!next.controller.missing.isEmpty)
        let start = next.now
        while next.now - start < .seconds(70) { try next.sleep() }
        #expect(try next.isAsWanted(1))
    }

    /// Put back while no agent ran, and read late: what is on trial stays until then.
    @Test(arguments: [true, false]) func aTrialWaitsForTheFolder(isPutBack: Bool) throws {
        let (agent, seed) = try awaitingAPerson()
        #expect(agent.host.record != nil)
        agent.host.folder = .awaited
        let next = agent.successor(confirm: byAPerson)
        let mutations = agent.kernel.mutations
        for _ in 0..<2 { try next.sleep() }
        #expect(agent.kernel.mutations == mutations)
        put(isPutBack ? 1 : seed, next)
        try next.settle()
        #expect(try next.isAsWanted(isPutBack ? 1 : seed))
        #expect(next.controller.onTrial == (isPutBack ? nil : "\(seed)"))
        #expect((agent.host.record == nil) == isPutBack)
    }

    /// Its time is over while a change on top of it is about to be tried, which is put back.
    @Test func aTrialEndsWhileAnotherIsMeasured() throws {
        let (agent, seed) = try judging()
        let ends = try #require(agent.controller.trialEnds)
        while ends - agent.now > .seconds(3) { try agent.sleep() }
        // The clock by which the record is kept has moved on.
        agent.host.clock.seconds += 100
        agent.host.outside = []
        var waiting = try #require(agent.controller.trial)
        waiting.trial.phase = .measuring(until: agent.now + .seconds(3))
        agent.controller.trial = waiting
        agent.host.put(1)
        agent.controller.wake(.topology)
        try agent.settle()
        put(seed, agent)
        for _ in 0..<4 { try agent.sleep() }
        #expect(try agent.isAsWanted(1))
        #expect(agent.host.record?.isRejected == true)
    }

    /// It was confirmed, and killed before that was written down.
    @Test func whatWasConfirmedStays() throws {
        let (agent, seed) = try awaitingAPerson()
        agent.host.keptRevision = Revision(id: "\(seed)", origin: .kept, source: seed)
        agent.host.clock.seconds += 100
        let next = agent.successor(confirm: settings)
        try next.settle()
        #expect(try next.isAsWanted(seed))
        #expect(agent.host.record == nil && next.controller.problem == nil)
    }

    /// Who expired while no agent ran is no change from outside.
    @Test func whoExpiredMeanwhileGoesThoughDriftIsOnlyReported() throws {
        let agent = Agent(drift: .report)
        agent.host.put(1)
        try agent.settle()
        agent.host.expired = ["somebody": agent.host.clock]
        agent.host.variant = 1500
        let next = Agent(host: agent.host, drift: .report)
        try next.settle()
        #expect(next.kernel.links["wg0"]?.mtu == 1500 && next.controller.stage == .converged)
    }
}
