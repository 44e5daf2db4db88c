// A mesh under an agent's care, on the model kernel: what it takes into force, what it repairs, and when it waits.

import Testing
import WeftModel
import WeftPlan
import WeftTestSupport

@testable import WeftAgent

@Suite struct MeshControllerTests {
    @Test func appliesWhatIsThere() throws {
        let agent = Agent()
        agent.host.put(1)
        try agent.settle()
        #expect(agent.controller.stage == .converged)
        #expect(try agent.isAsWanted(1))
        #expect(agent.said(.revision) == ["topology 1, in force"])
        let mutations = agent.kernel.mutations
        try agent.sleep()
        try agent.sleep()
        #expect(agent.kernel.mutations == mutations)
        #expect(agent.controller.figures.passes > 2)
    }

    @Test func aNewTopologyReplacesTheOld() throws {
        let agent = Agent()
        for seed in 1...4 {
            agent.host.put(seed)
            agent.controller.wake(.topology)
            try agent.settle()
            #expect(try agent.isAsWanted(seed))
        }
        #expect(agent.host.keptRevision?.id == "4")
    }

    @Test func aBrokenOneChangesNothing() throws {
        let agent = Agent()
        agent.host.put(1)
        try agent.settle()
        let mutations = agent.kernel.mutations
        agent.host.folder = .broken(AgentProblem("nodes.yaml:3:1: no such field"))
        agent.controller.wake(.topology)
        try agent.settle()
        #expect(agent.kernel.mutations == mutations)
        #expect(agent.controller.problem?.summary == "nodes.yaml:3:1: no such field")
        #expect(agent.said(.revision).last == "nodes.yaml:3:1: no such field; 1 stays in force")
        // And drift is repaired as before.
        agent.kernel.routes = []
        agent.controller.wake(.pass)
        try agent.settle()
        #expect(try agent.isAsWanted(1))
        agent.host.put(1)
        agent.controller.wake(.topology)
        try agent.settle()
        #expect(agent.controller.problem == nil)
    }

    @Test func whatIsYetToComeIsNoProblem() throws {
        let agent = Agent()
        agent.host.folder = .awaited
        try agent.settle()
        #expect(agent.controller.stage == .waiting && agent.controller.problem == nil)
        #expect(agent.said(.revision) == [])
        #expect(!agent.controller.isFolderInForce)
        agent.host.put(1)
        agent.controller.wake(.topology)
        #expect(agent.controller.isBusy)
        try agent.settle()
        #expect(agent.controller.isFolderInForce && !agent.controller.isBusy)
        agent.host.folder = .broken(AgentProblem("nodes.yaml:3:1: no such field"))
        agent.controller.wake(.topology)
        try agent.settle()
        #expect(!agent.controller.isFolderInForce)
    }

    @Test func driftIsRepairedBeforeAnythingIsCompiledAnew() throws {
        let agent = Agent()
        agent.host.put(1)
        try agent.settle()
        let compiled = agent.host.compiled
        agent.kernel.routes = []
        agent.controller.wake([.compile, .pass])
        let mutations = agent.kernel.mutations
        for _ in 0..<10 where agent.kernel.mutations == mutations { _ = agent.controller.step(at: agent.now) }
        #expect(agent.kernel.mutations > mutations)
        #expect(agent.host.compiled == compiled)
        try agent.settle()
        #expect(agent.host.compiled == compiled + 1)
        #expect(try agent.isAsWanted(1))
    }

    @Test func aStormOfChangesDoesNotKeepItFromCompiling() throws {
        let agent = Agent()
        agent.host.put(1)
        try agent.settle()
        let compiled = agent.host.compiled
        agent.controller.wake(.compile)
        for _ in 0..<3 {
            agent.controller.wake(.pass)
            _ = agent.controller.step(at: agent.now)
        }
        #expect(agent.host.compiled == compiled + 1)
    }

    @Test func aBrokenOneIsSaidOnce() throws {
        let agent = Agent()
        agent.host.put(1)
        try agent.settle()
        agent.forget()
        agent.host.folder = .broken(AgentProblem("broken"))
        for _ in 0..<5 {
            agent.controller.wake(.topology)
            try agent.settle()
        }
        #expect(agent.said(.revision).count == 1)
    }

    @Test func startsWithWhatWasKept() throws {
        let agent = Agent()
        agent.host.keptRevision = Revision(id: "7", origin: .kept, source: 7)
        try agent.settle()
        #expect(try agent.isAsWanted(7))
        #expect(agent.controller.force?.revision.origin == .kept)
        #expect(agent.controller.problem != nil)
    }

    @Test func withoutAnyItWaits() throws {
        let agent = Agent()
        try agent.settle()
        #expect(agent.controller.stage == .waiting)
        #expect(agent.kernel.mutations == 0)
        agent.host.put(2)
        agent.controller.wake(.topology)
        try agent.settle()
        #expect(try agent.isAsWanted(2))
    }

    @Test func whatThisHostCannotBeIsRefused() throws {
        let agent = Agent()
        agent.host.put(1)
        try agent.settle()
        agent.host.impossible = [2]
        agent.host.put(2)
        agent.controller.wake(.topology)
        try agent.settle()
        #expect(try agent.isAsWanted(1))
        #expect(agent.controller.problem?.summary == "this host cannot be 2")
        #expect(agent.host.keptRevision?.id == "1")
    }

    @Test func whatWasMissingElsewhereIsFound() throws {
        let agent = Agent()
        agent.host.impossible = [1]
        agent.host.put(1)
        try agent.settle()
        #expect(agent.controller.force == nil)
        agent.host.impossible = []
        try agent.sleep()
        try agent.settle()
        #expect(try agent.isAsWanted(1))
        #expect(agent.controller.problem == nil)
        // What is in force can no longer be, and then it can again.
        agent.host.impossible = [1]
        agent.controller.wake(.compile)
        try agent.settle()
        #expect(agent.controller.problem?.summary == "this host cannot be 1")
        agent.host.impossible = []
        try agent.sleep()
        try agent.settle()
        #expect(agent.controller.problem == nil)
        #expect(agent.said(.revision).count == 3)
    }

    @Test func anotherInterfaceIsRefused() throws {
        let agent = Agent()
        agent.host.put(1)
        try agent.settle()
        agent.host.other = MeshIdentity(mesh: "corp", interface: "wg7")
        agent.host.put(2)
        agent.controller.wake(.topology)
        try agent.settle()
        #expect(agent.controller.force?.mesh.interface == "wg0")
        #expect(agent.controller.problem?.summary.contains("wg7") == true)
    }

    @Test func aSecondAgentIsTold() throws {
        let agent = Agent()
        agent.host.put(1)
        agent.host.lockFailure = AgentProblem("an agent (process 7) is in charge", isFatal: true)
        try agent.settle()
        #expect(agent.controller.force == nil)
        #expect(agent.controller.problem?.isFatal == true)
        #expect(agent.kernel.mutations == 0)
    }

    @Test func driftIsSaidAndRepaired() throws {
        let agent = Agent()
        agent.host.put(3)
        try agent.settle()
        agent.forget()
        agent.kernel.routes.removeAll { $0.isOurs }
        agent.controller.noteKernelEvents(["by ip (process 4711)"])
        try agent.settle()
        #expect(try agent.isAsWanted(3))
        let drift = try #require(agent.said(.drift).first)
        #expect(drift.hasPrefix("changed from outside: + route"))
        #expect(drift.hasSuffix("(by ip (process 4711))"))
        #expect(agent.said(.apply).first?.hasPrefix("repaired + route") == true)
        #expect(agent.controller.figures.repairs == 1)
    }

    /// A change in the midst of a pass is seen before anybody has read the notice of it.
    @Test func driftIsSaidWithWhatTheKernelHasToldByThen() throws {
        let agent = Agent()
        agent.host.put(3)
        try agent.settle()
        agent.forget()
        agent.kernel.routes.removeAll { $0.isOurs }
        var untold = ["by ip (process 4711)"]
        agent.host.onHearing = { [unowned agent] in
            agent.controller.noteKernelEvents(untold)
            untold = []
        }
        agent.controller.wake(.pass)
        try agent.settle()
        #expect(try agent.isAsWanted(3))
        #expect(agent.said(.drift).first?.hasSuffix("(by ip (process 4711))") == true)
        #expect(agent.said(.drift).count == 1)
    }

    @Test func driftIsOnlyReportedWhereThatIsWanted() throws {
        let agent = Agent(drift: .report)
        agent.host.put(3)
        try agent.settle()
        #expect(try agent.isAsWanted(3))
        agent.kernel.routes.removeAll { $0.isOurs }
        let mutations = agent.kernel.mutations
        for _ in 0..<4 {
            agent.controller.wake(.pass)
            try agent.settle()
        }
        #expect(agent.controller.stage == .drifted)
        #expect(agent.said(.drift).count == 1)
        #expect(agent.kernel.mutations == mutations)
        // Something else is wanted, as where a name has another answer: the rest stays as it is.
        let gone = Set(state(3).state.routes.map(\.key))
        agent.host.variant = 1500
        agent.controller.wake(.compile)
        for _ in 0..<4 { try agent.settle() }
        #expect(agent.kernel.links["wg0"]?.mtu == 1500 && agent.controller.stage == .drifted)
        #expect(!agent.kernel.routes.contains { $0.isOurs && gone.contains($0.route.key) })
        // As it does when the agent is started again.
        let next = Agent(host: agent.host, drift: .report)
        try next.settle()
        #expect(next.controller.stage == .drifted && next.said(.drift).count == 1)
        #expect(!agent.kernel.routes.contains { $0.isOurs && gone.contains($0.route.key) })
        agent.host.variant = nil
        // What a new topology wants is still done.
        agent.host.put(4)
        agent.controller.wake(.topology)
        try agent.settle()
        #expect(try agent.isAsWanted(4))
        // A mesh that has gone altogether is made, as after a start of the machine.
        agent.kernel.links = [:]
        agent.kernel.routes = []
        let third = Agent(host: agent.host, drift: .report)
        try third.settle()
        #expect(try third.isAsWanted(4))
    }

    @Test func aQuarrelIsMetWithPatience() throws {
        let agent = Agent()
        agent.host.put(3)
        try agent.settle()
        let start = agent.now
        var repairs = 0
        // Another program takes the routes away whenever they are there, for ten minutes.
        while agent.now - start < .seconds(600) {
            if agent.kernel.routes.contains(where: \.isOurs) {
                repairs += 1
                agent.kernel.routes.removeAll { $0.isOurs }
                agent.controller.wake(.pass)
            }
            try agent.sleep()
        }
        #expect(repairs < 25)
        #expect(repairs > 8)
        // Something else that breaks meanwhile is repaired at once.
        agent.kernel.links["wg0"]?.mtu = 1300
        agent.controller.wake(.pass)
        try agent.settle()
        #expect(agent.kernel.links["wg0"]?.mtu == state(3).state.link?.mtu)
    }

    @Test func aStormOfChangesDoesNotFillTheLog() throws {
        let agent = Agent()
        agent.host.put(3)
        try agent.settle()
        agent.forget()
        // Something else each time, so that it is repaired at once, for half a minute.
        for round in 0..<1500 {
            agent.kernel.links["wg0"]?.mtu = UInt32(9000 - round)
            agent.controller.wake(.pass)
            try agent.settle()
            agent.now += .milliseconds(20)
        }
        let found = agent.said(.drift).filter { $0.hasPrefix("changed from outside") }
        #expect((20...100).contains(found.count))
        #expect(agent.said(.apply).filter { $0.hasPrefix("repaired") }.count <= 100)
        let untold = agent.said(.drift).filter { $0.hasSuffix("more changes from outside were found meanwhile") }
        #expect(!untold.isEmpty)
        // Each is counted all the same.
        let counted = untold.compactMap { Int($0.prefix { $0.isNumber }) }.reduce(found.count, +)
        #expect(counted <= agent.controller.figures.drifts)
        #expect(agent.controller.figures.drifts > 100)
    }

    @Test func whatFailsIsTriedLessAndLess() throws {
        let agent = Agent()
        agent.host.put(3)
        agent.kernel.fault = { _, operation in
            operation.kind == .route ? DataplaneError(.noMemory, "no memory") : nil
        }
        let start = agent.now
        while agent.now - start < .seconds(600) { try agent.sleep() }
        let routes = state(3).state.routes.count
        let tries = agent.kernel.log.count { $0.hasPrefix("route") } / routes
        #expect((5..<20).contains(tries))
        agent.kernel.fault = { _, _ in nil }
        while agent.now - start < .seconds(800) { try agent.sleep() }
        #expect(try agent.isAsWanted(3))
        #expect(agent.controller.stage == .converged)
    }

    @Test func anUnreadableKernelIsSaidOnce() throws {
        let agent = Agent()
        agent.host.put(1)
        try agent.settle()
        agent.kernel.observationFault = { _ in DataplaneError(.noMemory, "no memory") }
        for _ in 0..<5 { try agent.sleep() }
        #expect(agent.said(.agent).count == 1)
        #expect(agent.controller.stage == .failing)
        agent.kernel.observationFault = { _ in nil }
        try agent.sleep()
        try agent.settle()
        #expect(agent.controller.stage == .converged)
    }

    @Test func namesKeepTheirLastAnswer() throws {
        let agent = Agent()
        let address = IPAddress(v4: 0xC000_0201)
        let applied = AppliedEndpoint(
            written: "fra.example.net:51820", address: SocketAddress(address, port: 51_820))
        agent.host.memory.endpoints.remember([PublicKey(bigEndianWords: 1, 2, 3, 4): applied])
        agent.host.put(1)
        try agent.settle()
        #expect(agent.host.namesSeen["fra.example.net"] == [address])
        let other = IPAddress(v4: 0xC000_0202)
        agent.controller.take(names: ["fra.example.net": [other]])
        try agent.settle()
        #expect(agent.host.namesSeen["fra.example.net"] == [other])
        agent.controller.take(names: ["fra.example.net": []])
        try agent.settle()
        #expect(agent.host.namesSeen["fra.example.net"] == [other])
    }

    @Test func aFullDiskIsSaid() throws {
        let agent = Agent()
        agent.host.keepFailure = AgentProblem("cannot write: no space left on device")
        agent.host.put(1)
        try agent.settle()
        #expect(try agent.isAsWanted(1))
        let sentence = "cannot write: no space left on device"
        #expect(agent.said(.agent).filter { $0.hasPrefix(sentence) }.count == 1)
        #expect(agent.controller.memoryProblems.first?.hasPrefix(sentence) == true)
        // It is not said again, but tried; and with room again it is kept, though nothing else has happened.
        try agent.sleep()
        try agent.sleep()
        #expect(agent.said(.agent).count == 1)
        #expect(agent.host.keptRevision == nil)
        agent.host.keepFailure = nil
        try agent.sleep()
        try agent.settle()
        #expect(agent.host.keptRevision?.id == "1")
        #expect(agent.said(.agent).last == "what must be remembered is written down again")
        #expect(agent.controller.memoryProblems.isEmpty)
    }

    @Test func anotherAgentThatTookTheLockIsLeftInCharge() throws {
        let agent = Agent()
        agent.host.put(1)
        try agent.settle()
        // That the lock cannot be made anew is no reason to stop; that somebody else has it is one.
        agent.host.lockFailure = AgentProblem("the state folder is read-only")
        agent.kernel.routes.removeAll { $0.isOurs }
        try agent.sleep()
        try agent.settle()
        #expect(try agent.isAsWanted(1))
        agent.host.lockFailure = AgentProblem("an agent (process 7) is in charge of wg0", isFatal: true)
        try agent.sleep()
        try agent.settle()
        agent.kernel.routes.removeAll { $0.isOurs }
        agent.controller.noteKernelEvents([])
        try agent.settle()
        #expect(try !agent.isAsWanted(1))
        #expect(agent.controller.problem?.summary == "an agent (process 7) is in charge of wg0")
        agent.host.lockFailure = nil
        try agent.sleep()
        try agent.settle()
        #expect(try agent.isAsWanted(1))
    }

    /// Whatever happens in whatever order, it ends as the last good topology wants it.
    @Test(arguments: 0..<30) func alwaysEndsWhereItShould(_ seed: Int) throws {
        var generator = SeededGenerator(seed: UInt64(seed))
        let agent = Agent()
        var last = 1
        agent.host.put(last)
        for _ in 0..<25 {
            switch Int.random(in: 0..<6, using: &generator) {
            case 0:
                last = Int.random(in: 1..<40, using: &generator)
                agent.host.put(last)
                agent.controller.wake(.topology)
            case 1:
                agent.host.folder = .broken(AgentProblem("broken"))
                agent.controller.wake(.topology)
                try agent.settle()
                agent.host.put(last)
                agent.controller.wake(.topology)
            case 2: agent.kernel.routes.removeAll { $0.isOurs && Bool.random(using: &generator) }
            case 3: agent.kernel.links["wg0"]?.peers.removeAll { _ in Bool.random(using: &generator) }
            case 4: agent.kernel.links["wg0"] = nil
            default:
                for _ in 0..<Int.random(in: 1..<9, using: &generator) { _ = agent.controller.step(at: agent.now) }
            }
            if Bool.random(using: &generator) { agent.controller.wake(.pass) }
            if Bool.random(using: &generator) { try agent.sleep() }
        }
        let start = agent.now
        while agent.now - start < .seconds(300) { try agent.sleep() }
        #expect(try agent.isAsWanted(last))
        #expect(agent.controller.stage == .converged)
    }
}
