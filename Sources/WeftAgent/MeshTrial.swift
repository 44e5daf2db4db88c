// A change on trial: begun, judged, confirmed or taken back.

import WeftModel
import WeftPlan
import WeftTopology

extension MeshController {
    // MARK: Begun

    /// Whether a change must prove itself; its trial has begun then.
    func isAwaited(_ candidate: Force, at now: ContinuousClock.Instant) throws(AgentProblem) -> Bool {
        guard candidate.revision.origin == .folder else { return false }
        if let record = host.trial(of: candidate.mesh), record.id == candidate.revision.id {
            return try resume(candidate, record, at: now)
        }
        guard let before = try before(candidate) else { return false }
        // What was in force before a trial that is still under way is what is gone back to.
        let previous = trial?.previous ?? before
        if candidate.desired.state == previous.desired.state {
            trial = nil
            return false
        }
        cuts = findCuts(candidate, from: before)
        guard let confirm = confirmation(of: candidate) else { return false }
        force = force ?? before
        // The change under way may have cut everybody off: who answered before it is the measure for the next one too.
        if let (old, _, _) = trial, case .judging = old.phase {
            var next = Trial(
                phase: .measuring(until: now), settings: confirm, probes: old.measure, names: old.names, nextRound: now)
            next.answered = old.measure
            next.rekeyed = old.rekeyed
            trial = (next, candidate, previous)
            return true
        }
        // Nodes are known by name here: a wrong key or a wrong address is what a trial is to find.
        let silent = handshakes.silent
        let up = Set(previous.desired.peerNames.filter { !silent.contains($0.key) }.values)
        let wanted = up.intersection(candidate.desired.peerNames.values).sorted()
        var names: [Probe: String] = [:]
        for name in wanted where names.count < Trial.most {
            guard let address = host.address(ofNode: name, in: previous.revision) else { continue }
            names[Probe(address, interface: previous.mesh.interface)] = name
        }
        let probes = Set(names.keys).union(confirm.measures)
        // Over the network git takes longer than an echo.
        let time = probes.contains(.git) ? Trial.measuring * 5 : Trial.measuring
        trial = (
            Trial(
                phase: .measuring(until: now + time), settings: confirm, probes: probes, names: names,
                nextRound: now + Trial.round), candidate, previous
        )
        due = Array(probes)
        wake(.pass)
        return true
    }

    /// What is in force; at a start, what was kept, where the folder holds something else by now. Nil where nothing is to be
    /// gone back to.
    private func before(_ candidate: Force) throws(AgentProblem) -> Force? {
        if let force { return force }
        guard let kept = host.kept() else { return try nothing(candidate) }
        if kept.id == candidate.revision.id { return nil }
        // It may mean nothing here any more, or another interface.
        guard let compilation = try? host.compile(kept, names: names) else { return nil }
        let before = Force(revision: kept, compilation: compilation)
        return before.mesh == candidate.mesh ? before : nil
    }

    /// That the mesh is not there.
    private func nothing(_ candidate: Force) throws(AgentProblem) -> Force {
        let nothing = Revision(id: "none", origin: .nothing, source: candidate.revision.source)
        return Force(revision: nothing, compilation: try host.compile(nothing, names: names))
    }

    private func findCuts(_ candidate: Force, from before: Force) -> [Cut] {
        guard settings.guardsItself else { return [] }
        let live = observation?.state ?? before.desired.state
        return Cut.all(
            host.guarded(candidate.desired, mark: live.device?.fwMark ?? 0), from: live, to: candidate.desired.state,
            of: candidate.mesh,
            names: before.desired.peerNames.merging(candidate.desired.peerNames) { _, new in new })
    }

    /// How a change is to be judged; nil where it is not.
    private func confirmation(of candidate: Force) -> ConfirmSettings? {
        for cut in cuts {
            say(.warning, .revision, "topology \(candidate.revision.id) would cut \(cut.guarded.words): \(cut.then)")
        }
        // A first topology is a change of nothing: only what it cuts can be lost.
        let isFirst = force == nil && host.kept() == nil
        if cuts.isEmpty, isFirst || settings.confirm == nil { return nil }
        var confirm = settings.confirm ?? .automatic
        confirm.add(cuts)
        for name in settings.confirmPeers {
            // One that has no address here can be heard of nowhere.
            guard let address = host.address(ofNode: name, in: candidate.revision) else { continue }
            confirm.needs.insert(.peer(name: name, address))
        }
        return confirm
    }

    /// An agent that was killed goes on with the trial while there is time; afterwards, the change has failed.
    func resume(
        _ candidate: Force, _ record: TrialRecord, at now: ContinuousClock.Instant
    ) throws(AgentProblem) -> Bool {
        guard force == nil || trial == nil else { return false }
        let interface = candidate.mesh.interface
        let confirm = settings.confirm ?? .automatic
        // A clock that was set back must not leave a bad change in force for longer than was agreed to.
        let most = record.handshakes.isEmpty ? confirm.within : max(confirm.within, Trial.longest)
        let left = min(record.deadline.seconds(since: host.now()), most.components.seconds)
        var probes = Set(record.wanted.map { Probe($0, interface: interface) }).union(Self.named(confirm))
        for name in record.handshakes {
            guard let address = host.address(ofNode: name, in: candidate.revision) else { continue }
            probes.insert(.peer(name: name, address))
        }
        guard !record.isRejected, record.isResumable, left > 0, let kept = host.kept(),
            confirm.isManual || !probes.isEmpty
        else { throw try rejection(of: record, candidate) }
        let previous = Force(revision: kept, compilation: try host.compile(kept, names: names))
        var next = Trial(
            phase: .judging(until: now + .seconds(left)), settings: confirm, probes: probes,
            nextRound: now + Trial.round)
        next.rekeyed = Set(record.handshakes.compactMap(candidate.key))
        trial = (next, candidate, previous)
        enforce(candidate)
        say(.notice, .confirm, "topology \(record.id) is still on trial, for \(left) s")
        return true
    }

    /// A trial whose time is over, or over which nobody watches any more: what was before is what is wanted.
    private func rejection(of record: TrialRecord, _ candidate: Force) throws(AgentProblem) -> AgentProblem {
        let reason = record.reason.isEmpty ? "it was not confirmed in time" : record.reason
        let problem = AgentProblem(
            "topology \(record.id) was taken back: \(reason); it is not tried again until it changes")
        rejected = (record.id, problem)
        // Nothing was there before it.
        if force == nil, !record.isUndone, host.kept() == nil { enforce(try nothing(candidate)) }
        var record = record
        record.reason = reason
        record.isUndone = record.isUndone || force != nil && isSettled
        reject(record, of: candidate.mesh)
        return problem
    }

    /// Who must answer whatever was before.
    private static func named(_ confirm: ConfirmSettings) -> Set<Probe> {
        confirm.needs.union(confirm.addresses.map { Probe($0) })
    }

    // MARK: Judged

    /// - Returns: when it wants to be called again; nil where there is no trial.
    func stepTrial(at now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        guard let (current, candidate, previous) = trial else { return nil }
        var trial = current
        switch trial.phase {
        case .measuring(let until):
            if now < until, !trial.missing.isEmpty { return until }
            begin(&trial, candidate, previous, at: now)
        case .judging(let until):
            if trial.hasSettled, trial.missing.isEmpty, !trial.settings.isManual {
                confirm(by: "")
                return nil
            }
            if now >= until {
                takeBack(trial, candidate, previous, because: failure(of: trial))
                return nil
            }
            if trial.nextRound <= now {
                trial.nextRound = now + Trial.round
                trial.hasSettled = stage == .converged
                if trial.hasSettled { ask(&trial, candidate) }
            }
            self.trial = (trial, candidate, previous)
            return min(until, trial.nextRound)
        }
        return now
    }

    /// One round of questions. Handshakes are seen by a look at the peers, which the questions make them renew.
    private func ask(_ trial: inout Trial, _ candidate: Force) {
        for probe in trial.missing {
            guard case .peer(let name, _) = probe,
                let key = candidate.key(of: name), let statistics = observation?.statistics(of: key)
            else { continue }
            guard let old = trial.baselines[name] else {
                trial.baselines[name] = statistics
                continue
            }
            let isProved =
                trial.rekeyed.contains(key) ? statistics.hasHandshake(since: old) : statistics.isHeard(since: old)
            if isProved { trial.answered.insert(probe) }
        }
        due = trial.missing
        if trial.missing.contains(where: \.isPeer) { wake(.pass) }
    }

    private func begin(_ trial: inout Trial, _ candidate: Force, _ previous: Force, at now: ContinuousClock.Instant) {
        var confirm = trial.settings
        trial.rekeyed.formUnion(rekeyed(by: candidate))
        // Who does not answer before is not asked afterwards; what was named must answer.
        let named = Self.named(confirm)
        trial.probes = named
        trial.measure = trial.answered
        for probe in trial.answered {
            if let name = trial.names[probe] {
                guard let address = host.address(ofNode: name, in: candidate.revision) else { continue }
                let isRekeyed = candidate.key(of: name).map(trial.rekeyed.contains) ?? false
                trial.probes.insert(
                    isRekeyed
                        ? .peer(name: name, address) : Probe(address, interface: candidate.mesh.interface))
            } else {
                trial.probes.insert(probe)
            }
        }
        trial.answered = []
        prepareHandshakes(&trial, candidate)
        confirm = trial.settings
        trial.phase = .judging(until: now + confirm.within)
        trial.nextRound = now + Trial.round
        if trial.probes.isEmpty, !confirm.isManual {
            self.trial = nil
            verdict = .untried
            say(
                .notice, .confirm,
                "nobody answers who could prove a change: topology \(candidate.revision.id) is not on trial")
            enforce(candidate)
            settle(candidate.revision)
            return
        }
        let now = host.now()
        let deadline = UnixTime(seconds: now.seconds + confirm.within.components.seconds, nanoseconds: now.nanoseconds)
        var record = TrialRecord(
            id: candidate.revision.id, deadline: deadline,
            wanted: trial.probes.subtracting(named).compactMap(\.echoed), isRejected: false)
        record.isResumable = settings.resumesTrials
        record.handshakes = trial.probes.subtracting(named).compactMap { probe in
            if case .peer(let name, _) = probe { name } else { nil }
        }.sorted()
        do throws(AgentProblem) {
            // What is to be gone back to is kept before anything is changed.
            try host.keep(previous.revision)
            try host.store(record, of: candidate.mesh)
        } catch {
            self.trial = nil
            refuse(AgentProblem("\(error.summary): without it a change could not be taken back, and is not made"))
            return
        }
        self.trial = (trial, candidate, previous)
        say(
            .notice, .confirm,
            "topology \(candidate.revision.id) is on trial for \(confirm.within.components.seconds) s: "
                + (confirm.isManual ? "`weft confirm` keeps it" : "\(words(trial.missing)) must answer"))
        enforce(candidate)
    }

    // MARK: Ended

    /// A person, or the facts, confirm the change under way.
    ///
    /// - Returns: false where there is none.
    @discardableResult
    package func confirm(by whom: String) -> Bool {
        guard let (trial, candidate, _) = trial, case .judging = trial.phase else { return false }
        self.trial = nil
        settle(candidate.revision)
        let reason = whom.isEmpty ? words(Array(trial.answered)) + " answered" : whom
        verdict = .confirmed(reason)
        say(.notice, .confirm, "topology \(candidate.revision.id) is confirmed: \(reason)")
        return true
    }

    /// A person takes the change under way back.
    ///
    /// - Returns: false where there is none.
    package func revert(by whom: String) -> Bool {
        guard let (trial, candidate, previous) = trial else { return false }
        takeBack(trial, candidate, previous, because: whom)
        return true
    }

    private func takeBack(_ trial: Trial, _ candidate: Force, _ previous: Force, because reason: String) {
        self.trial = nil
        verdict = .takenBack(reason)
        let id = candidate.revision.id
        // A person who applies it again has decided anew.
        let rest = settings.resumesTrials ? "; it is not tried again until it changes" : ""
        let problem = AgentProblem("topology \(id) was taken back: \(reason)\(rest)")
        rejected = (id, problem)
        if var record = host.trial(of: candidate.mesh) {
            record.reason = reason
            reject(record, of: candidate.mesh)
        }
        tellWhatIsNotRestored(trial, candidate, previous)
        enforce(previous, isRestored: true)
        // What the host adds may have changed since it was compiled.
        wake(.compile)
        say(.error, .confirm, problem.summary)
        refusal = problem
    }

    private func failure(of trial: Trial) -> String {
        if !trial.hasSettled { return "the host did not become as it wants it" }
        return trial.missing.isEmpty || trial.settings.isManual
            ? "nobody confirmed it" : "no answer from \(words(trial.missing))"
    }

    func reject(_ record: TrialRecord, of mesh: MeshIdentity) {
        var record = record
        record.isRejected = true
        do throws(AgentProblem) {
            try host.store(record, of: mesh)
        } catch {
            say(.error, .confirm, error.summary)
        }
    }

    // MARK: Asked and told

    /// Questions to ask now.
    package func takeProbes() -> [Probe] {
        defer { due = [] }
        return due
    }

    /// Somebody answered.
    package func note(answerTo probe: Probe) {
        // Peers prove themselves by what WireGuard saw of them: see `ask`.
        if !probe.isPeer, trial?.trial.probes.contains(probe) == true { trial?.trial.answered.insert(probe) }
    }

    /// The topology on trial, for the status document.
    package var onTrial: String? {
        guard let trial, case .judging = trial.trial.phase else { return nil }
        return trial.candidate.revision.id
    }

    /// Whether it is being found out who answers before a change.
    package var isMeasuring: Bool {
        if case .measuring = trial?.trial.phase { true } else { false }
    }

    /// When the time of the change on trial is over.
    package var trialEnds: ContinuousClock.Instant? {
        guard case .judging(let until) = trial?.trial.phase else { return nil }
        return until
    }

    /// Who has not answered yet, in words; empty where nobody must.
    package var missing: String { words(trial?.trial.missing ?? []) }

    private func words(_ probes: [Probe]) -> String {
        let names = probes.map { probe -> String in
            guard let address = probe.echoed else { return probe.words }
            let peer = force?.desired.state.peers.first {
                $0.allowedIPs.contains { $0.isHost && $0.address == address }
            }
            let name = peer.flatMap { force?.desired.peerNames[$0.publicKey] }
            return name.map { "\($0) (\(address))" } ?? "\(address)"
        }.sorted()
        return names.count > 4
            ? names.prefix(4).joined(separator: ", ") + " and \(names.count - 4) more" : names.joined(separator: ", ")
    }
}
