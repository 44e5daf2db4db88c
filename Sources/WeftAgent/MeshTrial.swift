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
        if meansTheSame(candidate) { return true }
        guard let before = try before(candidate) else { return false }
        // What was in force before a trial that is still under way is what is gone back to.
        let previous = trial?.previous ?? before
        if candidate.desired.state == previous.desired.state {
            trial = nil
            return false
        }
        // A change on top of one that is under way is judged with it, against what was before both.
        let underWay: Trial? = if let trial, case .judging = trial.trial.phase { trial.trial } else { nil }
        cuts = findCuts(candidate, from: previous, live: underWay == nil ? observation?.state : nil)
        guard var confirm = confirmation(of: candidate) ?? underWay?.settings else { return false }
        force = force ?? before
        // The change under way may have cut everybody off: who answered before it is the measure for the next one too.
        if let old = underWay {
            confirm.needs.formUnion(old.settings.needs)
            confirm.measures.formUnion(old.settings.measures)
            let unasked = confirm.measures.subtracting(old.probes).subtracting(old.measure)
            let until = unasked.isEmpty ? now : now + Self.timeToMeasure(unasked)
            var next = Trial(
                phase: .measuring(until: until), settings: confirm, probes: old.measure.union(unasked),
                names: old.names, nextRound: now + Trial.round)
            next.answered = old.measure
            next.rekeyed = old.rekeyed
            (next.limit, next.isExtended) = (old.limit, old.isExtended)
            trial = (next, candidate, previous)
            due = Array(unasked)
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
        var next = Trial(
            phase: .measuring(until: now + Self.timeToMeasure(probes)), settings: confirm, probes: probes,
            names: names, nextRound: now + Trial.round)
        // After a start of the machine, the network is yet to come.
        if previous.revision.origin == .kept, !confirm.isManual {
            next.patience = networkAwaitedSince.map { $0 + max(confirm.within, Trial.longestStart) }
        }
        trial = (next, candidate, previous)
        due = Array(probes)
        wake(.pass)
        return true
    }

    /// Other bytes that mean the same as what is on trial are on trial instead, as if they always had been.
    private func meansTheSame(_ candidate: Force) -> Bool {
        guard let current = trial, case .judging = current.trial.phase,
            current.candidate.desired.state == candidate.desired.state,
            var record = host.trial(of: candidate.mesh), record.id == current.candidate.revision.id
        else { return false }
        record.id = candidate.revision.id
        do throws(AgentProblem) { try host.store(record, of: candidate.mesh) } catch { return false }
        trial?.candidate = candidate
        force = candidate
        say(.notice, .confirm, "topology \(candidate.revision.id) means the same, and is on trial instead")
        return true
    }

    /// Over the network git takes longer than an echo.
    private static func timeToMeasure(_ probes: Set<Probe>) -> Duration {
        probes.contains(.git) ? Trial.measuringByGit : Trial.measuring
    }

    /// What is in force; at a start, what was kept, where the folder holds something else by now. Nil where nothing is to be
    /// gone back to.
    private func before(_ candidate: Force) throws(AgentProblem) -> Force? {
        if let force { return force }
        guard let kept = host.kept() else { return try nothing(candidate) }
        if kept.id == candidate.revision.id { return nil }
        do throws(AgentProblem) {
            let before = try whatWas(kept, before: candidate)
            // It may mean another interface.
            return before.mesh == candidate.mesh ? before : nil
        } catch {
            say(
                .warning, .confirm,
                "what was in force before topology \(candidate.revision.id) could not be gone back to, and so that is not on "
                    + "trial, whatever it cuts: \(error.summary)")
            return nil
        }
    }

    /// What was before a change, as far as there is the means for it: who leaves with the change may have taken the preshared
    /// key along.
    private func whatWas(_ kept: Revision<Host.Source>, before candidate: Force) throws(AgentProblem) -> Force {
        let staying = Set(candidate.desired.peerNames.values)
        var leftOut: Set<String> = []
        let compilation = try host.compile(kept, names: names) { name in
            if staying.contains(name) { return false }
            leftOut.insert(name)
            return true
        }
        return Force(revision: kept, compilation: compilation, leftOut: leftOut)
    }

    /// That the mesh is not there.
    private func nothing(_ candidate: Force) throws(AgentProblem) -> Force {
        let nothing = Revision(id: "none", origin: .nothing, source: candidate.revision.source)
        return Force(revision: nothing, compilation: try host.compile(nothing, names: names))
    }

    /// - Parameter live: nil: as it was wanted before.
    private func findCuts(_ candidate: Force, from before: Force, live: HostState?) -> [Cut] {
        guard settings.guardsItself else { return [] }
        let live = live ?? before.desired.state
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
        for text in record.proofs {
            let probe = Probe(text: text) { host.address(ofNode: $0, in: candidate.revision) }
            if let probe { probes.insert(probe) }
        }
        guard !record.isRejected, let kept = host.kept() else { throw try rejection(of: record, candidate) }
        // It was confirmed; that this is written down came to no end.
        if kept.id == record.id { return false }
        let previous: Force
        do throws(AgentProblem) {
            previous = try whatWas(kept, before: candidate)
        } catch {
            say(
                .error, .confirm,
                "topology \(record.id) was on trial, and stays: what was before cannot be gone back to: \(error.summary)"
            )
            return false
        }
        guard record.isResumable, left > 0, confirm.isManual || !probes.isEmpty else {
            throw try rejection(of: record, candidate)
        }
        var next = Trial(
            phase: .judging(until: now + .seconds(left)), settings: confirm, probes: probes,
            nextRound: now + Trial.round)
        next.rekeyed = Set(record.handshakes.compactMap(candidate.key))
        next.limit = now + .seconds(left) + confirm.within
        // Who must answer now answered before: a change on top of this one is judged by them too.
        next.measure = probes.filter { !$0.isPeer && $0.echoed == nil || Self.named(confirm).contains($0) }
        for name in candidate.desired.peerNames.values {
            guard let there = host.address(ofNode: name, in: candidate.revision),
                record.wanted.contains(there) || record.handshakes.contains(name),
                let before = host.address(ofNode: name, in: kept)
            else { continue }
            let probe = Probe(before, interface: interface)
            next.names[probe] = name
            next.measure.insert(probe)
        }
        trial = (next, candidate, previous)
        enforce(candidate)
        say(.notice, .confirm, "topology \(record.id) is still on trial, for \(left) s")
        return true
    }

    /// A trial whose time is over, or over which nobody watches any more: what was before is what is wanted.
    private func rejection(of record: TrialRecord, _ candidate: Force) throws(AgentProblem) -> AgentProblem {
        let reason = record.reason.isEmpty ? "it was not confirmed in time" : record.reason
        let problem = AgentProblem(
            "\(TrialRecord.thatItFailed(record.id, reason)); it is not tried again until it changes")
        rejected = (record.id, problem)
        if force == nil {
            if let kept = host.kept() {
                if let before = try? whatWas(kept, before: candidate), before.mesh == candidate.mesh {
                    enforce(before, isRestored: true)
                }
            } else if !record.isUndone {
                // Nothing was there before it.
                enforce(try nothing(candidate))
            }
        }
        var record = record
        record.reason = reason
        record.isUndone = record.isUndone || force != nil && isSettled && force?.revision.id != record.id
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
            if now < until, !trial.missing.isEmpty {
                if trial.nextRound <= now {
                    trial.nextRound = now + Trial.round
                    due = trial.missing
                    self.trial = (trial, candidate, previous)
                }
                return min(until, trial.nextRound)
            }
            if let next = wait(&trial, at: now) {
                self.trial = (trial, candidate, previous)
                return next
            }
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
                // What stands in the way of a part of it is said, and is not the change's fault.
                trial.hasSettled =
                    isSettled && failure == nil && stage != .failing && stage != .applying
                    && (remaining == nil || settings.drift == .report)
                if trial.hasSettled { ask(&trial, candidate) }
            }
            self.trial = (trial, candidate, previous)
            return min(until, trial.nextRound)
        }
        return now
    }

    /// Where nobody can answer yet, what was before is in force meanwhile. Once somebody does, the others have as long as they
    /// would have had at first.
    ///
    /// - Returns: when to look again; nil where it is known by now who answers.
    private func wait(_ trial: inout Trial, at now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        guard let patience = trial.patience, now < patience, !trial.missing.isEmpty else { return nil }
        if !trial.answered.isEmpty {
            (trial.patience, networkAwaitedSince) = (nil, nil)
            let until = now + Self.timeToMeasure(trial.probes)
            trial.phase = .measuring(until: until)
            due = trial.missing
            return until
        }
        if !trial.isWaiting {
            trial.isWaiting = true
            say(
                .notice, .confirm,
                "nobody answers yet who could prove a change: what was before stays in force for up to "
                    + "\((patience - now).components.seconds + 1) s")
        }
        if trial.nextRound <= now {
            trial.nextRound = now + Trial.round
            due = trial.missing
        }
        return min(trial.nextRound, patience)
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
        verdict = nil
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
        var until = now + confirm.within
        if let limit = trial.limit, until > limit {
            // A new handshake takes its time, once.
            if trial.isExtended || rekeyed(by: candidate).isEmpty { until = limit } else { trial.isExtended = true }
        }
        trial.limit = max(trial.limit ?? until + confirm.within, until)
        trial.phase = .judging(until: until)
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
        let seconds = max(0, (until - now).components.seconds)
        let clock = host.now()
        let deadline = UnixTime(seconds: clock.seconds + seconds, nanoseconds: clock.nanoseconds)
        var record = TrialRecord(
            id: candidate.revision.id, deadline: deadline,
            wanted: trial.probes.subtracting(named).compactMap(\.echoed), isRejected: false)
        record.isResumable = settings.resumesTrials
        record.handshakes = trial.probes.subtracting(named).compactMap { probe in
            if case .peer(let name, _) = probe { name } else { nil }
        }.sorted()
        let heard = Set(record.handshakes)
        record.proofs = trial.probes.filter { probe in
            if case .peer(let name, _) = probe { !heard.contains(name) } else { true }
        }.compactMap(\.text).sorted()
        do throws(AgentProblem) {
            // What is to be gone back to is kept before anything is changed.
            try host.keep(previous.revision)
            try host.store(record, of: candidate.mesh)
            (arrears.revision, arrears.isTrialOver) = (nil, false)
        } catch {
            self.trial = nil
            goOn(with: previous, at: now)
            refuse(AgentProblem("\(error.summary): without it a change could not be taken back, and is not made"))
            return
        }
        self.trial = (trial, candidate, previous)
        say(
            .notice, .confirm,
            "topology \(candidate.revision.id) is on trial for \(seconds) s: "
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
        let problem = AgentProblem(TrialRecord.thatItFailed(id, reason) + rest)
        rejected = (id, problem)
        if var record = host.trial(of: candidate.mesh) {
            record.reason = reason
            reject(record, of: candidate.mesh)
        }
        tellWhatIsNotRestored(trial, candidate, previous)
        enforce((try? whatWas(previous.revision, before: candidate)) ?? previous, isRestored: true)
        // What the host adds may have changed since it was compiled.
        wake(.compile)
        say(.error, .confirm, problem.summary)
        refusal = problem
    }

    private func failure(of trial: Trial) -> String {
        if !trial.hasSettled {
            return "the host did not become as it wants it"
                + (obstacles.first.map { ": in the way: \($0.sentence)" } ?? "")
        }
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
}
