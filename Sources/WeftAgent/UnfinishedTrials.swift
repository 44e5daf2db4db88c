// Trials that end without a verdict: withdrawn, left by an agent that stops, replaced by something else.

import WeftModel
import WeftPlan

extension MeshController {
    /// The folder holds something else by now than what was about to be tried: that is not tried then.
    ///
    /// - Returns: whether anything was.
    func withdraw(at now: ContinuousClock.Instant) -> Bool {
        guard isMeasuring, let previous = trial?.previous else { return false }
        trial = nil
        goOn(with: previous, at: now)
        return true
    }

    /// A trial that another change was to replace goes on; where its time is over meanwhile, it has failed.
    ///
    /// - Parameter previous: what was before it.
    func goOn(with previous: Force, at now: ContinuousClock.Instant) {
        guard let force, let record = host.trial(of: force.mesh), record.id == force.revision.id else { return }
        do throws(AgentProblem) {
            _ = try resume(force, record, at: now)
        } catch {
            refuse(error)
            enforce(previous, isRestored: true)
            refusal = error
            wake(.compile)
        }
    }

    /// The agent ends: from now on nobody watches over a trial.
    package func leave(at now: ContinuousClock.Instant) {
        guard let onTrial, let trialEnds else { return }
        let left = max(0, (trialEnds - now).components.seconds)
        say(
            .warning, .confirm,
            "topology \(onTrial) is on trial, and nobody watches over it from now on: an agent that is started within \(left) "
                + "s goes on with it; after that the next agent, `weft apply` or `weft revert` takes it back")
    }

    /// What was before a trial is in force again: nobody need take it back any more.
    func markUndone() {
        guard rejected != nil, trial == nil, let force, var record = host.trial(of: force.mesh), record.isRejected,
            !record.isUndone, record.id != force.revision.id
        else { return }
        record.isUndone = true
        reject(record, of: force.mesh)
    }

    /// What an earlier trial left is replaced by something else. What failed is still not tried again.
    func closeTrial(of mesh: MeshIdentity) throws(AgentProblem) {
        guard var record = host.trial(of: mesh), !record.isUndone else { return }
        record.isUndone = true
        try host.store(record.isRejected ? record : nil, of: mesh)
    }
}
