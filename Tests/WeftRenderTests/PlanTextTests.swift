// Plans as people read them, whole.

import Testing
import WeftModel
import WeftPlan

@testable import WeftRender

@Suite struct PlanTextTests {
    @Test func freshHost() throws {
        let desired = Samples.desired
        let plan = Samples.plan(
            desired, from: Observation(state: HostState(sysctls: Samples.sysctlsBefore), time: Samples.now))
        try expectGolden(PlanText(plan, labels: PlanLabels(desired)).text, "plan-fresh.txt")
    }
}
