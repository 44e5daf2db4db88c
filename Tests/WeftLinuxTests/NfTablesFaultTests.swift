// Reading and writing a table while exchanges go wrong, while others write, and on kernels that know no tables.

import CLinux
import Glibc
import Netlink
import Testing
import WeftFaults
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite(.serialized, .enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct NfTablesFaultTests {
    private static let faults: [FaultCase] = {
        let once: [Fault] = [
            .refuse(ERESTART), .refuse(EPERM), .refuse(ENOMEM), .refuse(ENOENT), .refuse(EINVAL), .refuse(EEXIST),
            .refuse(EINTR), .refuse(EBUSY), .refuseAll(ENOMEM), .send(ENOBUFS), .send(EMSGSIZE), .signals(20), .lose,
            .delay, .cut, .overlong, .duplicate, .interrupt,
        ]
        let lasting: [Fault] = [.refuse(EPERM), .refuse(ERESTART), .send(ENOBUFS), .lose, .interrupt, .signals(2)]
        let cases =
            once.map { FaultCase(fault: $0, extent: .once) } + lasting.map { FaultCase(fault: $0, extent: .forEver) }
        return cases.enumerated().map { index, one in
            var one = one
            one.first = index % FaultCase.stride
            return one
        }
    }()

    /// Another table than the sample: something of each kind is added, changed and removed.
    private static let other: Firewall = {
        var firewall = Firewall.sample
        firewall.counters.append(FirewallCounter("new", comment: "new"))
        firewall.edit(set: "ports4") { $0.elements.removeFirst() }
        firewall.edit(set: "nat-src4") { $0.elements.append(.init(key("172.16.0.0"), key("172.16.0.9"))) }
        firewall.edit(chain: "guard") { $0.rules[0].comment = "another" }
        firewall.chains.remove(at: firewall.index(ofChain: "restore"))
        return firewall
    }()

    @Test(arguments: faults)
    func aFaultLeavesTheOldTableOrTheNewOne(_ fault: FaultCase) throws {
        try TestNamespace.run { () throws in
            let clean = try Tables()
            for (from, to): (Firewall?, Firewall?) in [(nil, .sample), (.sample, Self.other), (Self.other, nil)] {
                var number = fault.first
                while number < 100 {
                    _ = try clean.lead(to: from)
                    let script = FaultScript()
                    let struck = try Tables(FaultyTransport(Socket(.netfilter), script, .netfilter))
                    script.arm(fault.fault, at: number, fault.extent)
                    var outcome: Outcome?
                    var refusal: DataplaneError?
                    do throws(DataplaneError) { outcome = try struck.lead(to: to) } catch { refusal = error }
                    let count = script.struck
                    script.disarm()
                    let live = try clean.firewall()
                    // Where nothing more comes through between two steps, what is there is one of them, whole.
                    let steps = try bridge(from, to)
                    #expect(
                        live == from || live == to || steps.contains { $0 == live },
                        "exchange \(number) \(fault) \(outcome) \(refusal)")
                    if fault.extent == .once {
                        #expect(live == from || live == to, "exchange \(number) \(fault) \(outcome)")
                    }
                    if outcome == .done { #expect(live == to, "exchange \(number)") }
                    if let error = refusal ?? failure(outcome) { #expect(!error.message.isEmpty) }
                    if count == 0 {
                        #expect(outcome == .done && live == to)
                        break
                    }
                    // The next pass, over the same socket, in which late answers may still stand.
                    _ = try struck.lead(to: to)
                    #expect(try clean.firewall() == to, "after exchange \(number)")
                    number += FaultCase.stride
                }
                // Where there is no table nothing is dumped.
                #expect(number > (fault.fault == .interrupt ? -1 : 1) && number < 100, "struck, and there was an end")
            }
        }
    }

    /// What a change over several steps goes through.
    private func bridge(_ from: Firewall?, _ to: Firewall?) throws -> [Firewall] {
        guard let from, let to else { return [] }
        let bridge = try #require(NfTablesBridge(FirewallChange(desired: to, live: from), live: from))
        #expect(bridge.states.count == 4 && bridge.states.first == from && bridge.states.last == to)
        return bridge.states
    }

    // MARK: Others who write

    /// Somebody changes everything at once, again and again, while it is read: what is read is one of both, and never a
    /// part of one with a part of the other.
    @Test func whatIsReadIsWhatWasThereAtOneMoment() throws {
        try TestNamespace.run { () throws in
            let tables = try Tables()
            #expect(tables.make(Self.other) == .done)
            let texts = [Firewall.sampleText, Tables.text].map { "delete table inet weft-wg0\n\($0)" }
            let folder = TemporaryFolder()
            for (index, text) in texts.enumerated() { folder.write(text, to: "\(index)") }
            Tables.nft(texts[0])
            let first = try #require(try tables.firewall())
            Tables.nft(texts[1])
            let second = try #require(try tables.firewall())
            #expect(first != second)
            let writer = popen(
                "for i in $(seq \(FaultCase.isNightly ? 400 : 80)); do nft -f \(folder.path)/0; nft -f \(folder.path)/1; done; echo done",
                "r")
            let pipe = try #require(writer)
            _ = fcntl(fileno(pipe), F_SETFL, O_NONBLOCK)
            var seen = [0, 0]
            var byte: UInt8 = 0
            while read(fileno(pipe), &byte, 1) < 0 {
                let read = try #require(try tables.firewall())
                #expect(read == first || read == second)
                seen[read == first ? 0 : 1] += 1
            }
            #expect(pclose(pipe) == 0)
            #expect(seen[0] > 0 && seen[1] > 0, "both were seen: \(seen)")
        }
    }

    @Test func aChangeIsMadeToWhatWasReadOrNotAtAll() throws {
        try TestNamespace.run { () throws in
            let tables = try Tables()
            #expect(tables.make(.sample) == .done)
            let last = try tables.tables.read()
            let change = try #require(tables.operation(from: .sample, to: Self.other))
            // Our own table.
            shell("nft insert rule inet weft-wg0 access drop")
            let before = output("nft -a list ruleset")
            let error = try #require(failure(tables.tables.perform(change, last: last)))
            #expect(error.code == .inconsistent && error.isRetryable)
            #expect(output("nft -a list ruleset") == before)
            #expect(try tables.lead(to: .sample) == .done)
            // Somebody else's.
            let next = try tables.tables.read()
            shell("nft add table inet foreign")
            #expect(tables.tables.perform(change, last: next) == .done)
            #expect(try tables.firewall() == Self.other)
            #expect(output("nft list tables").contains("table inet foreign"))
        }
    }

    @Test func writesWhileOthersWriteAllTheTime() throws {
        try TestNamespace.run { () throws in
            let tables = try Tables()
            let writer = popen(
                "for i in $(seq 300); do nft add table inet foreign; nft delete table inet foreign; done", "r")
            let pipe = try #require(writer)
            var goals: [Firewall?] = [.sample, Self.other, nil, Self.other, .sample]
            goals += goals + goals
            for goal in goals {
                let outcome = try tables.lead(to: goal)
                #expect(outcome == .done || outcome == nil)
                #expect(try tables.firewall() == goal)
            }
            #expect(pclose(pipe) == 0)
        }
    }

    // MARK: Kernels that know no tables

    @Test(arguments: [EINVAL, EOPNOTSUPP])
    func aKernelWithoutTablesHasNone(_ errno: Int32) throws {
        try TestNamespace.run { () throws in
            let script = FaultScript()
            let tables = try Tables(FaultyTransport(Socket(.netfilter), script, .netfilter))
            script.arm(.refuseAll(errno), at: 0, .forEver)
            #expect(try tables.firewall() == nil)
            let error = try #require(failure(tables.make(.sample)))
            #expect(error.code == .unsupported && !error.isRetryable)
            #expect(error.message.contains("no nf_tables") && error.message.contains("CONFIG_NF_TABLES_INET"))
        }
    }

    @Test func aKernelWithoutNetfilterWorksAsLongAsNoFirewallIsWanted() throws {
        try TestNamespace.run { () throws in
            let fixture = try KernelFixture { (bus) throws(Errno) in
                if bus == .netfilter { throw Errno(EPROTONOSUPPORT) }
                return try Socket(bus)
            }
            var plane = fixture.plane
            #expect(try plane.observe(fixture.mesh, Interests()).state.firewall == nil)
            #expect(plane.perform([.link(.create(KernelFixture.link))], for: fixture.mesh) == [.done])
            let operation = Operation.firewall(.create(.sample, table: fixture.mesh.firewallTable))
            let error = try #require(failure(plane.perform([operation], for: fixture.mesh).first))
            #expect(error.code == .unsupported && error.message.contains("no nf_tables"))
        }
    }

    @Test func withoutRightsThatIsSaid() throws {
        try TestNamespace.run { () throws in
            let script = FaultScript()
            let tables = try Tables(FaultyTransport(Socket(.netfilter), script, .netfilter))
            script.arm(.refuse(EPERM), at: 0, .forEver)
            #expect(throws: DataplaneError.self) { try tables.tables.read() }
            #expect(failure(tables.make(.sample))?.code == .notPermitted)
        }
    }

    // MARK: The dataplane

    @Test func theTableStandsBeforeTheLinkAndAfterIt() throws {
        try TestNamespace.run { () throws in
            let fixture = try KernelFixture()
            var plane = fixture.plane
            #expect(try plane.observe(fixture.mesh, Interests()).state.firewall == nil)
            let table = fixture.mesh.firewallTable
            #expect(plane.perform([.firewall(.create(.sample, table: table))], for: fixture.mesh) == [.done])
            let observed = try plane.observe(fixture.mesh, Interests())
            #expect(observed.state.firewall == .sample)
            #expect(observed.state.link == nil)
            #expect(observed.counts.map(\.name) == Firewall.sample.counters.map(\.name))
            #expect(plane.perform([.link(.create(KernelFixture.link))], for: fixture.mesh) == [.done])
            #expect(try plane.observe(fixture.mesh, Interests()).state.firewall == .sample)
            #expect(plane.perform([.link(.remove(interface: "wg0"))], for: fixture.mesh) == [.done])
            #expect(try plane.observe(fixture.mesh, Interests()).state.firewall == .sample)
            #expect(plane.perform([.firewall(.remove(.sample, table: table))], for: fixture.mesh) == [.done])
            #expect(try plane.observe(fixture.mesh, Interests()).state.firewall == nil)
        }
    }
}
