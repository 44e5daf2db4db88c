// A change on trial: begun, judged, confirmed or taken back.

import WeftModel
import WeftPlan
import WeftTopology

extension MeshController {
    /// Whether a change must prove itself; its trial has begun then.
    func isAwaited(_ candidate: Force, at now: ContinuousClock.Instant) throws(AgentProblem) -> Bool {
        guard settings.confirm != nil, candidate.revision.origin == .folder else { return false }
        if let record = host.trial(of: candidate.mesh), record.id == candidate.revision.id {
            return try resume(candidate, record, at: now)
        }
        guard let force else { return false }
        // What was in force before a trial that is still under way is what is gone back to.
        let previous = trial?.previous ?? force
        if candidate.desired.state == previous.desired.state {
            if trial != nil { try host.store(nil, of: candidate.mesh) }
            trial = nil
            return false
        }
        // The change under way may have cut everybody off: who answered before it is the measure for the next one too.
        if let (old, _, _) = trial, case .judging = old.phase {
            var next = Trial(phase: .measuring(until: now), probes: old.measure, names: old.names, nextRound: now)
            next.answered = old.measure
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
        let probes = Set(names.keys)
        trial = (
            Trial(
                phase: .measuring(until: now + Trial.measuring), probes: probes, names: names,
                nextRound: now + Trial.round), candidate, previous
        )
        due = Array(probes)
        wake(.pass)
        return true
    }

    /// An agent that was killed goes on with the trial while there is time; afterwards, the change has failed.
    private func resume(
        _ candidate: Force, _ record: TrialRecord, at now: ContinuousClock.Instant
    ) throws(AgentProblem) -> Bool {
        let left = record.deadline.seconds(since: host.now())
        guard force == nil || trial == nil else { return false }
        guard !record.isRejected, left > 0, let kept = host.kept() else {
            let problem = AgentProblem(
                "topology \(record.id) was not confirmed in time, and was taken back: it is not tried again until it changes"
            )
            rejected = (record.id, problem)
            reject(record, of: candidate.mesh)
            throw problem
        }
        let previous = Force(revision: kept, compilation: try host.compile(kept, names: names))
        let interface = candidate.mesh.interface
        let probes = Set(record.wanted.map { Probe($0, interface: interface) } + confirmed.map { Probe($0) })
        trial = (
            Trial(phase: .judging(until: now + .seconds(left)), probes: probes, nextRound: now + Trial.round),
            candidate,
            previous
        )
        enforce(candidate)
        say(.notice, .confirm, "topology \(record.id) is still on trial, for \(left) s")
        return true
    }

    private var confirmed: [IPAddress] { settings.confirm?.addresses ?? [] }

    /// - Returns: when it wants to be called again; nil where there is no trial.
    func stepTrial(at now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        guard let (current, candidate, previous) = trial else { return nil }
        var trial = current
        switch trial.phase {
        case .measuring(let until):
            if now < until, !trial.missing.isEmpty { return until }
            begin(&trial, candidate, previous, at: now)
        case .judging(let until):
            let isManual = settings.confirm?.isManual == true
            if trial.hasSettled, trial.missing.isEmpty, !isManual {
                confirm(by: "")
                return nil
            }
            if now >= until {
                takeBack(trial, candidate, previous)
                return nil
            }
            if trial.nextRound <= now {
                trial.nextRound = now + Trial.round
                trial.hasSettled = stage == .converged
                if trial.hasSettled { due = trial.missing }
            }
            self.trial = (trial, candidate, previous)
            return min(until, trial.nextRound)
        }
        return now
    }

    private func begin(_ trial: inout Trial, _ candidate: Force, _ previous: Force, at now: ContinuousClock.Instant) {
        guard let confirm = settings.confirm else { return }
        // Who does not answer before is not asked afterwards; what was named must answer.
        let named = Set(confirm.addresses.map { Probe($0) })
        trial.probes = named
        trial.measure = trial.answered
        for probe in trial.answered {
            guard let name = trial.names[probe], let address = host.address(ofNode: name, in: candidate.revision) else {
                continue
            }
            trial.probes.insert(Probe(address, interface: candidate.mesh.interface))
        }
        trial.answered = []
        trial.phase = .judging(until: now + confirm.within)
        trial.nextRound = now + Trial.round
        if trial.probes.isEmpty, !confirm.isManual {
            self.trial = nil
            say(
                .notice, .confirm,
                "nobody answers who could prove a change: topology \(candidate.revision.id) is not on trial")
            enforce(candidate)
            settle(candidate.revision)
            return
        }
        let now = host.now()
        let deadline = UnixTime(seconds: now.seconds + confirm.within.components.seconds, nanoseconds: now.nanoseconds)
        let record = TrialRecord(
            id: candidate.revision.id, deadline: deadline,
            wanted: trial.probes.subtracting(named).map(\.address), isRejected: false)
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
                + (confirm.isManual ? "`weft agent confirm` keeps it" : "\(words(trial.missing)) must answer"))
        enforce(candidate)
    }

    /// A person, or the facts, confirm the change under way.
    ///
    /// - Returns: false where there is none.
    @discardableResult
    package func confirm(by whom: String) -> Bool {
        guard let (trial, candidate, _) = trial, case .judging = trial.phase else { return false }
        self.trial = nil
        settle(candidate.revision)
        try? host.store(nil, of: candidate.mesh)
        let reason = whom.isEmpty ? words(Array(trial.answered)) + " answered" : whom
        say(.notice, .confirm, "topology \(candidate.revision.id) is confirmed: \(reason)")
        return true
    }

    /// A person takes the change under way back.
    ///
    /// - Returns: false where there is none.
    package func revert() -> Bool {
        guard let (trial, candidate, previous) = trial else { return false }
        takeBack(trial, candidate, previous)
        return true
    }

    private func takeBack(_ trial: Trial, _ candidate: Force, _ previous: Force) {
        self.trial = nil
        let id = candidate.revision.id
        let reason = trial.missing.isEmpty ? "nobody confirmed it" : "no answer from \(words(trial.missing))"
        let problem = AgentProblem("topology \(id) was taken back: \(reason); it is not tried again until it changes")
        rejected = (id, problem)
        if let record = host.trial(of: candidate.mesh) { reject(record, of: candidate.mesh) }
        enforce(previous)
        // What the host adds may have changed since it was compiled.
        wake(.compile)
        say(.error, .confirm, problem.summary)
        refusal = problem
    }

    private func reject(_ record: TrialRecord, of mesh: MeshIdentity) {
        var record = record
        record.isRejected = true
        do throws(AgentProblem) {
            try host.store(record, of: mesh)
        } catch {
            say(.error, .confirm, error.summary)
        }
    }

    /// Questions to ask now.
    package func takeProbes() -> [Probe] {
        defer { due = [] }
        return due
    }

    /// Somebody answered.
    package func note(answerTo probe: Probe) {
        if trial?.trial.probes.contains(probe) == true { trial?.trial.answered.insert(probe) }
    }

    /// The topology on trial, for the status document.
    package var onTrial: String? {
        guard let trial, case .judging = trial.trial.phase else { return nil }
        return trial.candidate.revision.id
    }

    private func words(_ probes: [Probe]) -> String {
        let names = probes.map { probe -> String in
            let peer = force?.desired.state.peers.first {
                $0.allowedIPs.contains { $0.isHost && $0.address == probe.address }
            }
            let name = peer.flatMap { force?.desired.peerNames[$0.publicKey] }
            return name.map { "\($0) (\(probe.address))" } ?? "\(probe.address)"
        }.sorted()
        return names.count > 4
            ? names.prefix(4).joined(separator: ", ") + " and \(names.count - 4) more" : names.joined(separator: ", ")
    }
}
