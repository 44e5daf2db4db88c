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

    /// An agent with a change on trial that nobody answers after.
    func judging() throws -> (agent: Agent, seed: Int) {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.answers = { [unowned agent] _ in agent.controller.force?.revision.id == "1" }
        put(seed, agent)
        while agent.controller.onTrial == nil { try agent.sleep() }
        return (agent, seed)
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
    func rekeyed(_ seed: Int, since first: Int = 1) -> [String: PublicKey] {
        var found: [String: PublicKey] = [:]
        for peer in state(seed).state.peers {
            let old = state(first).state.peers.first { $0.publicKey == peer.publicKey }
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

    @Test func whatIsWaitedForIsWrittenDown() throws {
        let here = SocketAddress(try #require(IPAddress("2001:db8::7")), port: 22)
        let there = SocketAddress(try #require(IPAddress("192.0.2.1")), port: 40_022)
        let peer = try #require(IPAddress("10.80.0.1"))
        let session = TCPConnection(local: here, remote: there)
        let probes: [Probe] = [
            .git, .resolver(peer), .connection(here), .peer(name: "fra", peer), .session(session, strict: true),
            .session(session, strict: false),
        ]
        for probe in probes {
            let text = try #require(probe.text)
            #expect(Probe(text: text) { $0 == "fra" ? peer : nil } == probe)
        }
        #expect(Probe(peer).text == nil)
        for text in ["", "git now", "peer ams", "resolver x", "connection 192.0.2.1", "connection 192.0.2.1 70000"] {
            #expect(Probe(text: text) { $0 == "fra" ? peer : nil } == nil, "\(text)")
        }
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

    /// Also after a start, by what is kept where the folder is of no use; and what comes with the key is whole again.
    @Test(arguments: [true, false]) func aKillSwitchIsKeptShutWithoutTheKey(isFolderGood: Bool) throws {
        let agent = Agent()
        agent.host.shut = [1]
        agent.host.put(1)
        try agent.settle()
        let host = FakeHost()
        host.memory = agent.host.memory
        host.keptRevision = agent.host.keptRevision
        host.shut = [1]
        host.keyless = [1]
        if isFolderGood { host.put(1) }
        let started = Agent(host: host)
        try started.settle()
        #expect(started.kernel.firewalls[mesh.firewallTable] != nil && started.kernel.links.isEmpty)
        #expect(started.controller.force == nil && started.controller.problem?.summary.contains("no") == true)
        // Somebody opens it.
        started.host.kernel.kernel.firewalls = [:]
        started.controller.noteKernelEvents([])
        try started.settle()
        #expect(started.kernel.firewalls[mesh.firewallTable] != nil)
        host.keyless = []
        for _ in 0..<4 { try started.sleep() }
        #expect(started.controller.stage == .converged && !started.kernel.links.isEmpty && host.memory.hasKillSwitch)
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

    /// What is in the way of a part of the host is not the change's fault.
    @Test func whatIsInTheWayTakesNothingBack() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.answers = { _ in true }
        let blocked = try #require(
            state(seed).state.routes.first { route in
                route.table == Route.mainTable && !state(1).state.routes.contains { $0.key == route.key }
            })
        agent.kernel.routes.append(ModelKernel.ModelRoute(route: blocked, interface: "eth0", isOurs: false))
        put(seed, agent)
        for _ in 0..<8 { try agent.sleep() }
        #expect(agent.controller.stage == .blocked && !agent.controller.obstacles.isEmpty)
        #expect(agent.controller.force?.revision.id == "\(seed)" && agent.controller.onTrial == nil)
        #expect(agent.said(.confirm).last?.hasPrefix("topology \(seed) is confirmed") == true)
    }

    /// The state folder is full at that moment.
    @Test func thatATrialIsOverIsWrittenDownLater() throws {
        let agent = try settled(settings)
        let seed = try neighbour()
        agent.answers = { _ in true }
        put(seed, agent)
        while agent.controller.onTrial == nil { try agent.sleep() }
        agent.host.recordFailure = AgentProblem("no space left on device")
        agent.host.keepFailure = agent.host.recordFailure
        for _ in 0..<8 { try agent.sleep() }
        #expect(agent.controller.onTrial == nil && agent.host.record != nil)
        #expect(agent.controller.memoryProblems.count == 1)
        (agent.host.recordFailure, agent.host.keepFailure) = (nil, nil)
        for _ in 0..<3 { try agent.sleep() }
        #expect(agent.host.record == nil && agent.host.keptRevision?.id == "\(seed)")
        #expect(agent.controller.memoryProblems.isEmpty)
    }
}
