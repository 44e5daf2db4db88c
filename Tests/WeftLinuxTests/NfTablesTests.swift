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
        try onKernel { (tables) throws in
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
        try onKernel { (tables) throws in
            Tables.nft(Firewall.sampleText)
            var read = try #require(try tables.firewall())
            // nft 1.0.6 turns the bytes of a protocol in a key, of which there is one, and so none; 1.1 does not.
            let rule = try #require(read.chains[0].rules.firstIndex { $0.comment == "allowed" })
            read.chains[0].rules[rule].expressions.removeAll { $0 == .unknown("byteorder") }
            for (live, wanted) in zip(read.sets, Firewall.sample.sets) { #expect(live == wanted) }
            for (live, wanted) in zip(read.chains, Firewall.sample.chains) { #expect(live == wanted) }
            #expect(read == .sample)
        }
    }

    @Test(arguments: ExpressionCase.all)
    func everyFieldOfAnExpressionComesBack(_ one: ExpressionCase) throws {
        try onKernel { (tables) throws in
            var firewall = Firewall(
                chains: [FirewallChain("test", base: one.base, rules: [FirewallRule(one.expressions)])],
                sets: [
                    FirewallSet("addresses", [.address4], elements: [.init(key("10.0.0.0"), key("10.0.0.255"))]),
                    FirewallSet("more", [.address4]),
                    FirewallSet("map", [.address4], hasCounters: true),
                ],
                counters: [FirewallCounter("a"), FirewallCounter("b")])
            for name in ["x", "y"] { firewall.chains.append(FirewallChain(name)) }
            let outcome = tables.make(firewall)
            #expect(outcome == .done)
            #expect(try tables.firewall()?.chains.first?.rules.first?.expressions == one.expressions)
        }
    }

    @Test(arguments: [
        [FirewallSet.Field.address4], [.address6], [.transport], [.port], [.address4, .address4],
        [.address6, .address6, .transport, .port], [.transport, .port], [.address6, .address4],
    ])
    func keysOfEveryKindComeBack(_ fields: [FirewallSet.Field]) throws {
        try onKernel { (tables) throws in
            func key(_ number: UInt32) -> FirewallKey {
                var key = FirewallKey()
                for field in fields {
                    switch field {
                    case .address4: key.append(IPAddress(v4: 0x0A00_0000 + number))
                    case .address6: key.append(IPAddress(v6: 0xFD00 << 48, UInt64(number)))
                    case .transport: key.append(transport: UInt8(number))
                    case .port: key.append(port: UInt16(number))
                    }
                }
                return key
            }
            let last = fields.count == 1 ? FirewallKey(onesOf: fields[0].size) : key(200)
            let ranges = [(key(0), key(0)), (key(1), key(7)), (key(9), key(9)), (key(100), last)]
            var firewall = Firewall(counters: [FirewallCounter("a"), FirewallCounter("b")])
            firewall.sets = [
                FirewallSet(
                    "counted", fields, hasCounters: true,
                    elements: ranges.enumerated().map { .init($1.0, $1.1, counter: $0 % 2 == 0 ? "a" : "b") }),
                FirewallSet("empty", fields), FirewallSet("plain", fields, elements: ranges.map { .init($0, $1) }),
            ]
            #expect(tables.make(firewall) == .done)
            #expect(try tables.firewall() == firewall)
            let text = Tables.text
            shell("nft delete table inet weft-wg0")
            Tables.nft(text)
            #expect(try tables.firewall() == firewall, Comment(rawValue: text))
        }
    }

    @Test func aTableOfTenThousandElementsIsOneTransaction() throws {
        try onKernel { (tables) throws in
            let large = Firewall.large(elements: 10_000, rules: 200)
            #expect(tables.make(large) == .done)
            #expect(try tables.firewall() == large)
            // So many that sets are made anew, with the rules that look into them.
            var changed = large
            for index in changed.sets.indices { changed.sets[index].elements.removeAll { $0.lower.word0 % 3 == 0 } }
            changed.edit(chain: "a") { $0.rules.removeFirst() }
            #expect(try tables.lead(to: changed) == .done)
            #expect(try tables.firewall() == changed)
            #expect(try tables.lead(to: large) == .done)
            #expect(try tables.firewall() == large)
        }
    }

    @Test func aSetThatIsMadeAnewLeavesTheOthersTheirCounters() throws {
        try onKernel { (tables) throws in
            var firewall = Firewall.large(elements: 1000, rules: 8)
            firewall.chains.append(
                FirewallChain(
                    "e", base: .init(.filter, .output, priority: 0),
                    rules: [FirewallRule([.countBy("access-100"), .counter])]))
            #expect(tables.make(firewall) == .done)
            shell("ping -q -c 3 -i 0.01 127.0.0.1 > /dev/null")
            let before = try tables.tables.read().counts
            #expect(before[0].packets == 6)
            for index in firewall.sets.indices { firewall.sets[index].elements.removeFirst(300) }
            #expect(try tables.lead(to: firewall) == .done)
            let after = try tables.tables.read()
            #expect(after.firewall == firewall)
            #expect(after.counts == before)
            #expect(Tables.text.contains("counter name \"access-100\" counter packets 6 bytes 504"))
        }
    }

    @Test func countersCountAndSurviveAPassThatChangesNothing() throws {
        try onKernel { (tables) throws in
            var firewall = Firewall(counters: [FirewallCounter("lo", comment: "to oneself")])
            firewall.chains = [
                FirewallChain(
                    "output", base: .init(.filter, .output, priority: 0),
                    rules: [FirewallRule(Step.interface(.outputInterface, is: "lo") + [.countBy("lo")])])
            ]
            #expect(tables.make(firewall) == .done)
            shell("ping -q -c 3 -i 0.01 127.0.0.1 > /dev/null")
            let counts = try tables.tables.read().counts
            #expect(counts == [FirewallCount(name: "lo", comment: "to oneself", packets: 6, bytes: 504)])
            #expect(try tables.lead(to: firewall) == nil)
            firewall.chains.append(FirewallChain("z"))
            #expect(try tables.lead(to: firewall) == .done)
            #expect(try tables.tables.read().counts == counts)
        }
    }
}

/// A rule that holds one expression in one of its forms, with what it must stand on.
struct ExpressionCase: CustomTestStringConvertible, Sendable {
    var base: FirewallChain.Base = .init(.filter, .output, priority: 0)
    var expressions: [FirewallExpression]

    var testDescription: String { "\(expressions)".replacing("WeftModel.FirewallExpression.", with: "") }

    init(_ expressions: FirewallExpression..., base: FirewallChain.Base = .init(.filter, .output, priority: 0)) {
        self.base = base
        self.expressions = expressions
    }

    static let all: [ExpressionCase] = {
        var cases: [ExpressionCase] = FirewallExpression.Meta.allCases.map { ExpressionCase(.meta($0)) }
        cases += FirewallExpression.Conntrack.allCases.map { ExpressionCase(.conntrack($0)) }
        for direction in FirewallExpression.TupleDirection.allCases {
            cases += FirewallExpression.TupleField.allCases.map {
                ExpressionCase(.meta(.transport), .compare(.equal, [6]), .tuple(direction, $0, into: 12))
            }
        }
        cases += (0..<16).map { ExpressionCase(.meta(.mark, into: $0), .compare(.equal, [1, 2, 3, 4], at: $0)) }
        cases += [
            ExpressionCase(.conntrack(.mark, into: 5), .setMeta(.mark, from: 5)),
            ExpressionCase(.meta(.mark, into: 15), .setConntrack(.mark, from: 15)),
            ExpressionCase(.payload(.network, offset: 0, length: 1)),
            ExpressionCase(.payload(.network, offset: 9, length: 16, into: 8)),
            ExpressionCase(.meta(.transport), .compare(.equal, [6]), .payload(.transport, offset: 200, length: 2)),
            ExpressionCase(.meta(.mark), .bitwise(mask: [0, 0xFF, 0, 1]), .compare(.notEqual, [0, 0, 0, 0])),
            ExpressionCase(.payload(.network, offset: 8, length: 16, into: 4), .bitwise(mask: Step.name("abc"), at: 4)),
            ExpressionCase(.payload(.network, offset: 2, length: 1, into: 9), .bitwise(mask: [0xF0], at: 9)),
            ExpressionCase(.routeTCPMSS(into: 3), .byteOrder16(at: 3)),
            ExpressionCase(.payload(.network, offset: 12, length: 4, into: 7), .lookup(set: "addresses", at: 7)),
            ExpressionCase(
                .payload(.network, offset: 12, length: 4, into: 1), .lookup(set: "more", isInverted: true, at: 1)),
            ExpressionCase(.counter), ExpressionCase(.countBy("a")), ExpressionCase(.countBy("b")),
            ExpressionCase(.payload(.network, offset: 12, length: 4, into: 11), .countByMap(set: "map", at: 11)),
            ExpressionCase(.addressType(.source, into: 2)), ExpressionCase(.addressType(.destination)),
            ExpressionCase(
                .meta(.transport), .compare(.equal, [6]), .routeTCPMSS(into: 6), .byteOrder16(at: 6),
                .writeTCPMSS(from: 6)),
            ExpressionCase(.masquerade, base: .init(.nat, .postrouting, priority: 100)),
            ExpressionCase(.reject(.prohibited)),
            ExpressionCase(.meta(.transport), .compare(.equal, [6]), .reject(.reset)),
            ExpressionCase(.verdict(.accept)), ExpressionCase(.verdict(.drop)), ExpressionCase(.verdict(.return)),
            ExpressionCase(.verdict(.jump("x"))), ExpressionCase(.verdict(.jump("y"))),
            ExpressionCase(.verdict(.goto("x"))),
        ]
        for hook in FirewallChain.Base.Hook.allCases {
            cases.append(ExpressionCase(.counter, base: .init(.filter, hook, priority: -7, dropsByDefault: true)))
        }
        cases.append(ExpressionCase(.counter, base: .init(.route, .output, priority: 2_000_000_000)))
        cases.append(ExpressionCase(.counter, base: .init(.nat, .prerouting, priority: -100)))
        return cases
    }()
}
