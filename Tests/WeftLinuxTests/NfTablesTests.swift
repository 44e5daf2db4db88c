// The table of a mesh on the running kernel, with `nft` as the oracle of what was written and as the hand that changes it.

import Glibc
import Netlink
import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite(.enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct NfTablesTests {
    /// Runs a test on a table in a namespace of its own.
    private func onKernel(_ body: (Tables) throws -> Void) throws {
        try TestNamespace.run { try body(Tables()) }
    }

    // MARK: What is written, and what is read

    @Test func writesWhatNftPrintsAndReadsItBack() throws {
        try onKernel { tables in
            #expect(try tables.firewall() == nil)
            #expect(tables.make(.sample) == .done)
            #expect(Tables.text == Firewall.sampleText)
            let read = try #require(try tables.firewall())
            for (live, wanted) in zip(read.sets, Firewall.sample.sets) { #expect(live == wanted) }
            for (live, wanted) in zip(read.chains, Firewall.sample.chains) { #expect(live == wanted) }
            #expect(read == .sample)
        }
    }

    @Test func readsWhatNftWrites() throws {
        try onKernel { tables in
            Tables.nft(Firewall.sampleText)
            var read = try #require(try tables.firewall())
            // nft 1.0.6 turns the bytes of a protocol in a key, of which there is one, and so none.
            let rule = try #require(read.chains[0].rules.firstIndex { $0.comment == "allowed" })
            #expect(read.chains[0].rules[rule].expressions.contains(.unknown("byteorder")))
            read.chains[0].rules[rule].expressions.removeAll { $0 == .unknown("byteorder") }
            for (live, wanted) in zip(read.sets, Firewall.sample.sets) { #expect(live == wanted) }
            for (live, wanted) in zip(read.chains, Firewall.sample.chains) { #expect(live == wanted) }
            #expect(read == .sample)
        }
    }
}
