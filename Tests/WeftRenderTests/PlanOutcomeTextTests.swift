// What came of each operation, and the conclusion.

import Testing
import WeftModel
import WeftPlan

@testable import WeftRender

@Suite struct PlanOutcomeTextTests {
    private func text(_ plan: Plan, full: Bool = false) -> PlanOutcomeText {
        PlanOutcomeText(plan, labels: Samples.labels, options: TextOptions(full: full))
    }

    private let busy = DataplaneError(
        .portInUse, "UDP port 51821 belongs to another socket: stop that program, or give the node another listenPort",
        errno: 98, kernelText: "Address already in use", operation: "set listen port")

    @Test func everyOperation() throws {
        let plan = Samples.everything
        let outcomes = plan.operations.indices.map { index -> Outcome in
            switch index % 4 {
            case 1: .already
            case 2 where index < 8: .failed(busy)
            case 3 where index > 12: .skipped("the device could not be configured")
            default: .done
            }
        }
        let text = text(plan)
        let lines = text.text(of: plan.operations.indices, outcomes: outcomes)
        try expectGolden(
            lines + "\n" + text.conclusion(outcomes: outcomes, remaining: plan), "outcome-everything.txt")
    }

    @Test func longRunsAreFoldedAndFailuresAreNot() throws {
        let (plan, labels) = Samples.large(600)
        let renderer = PlanOutcomeText(plan, labels: labels)
        var outcomes = [Outcome](repeating: .done, count: plan.operations.count)
        outcomes[3] = .failed(busy)
        let lines = renderer.text(of: 0..<500, outcomes: outcomes)
        #expect(
            lines == """
                done     + peer node-00000 AAAAABI0…
                done     + peer node-00001 AAAAARI0…
                done     + peer node-00002 AAAAAhI0…
                failed   + peer node-00003 AAAAAxI0…: UDP port 51821 belongs to another socket: stop that program, or \
                give the node another listenPort (kernel: Address already in use)
                done     + 496 peers

                """)
        let full = PlanOutcomeText(plan, labels: labels, options: TextOptions(full: true))
        #expect(full.text(of: 0..<500, outcomes: outcomes).split(separator: "\n").count == 500)
    }

    @Test func allWentWell() {
        let plan = Samples.everything
        let outcomes = [Outcome](repeating: .done, count: plan.operations.count)
        #expect(
            text(plan).conclusion(outcomes: outcomes, remaining: Samples.plan([])) == """
                Applied: 8 added, 14 changed, 5 removed.
                wg0 is as the topology wants it.

                """)
    }

    @Test func somebodyElseChangesIt() {
        let plan = Samples.everything
        let outcomes = [Outcome](repeating: .done, count: plan.operations.count)
        let remaining = Samples.plan(Array(plan.operations.suffix(1)))
        #expect(
            text(plan).conclusion(outcomes: outcomes, remaining: remaining) == """
                Applied: 8 added, 14 changed, 5 removed.
                wg0 is not as the topology wants it although every operation succeeded: 0 to add, 1 to change, 0 to \
                remove. Another program may be changing it; `weft plan` shows what differs.

                """)
    }

    @Test func failuresSayWhetherToTryAgain() {
        let plan = Samples.everything
        var outcomes = [Outcome](repeating: .done, count: plan.operations.count)
        outcomes[0] = .failed(DataplaneError(.notPermitted, "not permitted: run it as root"))
        let terminal = text(plan).conclusion(outcomes: outcomes, remaining: plan)
        #expect(terminal.contains("It will fail again until the cause is mended"))
        outcomes[0] = .failed(busy)
        let retryable = text(plan).conclusion(outcomes: outcomes, remaining: plan)
        #expect(retryable.contains("Run it again to go on from what is there now."))
    }

    @Test func whatWasTakenBackIsNotDone() {
        let plan = Samples.everything
        var outcomes = [Outcome](repeating: .skipped("the link could not be made"), count: plan.operations.count)
        outcomes[0] = .done
        outcomes[1] = .takenBack("the link could not be brought up")
        outcomes[2] = .takenBack("the link could not be brought up")
        outcomes[3] = .failed(busy)
        #expect(
            text(plan).conclusion(outcomes: outcomes, remaining: nil).hasPrefix(
                text(plan).text(of: 1..<3, outcomes: outcomes)
                    + "Applied in part: 1 done, 1 failed, \(outcomes.count - 4) skipped, 2 undone with the interface.\n"
            ))
        let lines = text(plan).text(of: 1..<3, outcomes: outcomes).split(separator: "\n")
        #expect(lines.allSatisfy { $0.hasPrefix("undone   ") && $0.hasSuffix(": the link could not be brought up") })
        let documents = ApplyDocument(
            plan: PlanDocument(plan, labels: Samples.labels), outcomes: outcomes, converged: false, remaining: nil
        ).outcomes
        #expect(documents[1].result == "taken-back" && documents[1].reason == "the link could not be brought up")
    }

    @Test func unreadableAfterwards() {
        let plan = Samples.everything
        let outcomes = [Outcome](repeating: .done, count: plan.operations.count)
        let error = DataplaneError(.inconsistent, "the host keeps changing", operation: "read routes")
        #expect(
            text(plan).conclusion(outcomes: outcomes, remaining: nil, verificationError: error).hasSuffix(
                "What is there now could not be read: read routes: the host keeps changing\n"))
    }

    @Test func takingDown() {
        let plan = Samples.plan([PlannedOperation(.link(.remove(interface: "wg0")), effect: .outage)])
        #expect(
            text(plan).conclusion(outcomes: [.done], remaining: Samples.plan([])) == """
                Applied: 0 added, 0 changed, 1 removed.
                wg0 is gone.

                """)
    }
}
