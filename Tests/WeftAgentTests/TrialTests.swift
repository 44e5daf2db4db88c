// Changes on trial: what proves them, and what takes them back.

import Testing
import WeftModel
import WeftPlan
import WeftTestSupport

@testable import WeftAgent

@Suite struct TrialTests {
    private let settings = ConfirmSettings(within: .seconds(60))

    /// An agent with topology 1 in force and confirmed, whose peers are up.
    private func settled(_ settings: ConfirmSettings) throws -> Agent {
        let agent = Agent(confirm: settings)
        agent.host.put(1)
        try agent.settle()
        revive(agent)
        agent.controller.wake(.pass)
        try agent.settle()
        agent.forget()
        return agent
    }

    /// Every peer has just had a handshake.
    private func revive(_ agent: Agent) {
        agent.kernel.now = agent.host.clock
        for peer in agent.kernel.links["wg0"]?.peers ?? [] {
            agent.kernel.links["wg0"]?.statistics[peer.publicKey] = PeerStatistics(lastHandshake: agent.host.clock)
        }
    }

    private func put(_ seed: Int, _ agent: Agent) {
        agent.host.put(seed)
        agent.controller.wake(.topology)
    }

    /// The seed of a topology that differs from the first, and shares a peer that can be asked in both.
    private func neighbour(after seed: Int = 1) throws -> Int {
        let host = FakeHost()
        func addresses(_ seed: Int) -> [String: IPAddress] {
            var found: [String: IPAddress] = [:]
            for name in state(seed).peerNames.values {
                found[name] = host.address(ofNode: name, in: Revision(id: "", origin: .folder, source: seed))
            }
            return found
        }
        let first = addresses(1)
        return try #require(
            (seed + 1..<seed + 200).first { seed in addresses(seed).keys.contains { first[$0] != nil } })
    }

    @Test func theFirstTopologyIsNotOnTrial() throws {
        let agent = try settled(settings)
        #expect(agent.controller.onTrial == nil)
        #expect(try agent.isAsWanted(1))
    }

    @Test func whoAnsweredBeforeMustAnswerAfterwards() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.answers = { _ in true }
        put(seed, agent)
        for _ in 0..<8 { try agent.sleep() }
        #expect(try agent.isAsWanted(seed))
        #expect(agent.controller.onTrial == nil)
        #expect(agent.said(.confirm).last?.hasPrefix("topology \(seed) is confirmed") == true)
        #expect(agent.host.keptRevision?.id == "\(seed)")
        #expect(agent.host.record == nil)
    }

    @Test func silenceTakesAChangeBack() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        // They answer until the change is in force.
        agent.answers = { [unowned agent] _ in agent.controller.force?.revision.id == "1" }
        put(seed, agent)
        for _ in 0..<5 { try agent.sleep() }
        #expect(try agent.isAsWanted(seed))
        #expect(agent.controller.onTrial == "\(seed)")
        #expect(agent.host.keptRevision?.id == "1")
        let start = agent.now
        while agent.now - start < .seconds(70) { try agent.sleep() }
        #expect(try agent.isAsWanted(1))
        #expect(agent.said(.confirm).last?.hasPrefix("topology \(seed) was taken back: no answer from") == true)
        #expect(agent.host.record?.isRejected == true)

        // It is not tried again until it changes.
        agent.answers = { _ in true }
        let mutations = agent.kernel.mutations
        agent.controller.wake(.topology)
        agent.controller.reload()
        for _ in 0..<5 { try agent.sleep() }
        #expect(agent.kernel.mutations == mutations)
        #expect(agent.controller.problem?.summary.contains("was taken back") == true)
    }

    @Test func namedAddressesMustAnswer() throws {
        let named = IPAddress(v4: 0xC633_6401)
        let agent = try settled(ConfirmSettings(within: .seconds(60), addresses: [named]))
        let seed = try neighbour()
        agent.answers = { $0 != named }
        put(seed, agent)
        let start = agent.now
        while agent.now - start < .seconds(70) { try agent.sleep() }
        #expect(try agent.isAsWanted(1))
        #expect(agent.said(.confirm).last?.contains("198.51.100.1") == true)
    }

    /// A change that has cut everybody off, and one more on top of it: the second is judged by who answered before the first.
    @Test func aSecondChangeIsNoWayAroundATrial() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.answers = { [unowned agent] _ in agent.controller.force?.revision.id == "1" }
        put(seed, agent)
        for _ in 0..<5 { try agent.sleep() }
        #expect(agent.controller.onTrial == "\(seed)")
        let other = try neighbour(after: seed)
        put(other, agent)
        for _ in 0..<5 { try agent.sleep() }
        let start = agent.now
        while agent.now - start < .seconds(80) { try agent.sleep() }
        #expect(agent.controller.force?.revision.id == "1")
        #expect(try agent.isAsWanted(1))
        #expect(agent.host.keptRevision?.id == "1")
    }

    @Test func aPersonConfirms() throws {
        let agent = try settled(ConfirmSettings(within: .seconds(60), isManual: true))
        let seed = try neighbour()
        agent.answers = { _ in true }
        #expect(!agent.controller.confirm(by: "nobody"))
        put(seed, agent)
        for _ in 0..<8 { try agent.sleep() }
        #expect(agent.controller.onTrial == "\(seed)")
        #expect(agent.controller.confirm(by: "a person"))
        let start = agent.now
        while agent.now - start < .seconds(100) { try agent.sleep() }
        #expect(try agent.isAsWanted(seed))
    }

    @Test func aPersonTakesBack() throws {
        let agent = try settled(ConfirmSettings(within: .seconds(60), isManual: true))
        let seed = try neighbour()
        put(seed, agent)
        for _ in 0..<4 { try agent.sleep() }
        #expect(agent.controller.revert())
        try agent.settle()
        #expect(try agent.isAsWanted(1))
    }

    @Test func theOldTopologyPutBackEndsTheTrial() throws {
        let agent = try settled(ConfirmSettings(within: .seconds(60), isManual: true))
        put(try neighbour(), agent)
        for _ in 0..<4 { try agent.sleep() }
        put(1, agent)
        for _ in 0..<4 { try agent.sleep() }
        #expect(agent.controller.onTrial == nil)
        #expect(try agent.isAsWanted(1))
        #expect(agent.host.record == nil)
        let start = agent.now
        while agent.now - start < .seconds(100) { try agent.sleep() }
        #expect(try agent.isAsWanted(1))
        #expect(agent.controller.problem == nil)
    }

    @Test func anAgentThatWasKilledGoesOn() throws {
        let agent = try settled(ConfirmSettings(within: .seconds(60), isManual: true))
        let seed = try neighbour()
        put(seed, agent)
        for _ in 0..<4 { try agent.sleep() }
        let next = Agent(host: agent.host, confirm: ConfirmSettings(within: .seconds(60), isManual: true))
        next.now = agent.now
        try next.settle()
        #expect(next.controller.onTrial == "\(seed)")
        let start = next.now
        while next.now - start < .seconds(70) { try next.sleep() }
        #expect(try next.isAsWanted(1))
        #expect(next.host.record?.isRejected == true)
    }

    @Test func oneThatComesBackTooLateTakesItBack() throws {
        let agent = try settled(ConfirmSettings(within: .seconds(60), isManual: true))
        let seed = try neighbour()
        put(seed, agent)
        for _ in 0..<4 { try agent.sleep() }
        #expect(try agent.isAsWanted(seed))
        agent.host.clock.seconds += 100
        let next = Agent(host: agent.host, confirm: ConfirmSettings(within: .seconds(60), isManual: true))
        try next.settle()
        #expect(try next.isAsWanted(1))
        #expect(next.controller.problem?.summary.contains("was not confirmed in time") == true)
        // And so does the one after it.
        let third = Agent(host: agent.host, confirm: ConfirmSettings(within: .seconds(60), isManual: true))
        try third.settle()
        #expect(try third.isAsWanted(1))
    }

    @Test func whatCannotBeTakenBackIsNotMade() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.answers = { _ in true }
        agent.host.recordFailure = AgentProblem("cannot write: no space left on device")
        put(seed, agent)
        for _ in 0..<5 { try agent.sleep() }
        #expect(try agent.isAsWanted(1))
        #expect(agent.controller.problem?.summary.contains("no space left") == true)
    }
}
