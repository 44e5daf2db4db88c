// What must outlive the agent: it is written down, where it cannot be it is tried again, and nothing else waits for it.

import WeftModel
import WeftPlan

extension MeshController {
    /// What is still to be written to the state folder.
    struct Arrears {
        /// What the next start begins with.
        var revision: Revision<Host.Source>?
        var isMemoryNew = false
        /// That the last trial is over.
        var isTrialOver = false
        /// Why the last try failed.
        var problem: String?
    }

    /// Writes down what is in arrears. A state folder that is full or read-only must not keep the tunnels from being
    /// healed; it is said once, and stands in the status until it is over.
    func catchUp() {
        guard let force, arrears.revision != nil || arrears.isMemoryNew || arrears.isTrialOver else { return }
        var problem: String?
        if let revision = arrears.revision {
            do throws(AgentProblem) {
                try host.keep(revision)
                arrears.revision = nil
            } catch {
                problem = "\(error.summary): after a restart without a topology there is none to go by"
            }
        }
        // Not before what it has confirmed: that would be taken for what failed.
        if arrears.isTrialOver, arrears.revision == nil, trial == nil {
            do throws(AgentProblem) {
                try closeTrial(of: force.mesh)
                arrears.isTrialOver = false
            } catch {
                problem = problem ?? "\(error.summary): after a restart a trial would not be known to be over"
            }
        }
        if arrears.isMemoryNew {
            do throws(DataplaneError) {
                try host.remember(memory, of: force.mesh)
                arrears.isMemoryNew = false
            } catch {
                problem = problem ?? error.description
            }
        }
        if let problem, arrears.problem == nil {
            say(.warning, .agent, "\(problem). It is tried again; the tunnels do not hang on it")
        } else if problem == nil, arrears.problem != nil {
            say(.notice, .agent, "what must be remembered is written down again")
        }
        arrears.problem = problem
        lookAtMemory()
    }

    /// Says what of the state folder could not be used.
    func lookAtMemory() {
        let found = host.memoryProblems
        for problem in found where !saidOfMemory.contains(problem) {
            saidOfMemory.insert(problem)
            say(.warning, .agent, problem)
        }
        memoryProblems = (arrears.problem.map { [$0] } ?? []) + found
    }

    /// Somebody may have removed the state folder, and with it what keeps others from the interface.
    func stayInCharge() {
        guard let force else { return }
        do throws(AgentProblem) {
            try host.takeCharge(of: force.mesh)
            if rival != nil { say(.notice, .agent, "in charge of \(force.mesh.interface) again") }
            rival = nil
        } catch {
            // That the lock cannot be made anew is no reason to let the tunnels go.
            guard error.isFatal else { return }
            if rival != error { say(.error, .agent, error.summary) }
            rival = error
        }
    }
}
