// What a trial is not lost to, and what does not prolong it.

import Testing
import WeftModel
import WeftPlan
import WeftTestSupport

@testable import WeftAgent

extension TrialTests {
    /// One that gets lost says nothing.
    @Test func whoDoesNotAnswerAtOnceIsAskedAgain() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        put(seed, agent)
        try agent.settle()
        #expect(agent.controller.isMeasuring)
        agent.answers = { [unowned agent] _ in agent.controller.force?.revision.id == "1" }
        while agent.controller.isMeasuring { try agent.sleep() }
        #expect(agent.controller.onTrial == "\(seed)")
    }

    /// Who edits again and again does not put off the end.
    @Test(arguments: [true, false]) func editsDoNotProlongATrialWithoutEnd(isSame: Bool) throws {
        let (agent, seed) = try judging()
        let start = agent.now
        var seconds = 0
        var second = try neighbour(after: seed)
        while !rekeyed(second, since: seed).isEmpty { second = try neighbour(after: second) }
        var seeds = [seed, second]
        while try !agent.isAsWanted(1), seconds < 300 {
            try agent.sleep()
            seconds = Int((agent.now - start).components.seconds)
            seeds.reverse()
            // Other bytes that mean the same, or something else.
            let next = isSame ? seed : seeds[0]
            agent.host.folder = .good(Revision(id: "\(next)#\(seconds)", origin: .folder, source: next))
            agent.controller.wake(.topology)
        }
        #expect(seconds <= (isSame ? 65 : 130))
    }

    /// Where changes from outside are only reported, they take no change back.
    @Test func driftThatIsOnlyReportedTakesNothingBack() throws {
        let agent = Agent(drift: .report, confirm: settings)
        agent.host.put(1)
        try agent.settle()
        revive(agent)
        agent.controller.wake(.pass)
        try agent.settle()
        let seed = try neighbour()
        agent.answers = { [unowned agent] _ in agent.controller.force?.revision.id == "1" }
        put(seed, agent)
        while agent.controller.onTrial == nil { try agent.sleep() }
        try agent.settle()
        agent.kernel.routes.removeAll { $0.isOurs }
        agent.controller.noteKernelEvents([])
        agent.answers = { _ in true }
        for _ in 0..<6 { try agent.sleep() }
        #expect(agent.controller.stage == .drifted && agent.controller.onTrial == nil)
        #expect(agent.host.keptRevision?.id == "\(seed)")
    }

    /// What is gone back to may lack the key of who left.
    @Test func whoLeftWithItsKeyKeepsNothingFromBeingTakenBack() throws {
        let (agent, _) = try judging()
        agent.host.lost[1] = ["gone"]
        let start = agent.now
        while agent.now - start < .seconds(70) { try agent.sleep() }
        #expect(try agent.isAsWanted(1))
        #expect(agent.controller.obsolescence == nil)
    }
}
