// What the folder holds becomes what is in force, or is refused and said.

import WeftDiagnostics
import WeftModel
import WeftPlan
import WeftTopology

extension MeshController {
    /// As many lines of what `weft check` would print go to the log.
    private static var linesOfDetails: Int { 40 }

    func readTopology(at now: ContinuousClock.Instant) {
        let reading = host.read()
        if case .awaited = reading { isFolderAwaited = true } else { isFolderAwaited = false }
        if case .good(let revision) = reading { consider(revision, at: now) }
        if force == nil, let kept = host.kept() { adopt(kept, at: now) }
        if case .broken(let problem) = reading { refuse(problem) }
        lookAtMemory()
    }

    /// Whether what the folder holds, as far as that is known, is what is in force.
    package var isFolderInForce: Bool {
        force?.revision.origin == .folder && refusal == nil && trial == nil && !pending.contains(.topology)
    }

    private func consider(_ revision: Revision<Host.Source>, at now: ContinuousClock.Instant) {
        if revision.id == trial?.candidate.revision.id { return }
        let isWithdrawn = withdraw(at: now)
        if revision.id == force?.revision.id {
            if refusal != nil || isWithdrawn {
                say(.notice, .revision, "the topology is again what is in force (\(revision.id))")
            }
            if let mesh = force?.mesh, trial == nil, let record = host.trial(of: mesh), !record.isRejected,
                record.id != revision.id
            {
                arrears.isTrialOver = true
                catchUp()
            }
            (refusal, rejected) = (nil, nil)
            force?.revision.origin = .folder
        } else if let rejected, revision.id == rejected.id {
            refuse(rejected.problem)
        } else {
            adopt(revision, at: now)
        }
    }

    /// Takes a topology into force, or begins its trial, where it can be on this host.
    private func adopt(_ revision: Revision<Host.Source>, at now: ContinuousClock.Instant) {
        do throws(AgentProblem) {
            if force == nil { try prime(revision) }
            let compilation = try host.compile(revision, names: names)
            let candidate = Force(revision: revision, compilation: compilation)
            if let old = force?.mesh, old != candidate.mesh {
                throw AgentProblem(
                    "the topology now calls this host's mesh \(candidate.mesh.mesh) on \(candidate.mesh.interface): sessions "
                        + "cannot move there; stop the agent, `weft down --interface \(old.interface)`, and start it again"
                )
            }
            try host.takeCharge(of: candidate.mesh)
            // What is on trial is in force, and will be read soon.
            if revision.origin == .kept, isFolderAwaited,
                host.trial(of: candidate.mesh)?.isAwaited(at: host.now()) == true
            {
                return
            }
            if try isAwaited(candidate, at: now) { return }
            enforce(candidate, isRestored: candidate.revision.origin == .kept && rejected != nil)
            settle(candidate.revision)
        } catch {
            if revision.origin == .kept { refuseKept(error) } else { refuse(error) }
            keepShut(revision, because: error)
        }
    }

    /// A kill switch that was in force is kept shut also where this host's keys cannot be used, until they can.
    private func keepShut(_ revision: Revision<Host.Source>, because problem: AgentProblem) {
        guard force == nil, standIn == nil,
            let compilation = host.compileWithoutKeys(revision, because: problem)
        else { return }
        let mesh = compilation.desired.identity
        do throws(AgentProblem) {
            try host.takeCharge(of: mesh)
            do throws(DataplaneError) { memory = try host.memory(of: mesh) } catch { throw AgentProblem("\(error)") }
            standIn = Force(revision: revision, compilation: compilation)
            say(
                .warning, .revision,
                "the kill switch of \(mesh.interface) is kept shut as it was; all else, edits of it too, waits for the keys"
            )
            wake(.pass)
        } catch {
            say(.error, .agent, "the kill switch of \(mesh.interface) cannot be seen to: \(error.summary)")
        }
    }

    /// From now on this is what is wanted.
    ///
    /// - Parameter isRestored: it was in force before a trial.
    func enforce(_ candidate: Force, isRestored: Bool = false) {
        force = candidate
        standIn = nil
        if candidate.revision.origin == .folder { refusal = nil }
        obsolescence = nil
        guarding.reset()
        heldUntil = nil
        isSettled = false
        (reported, spared) = ([], [])
        let origin =
            switch candidate.revision.origin {
            case .nothing: "there was no topology before: the mesh goes"
            case _ where isRestored: "topology \(candidate.revision.id), in force again"
            case .folder: "topology \(candidate.revision.id), in force"
            case .kept where isFolderAwaited:
                "topology \(candidate.revision.id), kept from before, in force until the folder can be read"
            case .kept:
                "topology \(candidate.revision.id), kept from before, because what is in the folder cannot be used"
            }
        say(.notice, .revision, origin)
        if !candidate.leftOut.isEmpty {
            say(
                .warning, .revision,
                "without \(candidate.leftOut.sorted().joined(separator: ", ")), until their preshared keys are there again"
            )
        }
        for warning in candidate.compilation.diagnostics { say(.warning, .revision, warning.message) }
        wake(.pass)
    }

    /// It is what the next start begins with.
    func settle(_ revision: Revision<Host.Source>) {
        if revision.origin != .folder { return }
        arrears.revision = revision
        arrears.isTrialOver = true
        catchUp()
    }

    /// What was remembered of the mesh: endpoints' names have their last answers in it.
    private func prime(_ revision: Revision<Host.Source>) throws(AgentProblem) {
        let mesh = try host.compile(revision, names: [:]).desired.identity
        do throws(DataplaneError) {
            memory = try host.memory(of: mesh)
        } catch {
            say(.warning, .agent, error.description)
        }
        for endpoint in memory.endpoints.entries.map(\.endpoint) {
            guard let written = endpoint.name, let colon = written.lastIndex(of: ":") else { continue }
            names[String(written[..<colon])] = [endpoint.address.address]
        }
    }

    func refuse(_ problem: AgentProblem) {
        if refusal != problem { tell(problem) }
        refusal = problem
    }

    private func refuseKept(_ problem: AgentProblem) {
        // Where it is what the folder holds, that has been said.
        if keptRefusal != problem, refusal != problem {
            say(.error, .revision, "what was kept from before cannot be in force instead: \(problem.summary)")
        }
        keptRefusal = problem
    }

    private func tell(_ problem: AgentProblem) {
        let rest = force.map { "; \($0.revision.id) stays in force" } ?? "; nothing is in force yet"
        say(.error, .revision, problem.summary + rest)
        // Where a generator went astray, the first ones tell; the status has all.
        let lines = problem.details.split(separator: "\n")
        for line in lines.prefix(Self.linesOfDetails) { say(.error, .revision, String(line)) }
        if lines.count > Self.linesOfDetails {
            say(.error, .revision, "… and \(lines.count - Self.linesOfDetails) lines more: `weft check` shows them")
        }
    }

    /// Of this host and its peers: for the others nothing changes here.
    private func tellWhoExpired(from old: Compilation, to new: Compilation) {
        if old.expired == new.expired { return }
        let peers = Set(old.desired.peerNames.values).union(new.desired.peerNames.values)
        func tell(_ nodes: [String: UnixTime], _ words: (String, UnixTime, Bool) -> String) {
            for (name, time) in nodes.sorted(by: { $0.key < $1.key })
            where name == old.desired.node || peers.contains(name) {
                say(.notice, .revision, words(name, time, name == old.desired.node))
            }
        }
        tell(new.expired.filter { old.expired[$0.key] == nil }) { name, time, isOwn in
            isOwn
                ? "this host, \(name), expired at \(time), as the topology says: its mesh goes"
                : "\(name) expired at \(time), as the topology says: it is no peer any more"
        }
        tell(old.expired.filter { new.expired[$0.key] == nil }) { name, time, isOwn in
            "\(isOwn ? "this host, \(name)," : name) expires at \(time), which by the clock is yet to come: it is back"
        }
    }

    func compileAgain() {
        guard let force else { return }
        do throws(AgentProblem) {
            let compilation = try host.compile(force.revision, names: names) { force.leftOut.contains($0) }
            guard compilation.desired.identity == force.mesh else { return }
            tellWhoExpired(from: force.compilation, to: compilation)
            let isNew = compilation.desired.state != force.desired.state
            self.force?.compilation = compilation
            if isNew {
                if settings.drift == .report { spared.formUnion(reported) }
                isSettled = false
                reported = []
            }
            obsolescence = nil
            wake(.pass)
        } catch {
            if obsolescence != error { tell(error) }
            obsolescence = error
        }
    }
}
