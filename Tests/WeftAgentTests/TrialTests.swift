// Changes on trial: what proves them, and what takes them back.

import Testing
import WeftModel
import WeftPlan
import WeftTestSupport

@testable import WeftAgent

@Suite struct TrialTests {
    let settings = ConfirmSettings(within: .seconds(60))

    /// An agent with topology 1 in force and confirmed, whose peers are up.
    func settled(_ settings: ConfirmSettings) throws -> Agent {
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
    func revive(_ agent: Agent) {
        agent.kernel.now = agent.host.clock
        for peer in agent.kernel.links["wg0"]?.peers ?? [] {
            agent.kernel.links["wg0"]?.statistics[peer.publicKey] = PeerStatistics(lastHandshake: agent.host.clock)
        }
    }

    func put(_ seed: Int, _ agent: Agent) {
        agent.host.put(seed)
        agent.controller.wake(.topology)
    }

    /// The seed of a topology that differs from the first, and shares a peer that can be asked in both.
    ///
    /// - Parameter rekeying: whether it has another preshared key with such a one; else with nobody.
    func neighbour(after seed: Int = 1, rekeying: Bool = false) throws -> Int {
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
            (seed + 1..<seed + 200).first { seed in
                let rekeyed = rekeyed(seed)
                if rekeyed.isEmpty == rekeying { return false }
                return addresses(seed).keys.contains { first[$0] != nil && (!rekeying || rekeyed[$0] != nil) }
            })
    }

    /// The peers that have another preshared key in a topology than in the first, by name.
    private func rekeyed(_ seed: Int) -> [String: PublicKey] {
        var found: [String: PublicKey] = [:]
        for peer in state(seed).state.peers {
            let old = state(1).state.peers.first { $0.publicKey == peer.publicKey }
            guard let old, old.presharedKey != peer.presharedKey else { continue }
            found[state(seed).peerNames[peer.publicKey] ?? ""] = peer.publicKey
        }
        return found
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
        #expect(agent.host.record?.isRejected == true && agent.host.record?.isUndone == true)
        #expect(agent.said(.revision).last == "topology 1, in force again")

        // It is not tried again until it changes.
        agent.answers = { _ in true }
        let mutations = agent.kernel.mutations
        agent.controller.wake(.topology)
        agent.controller.reload()
        for _ in 0..<5 { try agent.sleep() }
        #expect(agent.kernel.mutations == mutations)
        #expect(agent.controller.problem?.summary.contains("was taken back") == true)
    }

    /// The session of before answers, whatever becomes of the next handshake.
    @Test func anotherPresharedKeyIsProvedByAHandshakeAlone() throws {
        for isRight in [true, false] {
            let agent = try settled(settings)
            let seed = try neighbour(rekeying: true)
            agent.answers = { _ in true }
            put(seed, agent)
            for _ in 0..<12 { try agent.sleep() }
            #expect(try agent.isAsWanted(seed))
            #expect(agent.controller.onTrial == "\(seed)")
            #expect(agent.controller.missing.contains("(by a handshake)"))
            #expect(agent.host.record?.handshakes.isEmpty == false)
            #expect(agent.said(.confirm).contains { $0.contains("outlives the change of its key: only its next") })
            // Bytes are what the session of before receives.
            for key in rekeyed(seed).values {
                let old = agent.kernel.links["wg0"]?.statistics[key]?.lastHandshake
                agent.kernel.links["wg0"]?.statistics[key] = PeerStatistics(
                    lastHandshake: isRight ? agent.host.clock : old, receivedBytes: 10_000)
            }
            for _ in 0..<12 { try agent.sleep() }
            #expect((agent.controller.onTrial == nil) == isRight)
            // As long as the session can live, and no longer.
            let start = agent.now
            while agent.now - start < .seconds(150) { try agent.sleep() }
            #expect((agent.controller.onTrial == nil) == isRight)
            while agent.now - start < .seconds(200) { try agent.sleep() }
            #expect(agent.controller.onTrial == nil)
            #expect(try agent.isAsWanted(isRight ? seed : 1))
        }
    }

    @Test func aSecondChangeIsNoWayAroundAHandshake() throws {
        let agent = try settled(settings)
        let seed = try neighbour(rekeying: true)
        agent.answers = { _ in true }
        put(seed, agent)
        for _ in 0..<6 { try agent.sleep() }
        #expect(agent.controller.onTrial == "\(seed)")
        agent.host.folder = .good(Revision(id: "the same again", origin: .folder, source: seed))
        agent.controller.wake(.topology)
        for _ in 0..<12 { try agent.sleep() }
        #expect(agent.controller.onTrial == "the same again")
        #expect(agent.controller.missing.contains("(by a handshake)"))
    }

    @Test func anAgentThatWasKilledGoesOnWaitingForAHandshake() throws {
        let agent = try settled(settings)
        let seed = try neighbour(rekeying: true)
        agent.answers = { _ in true }
        put(seed, agent)
        for _ in 0..<6 { try agent.sleep() }
        let next = Agent(host: agent.host, confirm: settings)
        next.now = agent.now
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
        #expect(agent.controller.revert(by: "a person"))
        try agent.settle()
        #expect(try agent.isAsWanted(1))
    }

    /// What is gone back to may have to be made after a loss, in front of an obstacle.
    @Test(arguments: [true, false]) func aKillSwitchIsForgottenWhenItsEndIsConfirmed(isConfirmed: Bool) throws {
        let agent = Agent(confirm: ConfirmSettings(within: .seconds(60), isManual: true))
        agent.host.shut = [1]
        agent.host.put(1)
        try agent.settle()
        #expect(agent.host.memory.hasKillSwitch)
        let seed = try neighbour()
        put(seed, agent)
        for _ in 0..<8 { try agent.sleep() }
        #expect(agent.controller.onTrial == "\(seed)" && agent.kernel.firewalls.isEmpty)
        #expect(agent.host.memory.hasKillSwitch)
        if isConfirmed {
            #expect(agent.controller.confirm(by: "a person"))
        } else {
            #expect(agent.controller.revert(by: "a person"))
        }
        let start = agent.now
        while agent.now - start < .seconds(100) { try agent.sleep() }
        #expect(agent.host.memory.hasKillSwitch == !isConfirmed && agent.kernel.firewalls.isEmpty == isConfirmed)
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

    /// An edit put back while it is found out who answers.
    @Test func whatIsPutBackBeforeItsTrialIsNeverMade() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        let mutations = agent.kernel.mutations
        put(seed, agent)
        try agent.settle()
        #expect(agent.controller.isMeasuring)
        put(1, agent)
        for _ in 0..<8 { try agent.sleep() }
        #expect(agent.kernel.mutations == mutations)
        #expect(agent.controller.force?.revision.id == "1" && agent.controller.onTrial == nil)
        #expect(agent.said(.revision).last == "the topology is again what is in force (1)")
        #expect(agent.host.record == nil && agent.host.keptRevision?.id == "1")
    }

    /// So is one that failed before, put back while another one is about to be tried.
    @Test func aFailedOnePutBackEndsTheNextOnesTrialBeforeItBegins() throws {
        let agent = try settled(ConfirmSettings(within: .seconds(60), isManual: true))
        let seed = try neighbour()
        put(seed, agent)
        for _ in 0..<4 { try agent.sleep() }
        #expect(agent.controller.revert(by: "a person"))
        try agent.settle()
        revive(agent)
        agent.controller.wake(.pass)
        for _ in 0..<2 { try agent.sleep() }
        put(try neighbour(after: seed), agent)
        try agent.settle()
        #expect(agent.controller.isMeasuring)
        put(seed, agent)
        for _ in 0..<8 { try agent.sleep() }
        #expect(try agent.isAsWanted(1))
        #expect(agent.controller.onTrial == nil)
        #expect(agent.controller.problem?.summary.hasPrefix("topology \(seed) was taken back") == true)
    }

    @Test func anAgentThatStopsSaysWhatBecomesOfATrial() throws {
        let agent = try settled(ConfirmSettings(within: .seconds(60), isManual: true))
        agent.controller.leave(at: agent.now)
        #expect(agent.said(.confirm).isEmpty)
        let seed = try neighbour()
        put(seed, agent)
        for _ in 0..<4 { try agent.sleep() }
        agent.controller.leave(at: agent.now)
        #expect(
            agent.said(.confirm).last?.hasPrefix(
                "topology \(seed) is on trial, and nobody watches over it from now on") == true)
        #expect(agent.host.record?.isAwaited(at: agent.host.clock) == true)
        #expect(agent.host.record?.isDangling(at: UnixTime(seconds: agent.host.clock.seconds + 100)) == true)
    }

    /// What an earlier trial left must not be gone back to when something else is in force since.
    @Test func aTopologyAfterALeftTrialClosesIt() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.host.record = TrialRecord(
            id: "another", deadline: agent.host.clock, wanted: [], isRejected: false)
        let next = Agent(host: agent.host)
        next.now = agent.now
        agent.host.put(seed)
        for _ in 0..<3 { try next.sleep() }
        #expect(try next.isAsWanted(seed))
        #expect(agent.host.record == nil)
    }

    @Test func whoExpiresIsNamed() throws {
        let agent = try settled(settings)
        let name = try #require(state(1).peerNames.values.sorted().first)
        agent.host.expired = [name: agent.host.clock, "nobody-here": agent.host.clock]
        agent.controller.wake(.compile)
        try agent.settle()
        #expect(
            agent.said(.revision) == [
                "\(name) expired at \(agent.host.clock), as the topology says: it is no peer any more"
            ])
        agent.controller.wake(.compile)
        try agent.settle()
        #expect(agent.said(.revision).count == 1)
        agent.forget()
        agent.host.expired[state(1).node] = agent.host.clock
        agent.controller.wake(.compile)
        try agent.settle()
        #expect(agent.said(.revision).last?.hasPrefix("this host, \(state(1).node), expired at") == true)
        agent.forget()
        // The clock was set back.
        agent.host.expired = [:]
        agent.controller.wake(.compile)
        try agent.settle()
        #expect(agent.said(.revision).contains { $0.hasPrefix("\(name) expires at") })
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

    @Test func aClockThatWasSetBackMakesNoTrialLonger() throws {
        let agent = try settled(ConfirmSettings(within: .seconds(60), isManual: true))
        let seed = try neighbour()
        put(seed, agent)
        for _ in 0..<4 { try agent.sleep() }
        agent.host.clock.seconds -= 3600
        let next = Agent(host: agent.host, confirm: ConfirmSettings(within: .seconds(60), isManual: true))
        next.now = agent.now
        try next.settle()
        #expect(next.controller.onTrial == "\(seed)")
        let start = next.now
        while next.now - start < .seconds(70) { try next.sleep() }
        #expect(try next.isAsWanted(1))
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
        #expect(next.controller.problem?.summary.contains("it was not confirmed in time") == true)
        #expect(next.host.record?.reason == "it was not confirmed in time" && next.host.record?.isUndone == true)
        #expect(next.said(.revision).contains("topology 1, in force again"))
        // And so does the one after it.
        let third = Agent(host: agent.host, confirm: ConfirmSettings(within: .seconds(60), isManual: true))
        try third.settle()
        #expect(try third.isAsWanted(1))
    }

    /// The folder changed while no agent ran: that is a change as any other.
    @Test func aChangeAtTheStartIsOnTrialToo() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.host.put(seed)
        let next = Agent(host: agent.host, confirm: ConfirmSettings(within: .seconds(60), isManual: true))
        next.now = agent.now
        for _ in 0..<5 { try next.sleep() }
        #expect(next.controller.onTrial == "\(seed)")
        #expect(next.controller.revert(by: "a person"))
        for _ in 0..<3 { try next.sleep() }
        #expect(try next.isAsWanted(1))
    }

    @Test func aNamedPeerMustBeHeardOf() throws {
        for isHeard in [false, true] {
            let seed = try neighbour()
            let name = try #require(
                Set(state(seed).peerNames.values).intersection(state(1).peerNames.values).sorted().first { name in
                    FakeHost().address(ofNode: name, in: Revision(id: "", origin: .folder, source: seed)) != nil
                })
            let key = try #require(state(seed).peerNames.first { $0.value == name }?.key)
            let agent = Agent(confirm: settings, peers: [name])
            agent.host.put(1)
            try agent.settle()
            put(seed, agent)
            for _ in 0..<6 { try agent.sleep() }
            #expect(agent.controller.onTrial == "\(seed)")
            if isHeard {
                agent.kernel.links["wg0"]?.statistics[key] = PeerStatistics(
                    lastHandshake: agent.host.clock, receivedBytes: 148)
            }
            let start = agent.now
            while agent.now - start < .seconds(70) { try agent.sleep() }
            #expect(try agent.isAsWanted(isHeard ? seed : 1))
        }
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
            let next = Agent(host: agent.host)
            next.now = agent.now
            for _ in 0..<3 { try next.sleep() }
            if hadBefore { #expect(try next.isAsWanted(1)) } else { #expect(next.kernel.links["wg0"] == nil) }
            #expect(agent.host.record?.isRejected == true && agent.host.record?.isUndone == true)
        }
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
