// Changes that would cut what must not be cut: they are put on trial unasked.

import Testing
import WeftModel
import WeftPlan
import WeftTestSupport

@testable import WeftAgent

extension TrialTests {
    /// A session that the next topology's routes would capture.
    private func session(capturedBy seed: Int) throws -> Guarded {
        let old = state(1).state
        let route = state(seed).state.routes.first { route in
            route.table == Route.mainTable && route.target == .interface
                && !old.routes.contains { $0.table == Route.mainTable && $0.prefix.overlaps(route.prefix) }
        }
        let prefix = try #require(route?.prefix)
        return Guarded(
            .session, SocketAddress(prefix.address, port: 40_022), local: SocketAddress(prefix.address, port: 22),
            beside: Guarded.Way(interface: "eth0", length: 0, table: Route.mainTable))
    }

    /// A topology that captures something, and its seed.
    private func capturing() throws -> (seed: Int, session: Guarded) {
        for seed in 2..<200 {
            if let session = try? session(capturedBy: seed) { return (seed, session) }
        }
        throw AgentProblem("there is none")
    }

    /// An agent that has the first topology in force, a topology that would cut a session, and that session.
    private func guarded(guardsItself: Bool = true) throws -> (agent: Agent, seed: Int, session: Guarded) {
        let agent = Agent(guardsItself: guardsItself)
        agent.host.put(1)
        try agent.settle()
        let (seed, session) = try capturing()
        agent.host.outside = [session]
        return (agent, seed, session)
    }

    @Test func whatWouldCutASessionIsOnTrialUnasked() throws {
        let (agent, seed, session) = try guarded()
        put(seed, agent)
        for _ in 0..<5 { try agent.sleep() }
        #expect(agent.controller.onTrial == "\(seed)")
        #expect(agent.said(.revision).contains { $0.contains("would cut the session from") })
        let start = agent.now
        while agent.now - start < .seconds(70) { try agent.sleep() }
        #expect(try agent.isAsWanted(1))
        #expect(agent.controller.verdict == .takenBack("no answer from the session from \(session.remote.address)"))
    }

    /// By itself the second change cuts nothing more: what the first has cut is asked all the same.
    @Test func aSecondChangeDoesNotKeepTheFirst() throws {
        let (agent, seed, _) = try guarded()
        put(seed, agent)
        for _ in 0..<5 { try agent.sleep() }
        #expect(agent.controller.onTrial == "\(seed)")
        agent.host.outside = []
        put(seed + 1, agent)
        for _ in 0..<5 { try agent.sleep() }
        #expect(agent.controller.onTrial == "\(seed + 1)" && agent.host.record?.id == "\(seed + 1)")
        let start = agent.now
        while agent.now - start < .seconds(70) { try agent.sleep() }
        #expect(try agent.isAsWanted(1))
        #expect(agent.host.keptRevision?.id == "1" && agent.host.record?.isRejected == true)
    }

    @Test func aSessionThatLivesKeepsIt() throws {
        let (agent, seed, _) = try guarded()
        agent.others = { if case .session = $0 { true } else { false } }
        put(seed, agent)
        for _ in 0..<8 { try agent.sleep() }
        #expect(try agent.isAsWanted(seed))
        #expect(agent.controller.onTrial == nil)
        #expect(agent.host.keptRevision?.id == "\(seed)")
    }

    @Test func whoDoesWithoutTheGuardGoesOn() throws {
        let (agent, seed, _) = try guarded(guardsItself: false)
        put(seed, agent)
        for _ in 0..<3 { try agent.sleep() }
        #expect(agent.controller.onTrial == nil)
        #expect(try agent.isAsWanted(seed))
    }

    /// The very first topology of a host: what was before it is nothing.
    @Test func aFirstTopologyThatCutsIsTakenDown() throws {
        let agent = Agent()
        let (seed, session) = try capturing()
        agent.host.outside = [session]
        agent.host.put(seed)
        for _ in 0..<5 { try agent.sleep() }
        #expect(agent.controller.onTrial == "\(seed)")
        #expect(agent.kernel.links["wg0"] != nil)
        let start = agent.now
        while agent.now - start < .seconds(70) { try agent.sleep() }
        #expect(agent.kernel.links["wg0"] == nil)
        #expect(agent.host.record?.isRejected == true)
    }
}
