// Times as people say them.

import Testing

@testable import WeftCommand

@Suite struct ConfirmTimeTests {
    @Test(arguments: [("60", 60), ("60s", 60), ("2m", 120), ("10", 10)])
    func times(text: String, seconds: Int) { #expect(ConfirmTime(argument: text) == .within(seconds: seconds)) }

    @Test func noTime() { #expect(ConfirmTime(argument: "off") == .off) }

    @Test(arguments: ["", "s", "m", "soon", "-5", "1h", "60 s", "6０", "1.5m", "999999999999", "off "])
    func refused(text: String) { #expect(ConfirmTime(argument: text) == nil) }
}
