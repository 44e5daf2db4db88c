// What came of an apply, as a versioned document.

package import WeftPlan

/// `weft apply --format json` and `weft down --format json`. Field by field in ApplyFormat.md, and in apply.schema.json.
package struct ApplyDocument: Codable, Hashable, Sendable {
    /// What came of one operation.
    package struct Outcome: Codable, Hashable, Sendable {
        /// `done`, `already`, `failed`, `skipped` or `taken-back`.
        package var result: String
        /// Why it failed, was skipped or was taken back; absent otherwise.
        package var reason: String?
        /// Whether the same may succeed later without anybody changing anything; only of failures.
        package var retryable: Bool?
    }

    package var format: String
    package var version: Int
    /// What was planned.
    package var plan: PlanDocument
    /// Of `plan.operations`, index by index.
    package var outcomes: [Outcome]
    /// Whether the host, read again, is as wanted.
    package var converged: Bool
    /// What a plan would still do; absent where the host could not be read again.
    package var remaining: PlanDocument?
    /// What came of the change's trial; absent where it was made without one.
    package var trial: Trial?

    /// The end of a trial.
    package struct Trial: Codable, Hashable, Sendable {
        /// `confirmed`, `taken-back` or `untried`.
        package var result: String
        /// By whom or what, for people.
        package var reason: String

        package init(result: String, reason: String) {
            self.result = result
            self.reason = reason
        }
    }

    package init(
        plan: PlanDocument, outcomes: [WeftPlan.Outcome], converged: Bool, remaining: PlanDocument?
    ) {
        format = "weft.apply"
        version = 1
        self.plan = plan
        self.outcomes = outcomes.map { outcome in
            switch outcome {
            case .done: Outcome(result: "done")
            case .already: Outcome(result: "already")
            case .failed(let error):
                Outcome(result: "failed", reason: error.description, retryable: error.isRetryable)
            case .skipped(let reason): Outcome(result: "skipped", reason: reason)
            case .takenBack(let reason): Outcome(result: "taken-back", reason: reason)
            }
        }
        self.converged = converged
        self.remaining = remaining
    }
}
