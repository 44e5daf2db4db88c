// Text in two words: what fits, what does not, and that it is the same text again.

import Testing
import WeftModel

@Suite struct ShortTextTests {
    @Test(arguments: ["", "a", "access-", "access-0", "access-refused", "access-0a1b2c3d", "é→ü→é"])
    func holds(text: String) throws {
        let short = try #require(ShortText(text))
        #expect(short.description == text)
        #expect(short.isEmpty == text.isEmpty)
        #expect(short != ShortText("x" + text.dropFirst()))
    }

    @Test(arguments: ["sixteen bytes …", "access-0a1b2c3d4", "a\0", "\0"])
    func refuses(text: String) {
        #expect(ShortText(text) == nil)
    }

    @Test func literalsAndWordsAreTheSame() {
        #expect(ShortText("access-0a1b2c3d" as String) == "access-0a1b2c3d")
        #expect(ShortText(0x2D73_7365_6363_61, 0) == ("access-" as ShortText))
        #expect(ShortText(0, 1 << 56) == nil)
    }
}
