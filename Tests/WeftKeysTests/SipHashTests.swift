// SipHash against the numbers of its authors' reference implementation.

import Testing

@testable import WeftKeys

@Suite struct SipHashTests {
    /// Key 00 01 … 0f, input 00 01 … 1f: vectors_sip128[32] of the reference implementation (SipHash-2-4).
    @Test func isTheReferences() {
        let words: [UInt64] = [
            0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908, 0x1716_1514_1312_1110, 0x1F1E_1D1C_1B1A_1918,
        ]
        let key = (words[0], words[1])
        let hash = SipHash.hash(key: key, compression: 2, finalization: 4) { words[$0] }
        #expect(hash == (0x3EFC_EA5E_CA56_397C, 0x68EB_4665_559D_3E36))
    }

    @Test func dependsOnKeyInputAndRounds() {
        func hash(_ key: UInt64, _ word: UInt64, at place: Int, compression: Int = 1) -> UInt64 {
            SipHash.hash(key: (key, 0), compression: compression, finalization: 3) { $0 == place ? word : 0 }.0
        }
        let all = [
            hash(0, 0, at: 0), hash(1, 0, at: 0), hash(0, 0, at: 0, compression: 2), hash(0, 1, at: 0),
            hash(0, 1, at: 1), hash(0, 1, at: 2), hash(0, 1, at: 3),
        ]
        #expect(Set(all).count == all.count)
    }
}
