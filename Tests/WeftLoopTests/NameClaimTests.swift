// Names of a network namespace: one has it, others learn who, and it is free when he lets go.

import Glibc
import Testing

@testable import WeftLoop

@Suite struct NameClaimTests {
    private let name = "weft-test/\(UInt64.random(in: .min ... .max))"

    @Test func oneHasIt() throws {
        let claim = try NameClaim(name)
        #expect(NameClaim.holder(of: name) == NameClaim.Holder(process: getpid(), user: geteuid()))
        do throws(LoopError) {
            _ = try NameClaim(name)
            Issue.record("two have it")
        } catch {
            #expect(error.errno == EADDRINUSE)
        }
        withExtendedLifetime(claim) {}
    }

    @Test func itIsFreeAfterwards() throws {
        _ = try NameClaim(name)
        // A program that another suite is starting at this moment has our descriptors until it runs.
        for _ in 0..<500 where NameClaim.holder(of: name) != nil { usleep(10_000) }
        #expect(NameClaim.holder(of: name) == nil)
        _ = try NameClaim(name)
    }

    @Test func manyMayAsk() throws {
        let claim = try NameClaim(name)
        for _ in 0..<3 {
            for _ in 0..<2000 { #expect(NameClaim.holder(of: name) != nil) }
            claim.dismissWhoAsked()
        }
    }
}
