// What a person decides about a change on trial.

import Testing

@testable import WeftCommand

@Suite struct TrialOrderTests {
    @Test func namesAnInterfaceOrNone() throws {
        let all = try #require(TrialOrder("confirm"))
        #expect(all.verb == .confirm && all.interface == nil && all.request == "confirm")
        let one = try #require(TrialOrder("revert wg1"))
        #expect(one.verb == .revert && one.interface == "wg1" && one.request == "revert wg1")
        #expect(one.refusal == "no change is on trial on wg1")
        #expect(TrialOrder("status") == nil && TrialOrder("") == nil && TrialOrder("confirmed") == nil)
    }
}
