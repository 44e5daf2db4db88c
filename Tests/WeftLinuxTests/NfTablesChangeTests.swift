// What others do to the mesh's table is seen, exactly, and put right; and what cannot be done leaves the table whole.

import CLinux
import Glibc
import Netlink
import Testing
import WeftModel
import WeftPlan
import WeftTestSupport

@testable import WeftLinux

/// Something that somebody else does to the table, and what it is then.
struct Tampering: CustomTestStringConvertible, Sendable {
    /// What `nft` is told.
    var command: String
    var edit: @Sendable (inout Firewall) -> Void

    var testDescription: String { command }

    init(_ command: String, _ edit: @escaping @Sendable (inout Firewall) -> Void) {
        self.command = command
        self.edit = edit
    }

    /// A rule at the end of the chain `input`, with an expression that is not understood.
    init(unknown names: String..., rule: String) {
        self.init("add rule inet weft-wg0 input \(rule)") { firewall in
            let index = firewall.index(ofChain: "input")
            firewall.chains[index].rules.append(FirewallRule(names.map { .unknown($0) }))
        }
    }

    /// Something that Weft never makes.
    init(stranger: String, _ command: String) {
        self.init(command) { $0.strangers = [stranger] }
    }
}

extension Firewall {
    func index(ofChain name: String) -> Int { chains.firstIndex { $0.name == name } ?? 0 }
    func index(ofSet name: String) -> Int { sets.firstIndex { $0.name == name } ?? 0 }

    mutating func edit(chain name: String, _ body: (inout FirewallChain) -> Void) {
        if let index = chains.firstIndex(where: { $0.name == name }) { body(&chains[index]) }
    }

    mutating func edit(set name: String, _ body: (inout FirewallSet) -> Void) {
        let index = index(ofSet: name)
        body(&sets[index])
        sets[index].elements.sort { $0.key < $1.key }
    }
}

@Suite(.enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct NfTablesChangeTests {
    static let tamperings: [Tampering] = [
        Tampering("insert rule inet weft-wg0 input accept") { firewall in
            firewall.edit(chain: "input") { $0.rules.insert(FirewallRule([.verdict(.accept)]), at: 0) }
        },
        Tampering("add rule inet weft-wg0 access counter drop comment \"mine\"") { firewall in
            firewall.edit(chain: "access") {
                $0.rules.append(FirewallRule([.counter, .verdict(.drop)], comment: "mine"))
            }
        },
        Tampering("flush chain inet weft-wg0 guard") { $0.edit(chain: "guard") { $0.rules = [] } },
        Tampering("flush table inet weft-wg0") { firewall in
            for index in firewall.chains.indices { firewall.chains[index].rules = [] }
        },
        Tampering("add chain inet weft-wg0 forward { policy drop; }") {
            $0.edit(chain: "forward") { $0.base?.dropsByDefault = true }
        },
        Tampering(
            "delete chain inet weft-wg0 forward; "
                + "add chain inet weft-wg0 forward { type filter hook forward priority 1; }"
        ) { $0.edit(chain: "forward") { $0.base?.priority = 1 } },
        Tampering(
            "delete chain inet weft-wg0 forward; add chain inet weft-wg0 forward { type filter hook input priority 0; }"
        ) { $0.edit(chain: "forward") { $0.base?.hook = .input } },
        Tampering(
            "delete chain inet weft-wg0 reroute; "
                + "add chain inet weft-wg0 reroute { type filter hook output priority -150; }"
        ) { $0.edit(chain: "reroute") { $0.base?.kind = .filter } },
        Tampering("delete chain inet weft-wg0 forward; add chain inet weft-wg0 forward") {
            $0.edit(chain: "forward") { $0.base = nil }
        },
        Tampering("delete chain inet weft-wg0 forward") { $0.chains.remove(at: $0.index(ofChain: "forward")) },
        Tampering("add chain inet weft-wg0 aside; add rule inet weft-wg0 aside jump access") {
            $0.chains.insert(FirewallChain("aside", rules: [FirewallRule([.verdict(.jump("access"))])]), at: 1)
        },
        Tampering("add element inet weft-wg0 nat-src4 { 172.16.0.0/12 }") { firewall in
            firewall.edit(set: "nat-src4") {
                $0.elements.append(.init(key("172.16.0.0"), key("172.31.255.255")))
            }
        },
        Tampering("delete element inet weft-wg0 nat-src4 { 192.168.1.7 }") { firewall in
            firewall.edit(set: "nat-src4") { $0.elements.remove(at: 2) }
        },
        Tampering(
            "delete element inet weft-wg0 allow6 { ff00::/8 }; "
                + "add element inet weft-wg0 allow6 { ff00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe }"
        ) { firewall in
            firewall.edit(set: "allow6") {
                $0.elements[1] = .init(key("ff00::"), key("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"))
            }
        },
        Tampering(
            "delete element inet weft-wg0 pairs6 { fd00::1 . fd01::/64 }; "
                + "add element inet weft-wg0 pairs6 { fd00::1 . fd01::/64 : \"access-0a1b2c3d\" }"
        ) { $0.edit(set: "pairs6") { $0.elements[0].counter = "access-0a1b2c3d" } },
        Tampering("flush map inet weft-wg0 ports4") { $0.edit(set: "ports4") { $0.elements = [] } },
        Tampering("add set inet weft-wg0 more { type ipv6_addr; flags interval; }") {
            $0.sets.insert(FirewallSet("more", [.address6]), at: 1)
        },
        Tampering("add counter inet weft-wg0 more") { $0.counters.append(FirewallCounter("more")) },
        Tampering("add counter inet weft-wg0 more { comment \"text\"; }") {
            $0.counters.append(FirewallCounter("more", comment: "text"))
        },
        Tampering("delete table inet weft-wg0; add table inet weft-wg0") { $0 = Firewall() },

        Tampering(unknown: "limit", rule: "limit rate 5/second"),
        Tampering(unknown: "log", rule: "log prefix \"x\""),
        Tampering(unknown: "meta", "cmp", rule: "iif lo").readAs {
            [.unknown("meta"), .compare(.equal, Step.host(1))]
        },
        Tampering(unknown: "meta", "cmp", rule: "meta mark set 7").readAs {
            [.unknown("immediate"), .setMeta(.mark)]
        },
        Tampering(unknown: "", rule: "meta mark & 0xff == 1").readAs {
            [.meta(.mark), .bitwise(mask: [0xFF, 0, 0, 0]), .compare(.equal, Step.host(1))]
        },
        Tampering(unknown: "", rule: "meta mark set meta mark | 1").readAs {
            [.meta(.mark), .unknown("bitwise"), .setMeta(.mark)]
        },
        Tampering(unknown: "", rule: "meta mark > 9").readAs {
            [.meta(.mark), .unknown("byteorder"), .unknown("cmp")]
        },
        Tampering(unknown: "", rule: "reject").readAs { [.unknown("reject")] },
        Tampering(unknown: "", rule: "ct original bytes > 9").readAs {
            [.unknown("ct"), .unknown("byteorder"), .unknown("cmp")]
        },
        Tampering(unknown: "", rule: "fib daddr . iif type local").readAs {
            [.unknown("fib"), .compare(.equal, Step.host(2))]
        },
        Tampering(unknown: "", rule: "tcp option maxseg size 1400").readAs {
            [.unknown("exthdr"), .compare(.equal, [5, 120])]
        },
        Tampering(unknown: "", rule: "rt classid 1").readAs { [.unknown("rt"), .compare(.equal, Step.host(1))] },
        Tampering(unknown: "", rule: "udp dport { 53, 54 } accept").readAs {
            Step.byte(.transport, 17)
                + [.payload(.transport, offset: 2, length: 2), .lookup(set: "__set0"), .verdict(.accept)]
        },
        Tampering(unknown: "", rule: "jump { counter accept; }").readAs { [.verdict(.jump("__chain0"))] },
        Tampering(unknown: "", rule: "meta l4proto vmap { tcp : accept }").readAs {
            [.meta(.transport), .unknown("lookup")]
        },

        Tampering(stranger: "flags dormant", "add table inet weft-wg0 { flags dormant; }"),
        Tampering(stranger: "quota q", "add quota inet weft-wg0 q over 10 mbytes"),
        Tampering(stranger: "limit l", "add limit inet weft-wg0 l rate 5/second"),
        Tampering(stranger: "ct helper h", "add ct helper inet weft-wg0 h { type \"ftp\" protocol tcp; }"),
        Tampering(
            stranger: "flowtable f", "add flowtable inet weft-wg0 f { hook ingress priority 0; devices = { lo }; }"),
        Tampering(
            stranger: "chain extra: comment",
            "add chain inet weft-wg0 extra { comment \"x\"; }"
        ).and { $0.chains.insert(FirewallChain("extra"), at: 2) },
        Tampering(
            stranger: "set t: type ipv4_addr; flags interval,timeout; timeout 1h30m",
            "add set inet weft-wg0 t { type ipv4_addr; flags interval; timeout 90m; }"),
        Tampering(
            stranger: "set t: type ipv4_addr; flags timeout; timeout 1d; gc-interval 2s500ms; policy memory",
            "add set inet weft-wg0 t { type ipv4_addr; timeout 1d; gc-interval 2500ms; policy memory; }"),
        Tampering(stranger: "set t: type ipv4_addr", "add set inet weft-wg0 t { type ipv4_addr; }"),
        Tampering(
            stranger: "set t: type ipv4_addr; flags dynamic; size 65535",
            "add set inet weft-wg0 t { type ipv4_addr; flags dynamic; size 65535; }"),
        Tampering(
            stranger: "set t: type ipv4_addr; flags interval; size 5",
            "add set inet weft-wg0 t { type ipv4_addr; flags interval; size 5; }"),
        Tampering(
            stranger: "set t: type ipv4_addr; flags interval; policy memory",
            "add set inet weft-wg0 t { type ipv4_addr; flags interval; policy memory; }"),
        Tampering(
            stranger: "set t: type ipv4_addr; flags interval; auto-merge",
            "add set inet weft-wg0 t { type ipv4_addr; flags interval; auto-merge; }"),
        Tampering(
            stranger: "set t: type ipv4_addr; flags interval; comment \"c\"",
            "add set inet weft-wg0 t { type ipv4_addr; flags interval; comment \"c\"; }"),
        Tampering(
            stranger: "set t: type mark; flags interval", "add set inet weft-wg0 t { type mark; flags interval; }"),
        Tampering(
            stranger: "set t: type ifname . inet_service", "add set inet weft-wg0 t { type ifname . inet_service; }"),
        Tampering(
            stranger: "map t: type ipv4_addr : mark; flags interval",
            "add map inet weft-wg0 t { type ipv4_addr : mark; flags interval; }"),
        Tampering(
            stranger: "map t: type ipv4_addr : verdict", "add map inet weft-wg0 t { type ipv4_addr : verdict; }"),
        Tampering(
            stranger: "map t: type ipv4_addr : quota; flags interval",
            "add map inet weft-wg0 t { type ipv4_addr : quota; flags interval; }"),
        Tampering(
            stranger: "set nat-src4: an element with comment",
            "add element inet weft-wg0 nat-src4 { 172.16.0.0/12 comment \"c\" }"
        ).and { firewall in
            firewall.edit(set: "nat-src4") { $0.elements.append(.init(key("172.16.0.0"), key("172.31.255.255"))) }
        },
        Tampering(
            stranger: "set one4: an element with counter zz-of-sixteen-by",
            "add counter inet weft-wg0 zz-of-sixteen-by; "
                + "add element inet weft-wg0 one4 { 11.0.0.1 : \"zz-of-sixteen-by\" }"
        ).and { firewall in
            firewall.counters.append(FirewallCounter("zz-of-sixteen-by"))
            firewall.edit(set: "one4") { $0.elements.append(.init(key("11.0.0.1"), key("11.0.0.1"))) }
        },
        Tampering("add counter inet weft-wg0 zz; add element inet weft-wg0 one4 { 11.0.0.1 : \"zz\" }") { firewall in
            firewall.counters.append(FirewallCounter("zz"))
            firewall.edit(set: "one4") { $0.elements.append(.init(key("11.0.0.1"), key("11.0.0.1"), counter: "zz")) }
        },
        Tampering(
            stranger: "set t: an element with * as its key",
            "add set inet weft-wg0 t { type ipv4_addr; flags interval; elements = { 1.2.3.4, * }; }"
        ).and { $0.sets.append(FirewallSet("t", [.address4], elements: [.init(key("1.2.3.4"), key("1.2.3.4"))])) },
    ]

    @Test(arguments: tamperings)
    func whatOthersDoIsSeenExactlyAndPutRight(_ tampering: Tampering) throws {
        try TestNamespace.run { () throws in
            let tables = try Tables()
            #expect(tables.make(.sample) == .done)
            // This kernel may have been built without flowtables; none of them is Weft's.
            if tampering.command.contains("flowtable"), !shell("nft '\(tampering.command)' 2> /dev/null") { return }
            if !tampering.command.contains("flowtable") { Tables.nft(tampering.command) }
            var expected = Firewall.sample
            tampering.edit(&expected)
            var read = try #require(try tables.firewall())
            read.edit(chain: "input") { chain in
                // The kernel numbers such chains on and on.
                for (index, rule) in chain.rules.enumerated() {
                    if case .verdict(.jump(let name))? = rule.expressions.first, name.hasPrefix("__chain") {
                        chain.rules[index] = FirewallRule([.verdict(.jump("__chain0"))])
                    }
                }
            }
            #expect(read.strangers == expected.strangers)
            #expect(read.counters == expected.counters)
            #expect(read.sets.map(\.name) == expected.sets.map(\.name))
            #expect(read.chains.map(\.name) == expected.chains.map(\.name))
            for (live, wanted) in zip(read.sets, expected.sets) { #expect(live == wanted) }
            for (live, wanted) in zip(read.chains, expected.chains) { #expect(live == wanted) }
            #expect(read != .sample)

            #expect(try tables.lead(to: .sample) == .done)
            #expect(try tables.firewall() == .sample)
            // What was made anew comes last.
            #expect(Tables.text.split(separator: "\n").sorted() == Firewall.sampleText.split(separator: "\n").sorted())
            #expect(try tables.lead(to: .sample) == nil)
        }
    }

    // MARK: From one to another

    @Test(arguments: 0..<40)
    func leadsFromAnyTableToAnyOther(_ seed: UInt64) throws {
        try TestNamespace.run { () throws in
            let tables = try Tables()
            var random = SeededGenerator(seed: seed)
            for _ in 0..<8 {
                let wanted = random.chance(10) ? nil : Firewall.random(&random)
                let before = try tables.firewall()
                let outcome = try tables.lead(to: wanted)
                #expect(outcome == (before == wanted ? nil : .done))
                #expect(try tables.firewall() == wanted)
            }
        }
    }

    // MARK: All or nothing

    /// Each holds one thing that the kernel refuses, and much that it would take.
    static let refused: [(String, Firewall)] = {
        func sample(_ edit: (inout Firewall) -> Void) -> Firewall {
            var firewall = Firewall.sample
            firewall.counters.append(FirewallCounter("new"))
            firewall.sets[1].elements.removeLast(2)
            firewall.sets.append(FirewallSet("other", [.address4]))
            firewall.edit(chain: "access") { $0.rules.removeFirst() }
            firewall.chains.append(FirewallChain("zzz", rules: [FirewallRule([.counter])]))
            edit(&firewall)
            return firewall
        }
        return [
            (
                "add rule 1 of chain zzz",
                sample { $0.edit(chain: "zzz") { $0.rules[0] = FirewallRule(Step.jump("nowhere")) } }
            ),
            (
                "add rule 1 of chain zzz",
                sample { $0.edit(chain: "zzz") { $0.rules[0] = FirewallRule([.countBy("none")]) } }
            ),
            (
                "add rule 1 of chain zzz",
                sample {
                    $0.edit(chain: "zzz") {
                        $0 = FirewallChain(
                            "zzz", base: .init(.filter, .input, priority: 0), rules: [FirewallRule(Step.jump("zzz"))])
                    }
                }
            ),
            (
                "add rule 3 of chain input",
                sample { $0.edit(chain: "input") { $0.rules.append(FirewallRule([.masquerade])) } }
            ),
            (
                "add elements to set one4",
                sample {
                    $0.edit(set: "one4") { $0.elements.append(.init(key("9.9.9.9"), key("9.9.9.9"), counter: "none")) }
                }
            ),
            (
                "add elements to set nat-src4",
                sample { $0.edit(set: "nat-src4") { $0.elements.append(.init(key("10.0.1.0"), key("10.2.0.0"))) } }
            ),
            (
                "add chain new",
                sample { $0.chains.append(FirewallChain("new", base: .init(.nat, .forward, priority: 0))) }
            ),
            ("remove set ports4", sample { $0.sets.remove(at: $0.index(ofSet: "ports4")) }),
        ]
    }()

    @Test(arguments: refused.indices)
    func aChangeThatFailsLeavesTheOldTableWhole(_ index: Int) throws {
        let (step, wanted) = Self.refused[index]
        try TestNamespace.run { () throws in
            let tables = try Tables()
            // Nothing there: nothing comes of it. (Ranges that overlap in one message are none of Weft's.)
            if !step.hasPrefix("remove"), !step.contains("nat-src4") {
                let outcome = tables.make(wanted)
                let error = try #require(failure(outcome), "\(index)")
                #expect(error.operation.hasPrefix("create table inet weft-wg0: add "), "\(error)")
                #expect(output("nft list ruleset") == "")
            }
            #expect(tables.make(.sample) == .done)
            shell("nft add rule inet weft-wg0 input counter packets 7 bytes 9")
            var live = Firewall.sample
            live.edit(chain: "input") { $0.rules.append(FirewallRule([.counter])) }
            let before = output("nft -a list ruleset")
            let error = try #require(failure(try tables.lead(to: wanted)))
            #expect(error.operation.hasPrefix("change table inet weft-wg0: \(step)"), "\(error)")
            #expect(!error.message.isEmpty && error.errno != 0)
            #expect(output("nft -a list ruleset") == before)
            #expect(try tables.firewall() == live)
            if !step.hasPrefix("remove") {
                let last = try tables.tables.read()
                let rebuild = FirewallOperation.rebuild(old: live, new: wanted, table: Tables.name)
                #expect(failure(tables.tables.perform(rebuild, last: last))?.operation.hasPrefix("rebuild") == true)
                #expect(output("nft -a list ruleset") == before)
            }
        }
    }

    @Test func whatIsThereAlreadyOrGoneAlreadyIsNoFailure() throws {
        try TestNamespace.run { () throws in
            let tables = try Tables()
            let remove = FirewallOperation.remove(.sample, table: Tables.name)
            #expect(tables.tables.perform(remove, last: nil) == .already)
            #expect(tables.make(.sample) == .done)
            #expect(tables.make(.sample) == .already)
            let error = try #require(failure(tables.make(Firewall())))
            #expect(error.code == .inconsistent && error.isRetryable)
            let rebuild = FirewallOperation.rebuild(old: .sample, new: Firewall(), table: Tables.name)
            #expect(tables.tables.perform(rebuild, last: nil) == .done)
            #expect(try tables.firewall() == Firewall())
            #expect(tables.tables.perform(remove, last: nil) == .done)
            #expect(try tables.firewall() == nil)
            // It went in the meantime: it is made anew all the same.
            #expect(tables.tables.perform(rebuild, last: nil) == .done)
            #expect(try tables.firewall() == Firewall())
        }
    }

    @Test func aTableThatARunningProgramOwnsIsLeftAlone() throws {
        try TestNamespace.run { () throws in
            let tables = try Tables()
            let owner = Channel(try Socket(.netfilter))
            let generation = try tables.tables.generation()
            try owner.transaction(NFNL_SUBSYS_NFTABLES, generation: generation) { encoder in
                encoder.begin(NFT_MSG_NEWTABLE, flags: NLM_F_CREATE)
                encoder.text(NFTA_TABLE_NAME, Tables.name)
                encoder.number(NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER.rawValue)
                encoder.end()
            }
            let owned = try #require(try tables.tables.read().owned)
            #expect(owned.relation == .holdsTable)
            #expect(owned.description.hasSuffix(", by `flags owner`"))
            #expect(try tables.firewall() == nil)
            // A program that was quicker than a plan.
            let error = try #require(failure(try tables.lead(to: .sample)))
            #expect(error.code == .obstructed)
            #expect(error.message.contains("flags owner"))
            #expect(try tables.tables.read().owned == owned)
            withExtendedLifetime(owner) {}
        }
    }
}

extension Tampering {
    /// With another reading of the rule.
    fileprivate func readAs(_ expressions: @escaping @Sendable () -> [FirewallExpression]) -> Tampering {
        Tampering(command) { firewall in
            firewall.edit(chain: "input") { $0.rules.append(FirewallRule(expressions())) }
        }
    }

    fileprivate func and(_ more: @escaping @Sendable (inout Firewall) -> Void) -> Tampering {
        let edit = edit
        return Tampering(command) { firewall in
            edit(&firewall)
            more(&firewall)
        }
    }
}
extension Firewall {
    /// A small table, of few names and ranges, so that two of them have much in common.
    fileprivate static func random(_ random: inout SeededGenerator) -> Firewall {
        var firewall = Firewall()
        for name in ["a", "b", "c"] where random.chance(80) {
            firewall.counters.append(FirewallCounter(name, comment: random.chance(20) ? "other" : "one"))
        }
        let counters = firewall.counters.map(\.name)
        let shapes: [[FirewallSet.Field]] = [[.address4], [.address6], [.address4, .port]]
        for (name, fields) in zip(["one", "six", "two"], shapes) where random.chance(75) {
            let hasCounters = random.chance(50) && !counters.isEmpty
            var set = FirewallSet(name, random.chance(5) ? [.transport] : fields, hasCounters: hasCounters)
            var number: UInt32 = 0
            while number < 30 {
                let end = number + UInt32.random(in: 0...4, using: &random)
                if random.chance(60) {
                    set.elements.append(
                        .init(
                            set.key(number), set.key(end),
                            counter: hasCounters ? counters.randomElement(using: &random) ?? "" : ""))
                }
                number = end + UInt32.random(in: 1...3, using: &random)
            }
            firewall.sets.append(set)
        }
        var names: [String] = []
        for name in ["p", "q", "r", "s"] where random.chance(75) {
            var chain = FirewallChain(name)
            if random.chance(60) {
                chain.base = .init(.filter, random.chance(90) ? .input : .forward, priority: random.chance(90) ? 0 : 7)
            }
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                var rule = FirewallRule([], comment: random.chance(20) ? "comment" : "")
                if let set = firewall.sets.randomElement(using: &random), random.chance(70), set.fields == [.address4] {
                    rule.expressions = [
                        .payload(.network, offset: 12, length: 4),
                        set.hasCounters ? .countByMap(set: set.name) : .lookup(set: set.name),
                    ]
                }
                if let counter = counters.randomElement(using: &random), random.chance(30) {
                    rule.expressions.append(.countBy(counter))
                }
                if let target = names.randomElement(using: &random), random.chance(50) {
                    rule.expressions.append(.verdict(.jump(target)))
                } else {
                    rule.expressions.append(.counter)
                }
                chain.rules.append(rule)
            }
            if chain.base == nil { names.append(name) }
            firewall.chains.append(chain)
        }
        return firewall
    }
}

extension FirewallSet {
    /// A key that is the greater, the greater the number.
    fileprivate func key(_ number: UInt32) -> FirewallKey {
        var key = FirewallKey()
        for field in fields {
            switch field {
            case .address4: key.append(IPAddress(v4: 0xC0A8_0000 + number))
            case .address6: key.append(IPAddress(v6: 0xFD00 << 48, UInt64(number)))
            case .transport: key.append(transport: UInt8(number))
            case .port: key.append(port: UInt16(number))
            }
        }
        return key
    }
}
