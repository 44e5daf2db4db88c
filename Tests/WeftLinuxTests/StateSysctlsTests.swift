// What was there before a sysctl was written, until the last claim on it ends.

import Glibc
import Testing
import WeftDiagnostics
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite struct StateSysctlsTests {
    private let temporary = TemporaryFolder()

    private func ledger(boot: String = "a") -> StateSysctls {
        StateSysctls(StateFolder(path: temporary.path, namespace: "host", bootID: boot))
    }

    @Test func theFirstValueStaysUntilTheLastClaimEnds() throws {
        var ledger = ledger()
        let forwarding = Sysctl("net/ipv4/ip_forward", "1")
        try ledger.record(forwarding, over: "0", companions: [], by: "wg0")
        try ledger.record(forwarding, over: "1", companions: [], by: "wg1")
        #expect(
            try ledger.memory()
                == SysctlMemory(
                    originals: [forwarding.path: .init(value: "0", written: "1")],
                    claims: ["wg0": [forwarding.path], "wg1": [forwarding.path]]))
        try ledger.release(forwarding.path, by: "wg0")
        #expect(try ledger.memory().originals[forwarding.path]?.value == "0")
        try ledger.release(forwarding.path, by: "wg0")
        try ledger.release(forwarding.path, by: "wg1")
        #expect(try ledger.memory() == SysctlMemory())
    }

    /// What the kernel changes along with a setting is remembered as it was before the first claim.
    @Test func theFirstCompanionsStayToo() throws {
        var ledger = ledger()
        let forwarding = Sysctl("net/ipv4/ip_forward", "1")
        let redirects = Sysctl("net/ipv4/conf/all/accept_redirects", "0")
        try ledger.record(forwarding, over: "0", companions: [redirects], by: "wg0")
        try ledger.record(
            forwarding, over: "0", companions: [Sysctl("net/ipv4/conf/br0/forwarding", "1")], by: "wg1")
        #expect(try ledger.memory().originals[forwarding.path]?.companions == [redirects.path: "0"])
        #expect(try ledger.memory().companions(ofClaimsBy: "wg1") == [redirects.path])
        #expect(try ledger.memory().companions(ofClaimsBy: "wg2") == [])
        try ledger.release(forwarding.path, by: "wg0")
        try ledger.release(forwarding.path, by: "wg1")
        #expect(try ledger.memory() == SysctlMemory())
        // One that was right already has none, even if it is written later.
        try ledger.record(forwarding, over: "1", companions: [], by: "wg0")
        try ledger.record(forwarding, over: "0", companions: [redirects], by: "wg0")
        #expect(try ledger.memory().originals[forwarding.path] == .init(value: "1", written: "1"))
    }

    @Test func aRebootVoidsIt() throws {
        var old = ledger()
        try old.record(Sysctl("a", "1"), over: "0", companions: [], by: "wg0")
        var new = ledger(boot: "b")
        #expect(try new.memory() == SysctlMemory())
        try new.record(Sysctl("b", "1"), over: "0", companions: [], by: "wg0")
        #expect(try new.memory().originals.keys.sorted() == ["b"])
    }

    @Test func anInterfaceOfAnyNameHasItsOwnFile() throws {
        var ledger = ledger()
        try ledger.record(Sysctl("a", "1"), over: "0", companions: [], by: "sysctls")
        let folder = StateFolder(path: temporary.path, namespace: "host", bootID: "a")
        try folder.store(programToken: "t", of: "sysctls")
        #expect(try ledger.memory().claims["sysctls"] == ["a"])
        #expect(try folder.programToken(of: "sysctls") == "t")
    }
}
