// Policy rules on the running kernel: ours made, known, mended and removed; those of others named where they collide.

import Netlink
import Testing
import WeftFaults
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite(.enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct PolicyRuleTests {
    private let mesh = MeshIdentity(mesh: "corp", interface: "wg0")
    private var numbers: RoutingNumbers { mesh.routingNumbers }

    private var wanted: [PolicyRule] { wanted(mark: numbers.mark, table: numbers.table) }

    private func wanted(mark: UInt32, table: UInt32) -> [PolicyRule] {
        [IPAddress.Family.v4, .v6].flatMap { family in
            [
                PolicyRule(family, priority: numbers.priority, .lookupMainWithoutDefault)
            ]
                + (family == .v4 ? ["100.64.0.0/10", "192.0.2.7/32"] : ["fd00::/8", "fe00::7/128"])
                .map { PolicyRule(family, priority: numbers.priority, .lookupMain(to: prefix($0))) } + [
                    PolicyRule(
                        family, priority: numbers.priority + 1, .lookupUnlessMarked(mark: mark, table: table))
                ]
        }
    }

    private func onKernel(_ body: (inout KernelDataplane, KernelFixture) throws -> Void) throws {
        try TestNamespace.run {
            let fixture = try KernelFixture()
            var plane = fixture.plane
            try body(&plane, fixture)
        }
    }

    /// Adds what is missing and removes what is too much, as a plan does; what is left to do then.
    @discardableResult
    private func pass(_ plane: inout KernelDataplane, _ wanted: [PolicyRule]) throws -> [PolicyRuleOperation] {
        let operations = try plan(&plane, wanted)
        let outcomes = plane.perform(operations.map { .rule($0) }, for: mesh)
        #expect(outcomes.allSatisfy { !$0.isFailure }, "\(outcomes)")
        #expect(try plan(&plane, wanted) == [])
        return operations
    }

    private func plan(_ plane: inout KernelDataplane, _ wanted: [PolicyRule]) throws -> [PolicyRuleOperation] {
        let live = try plane.observe(mesh, Interests(rules: wanted)).state.rules
        let diff = CollectionDiff(desired: wanted, live: live)
        return (diff.added + diff.changed.map(\.desired)).map { .add($0) }
            + (diff.removed + diff.changed.map(\.live)).map { .remove($0) }
    }

    @Test func addsKnowsAndRemoves() throws {
        try onKernel { plane, _ in
            let before = output("ip rule; ip -6 rule")
            #expect(try plane.observe(mesh, Interests(rules: wanted)).state.rules == [])
            try pass(&plane, wanted)
            let observed = try plane.observe(mesh, Interests(rules: wanted))
            #expect(observed.state.rules == wanted)
            #expect(observed.foreign == [])
            #expect(
                plane.perform(wanted.map { .rule(.add($0)) }, for: mesh) == wanted.map { _ in .already })
            for family in ["-4", "-6"] {
                let text = output("ip \(family) rule")
                #expect(
                    text.contains("\(numbers.priority):\tfrom all lookup main suppress_prefixlength 0 proto 119"))
                #expect(
                    text.contains(
                        "\(numbers.priority + 1):\tnot from all fwmark 0x\(String(numbers.mark, radix: 16))/0xff000000 "
                            + "lookup \(numbers.table) proto 119"))
                let far = family == "-4" ? "100.64.0.0/10" : "fd00::/8"
                #expect(text.contains("\(numbers.priority):\tfrom all to \(far) lookup main proto 119"))
            }
            // Without a wish they are still known, and go.
            #expect(try pass(&plane, []).count == wanted.count)
            #expect(plane.perform(wanted.map { .rule(.remove($0)) }, for: mesh) == wanted.map { _ in .already })
            #expect(output("ip rule; ip -6 rule") == before)
        }
    }

    /// Every attribute that a person can give a rule of ours shows, and is put right.
    @Test(arguments: [
        "from 10.0.0.0/8", "to 10.0.0.0/8", "iif lo", "oif lo", "tos 0x10", "ipproto tcp", "ipproto tcp sport 5",
        "ipproto udp dport 5-9", "uidrange 0-7", "suppress_ifgroup 3", "realms 4", "tun_id 9",
    ])
    func showsAndMendsWhatWasChanged(_ selector: String) throws {
        try onKernel { plane, _ in
            try pass(&plane, wanted)
            let tunnel = "priority \(numbers.priority + 1) protocol 119"
            let main = "table main priority \(numbers.priority) protocol 119"
            let mark = "not fwmark \(numbers.mark)/0xff000000 table \(numbers.table)"
            for (rule, replacement) in [
                ("\(mark) \(tunnel)", "\(mark) \(selector) \(tunnel)"),
                ("suppress_prefixlength 0 \(main)", "suppress_prefixlength 0 \(selector) \(main)"),
            ] {
                #expect(shell("ip rule del \(rule) && ip rule add \(replacement)"))
                let live = try plane.observe(mesh, Interests(rules: wanted)).state.rules
                #expect(live.count == wanted.count)
                let strange = live.filter { !$0.strange.isEmpty }
                #expect(strange.count == 1)
                let words = try #require(strange.first?.words)
                #expect(output("ip rule; ip -6 rule").contains(":\t\(words) proto 119"), "\(words)")
                let operations = try pass(&plane, wanted)
                #expect(operations.count == 2)
                // Beside ours, where ours would match the request that removes it.
                #expect(shell("ip rule add \(replacement)"))
                #expect(try plan(&plane, wanted).count == 1)
                try pass(&plane, wanted)
                #expect(try plane.observe(mesh, Interests(rules: wanted)).state.rules == wanted)
            }
        }
    }

    @Test(arguments: [
        "fwmark MARK/0xff000000 table TABLE priority TWO", "not fwmark 5 table TABLE priority TWO",
        "not fwmark MARK/0xff000000 table 77 priority TWO", "not fwmark MARK table TABLE priority TWO",
        "table TABLE priority TWO", "table main priority ONE", "table main suppress_prefixlength 8 priority ONE",
        "not table main suppress_prefixlength 0 priority ONE", "fwmark 7 table main priority ONE",
        "to 10.9.0.0/16 table main priority ONE", "to 100.64.0.0/10 table main suppress_prefixlength 8 priority ONE",
        "not to 100.64.0.0/10 table main priority ONE", "to 100.64.0.0/10 table 77 priority ONE",
        "to 100.64.0.0/10 blackhole priority ONE",
        "blackhole priority ONE", "not fwmark MARK/0xff000000 table TABLE priority 9000",
        "not fwmark MARK/0xff000000 table TABLE suppress_prefixlength 0 priority TWO",
        "not fwmark MARK/0xff000000 unreachable priority TWO",
    ])
    func takesAwayWhatWasMadeInItsName(_ rule: String) throws {
        try onKernel { plane, _ in
            let text =
                rule
                .replacing("MARK", with: "\(numbers.mark)").replacing("TABLE", with: "\(numbers.table)")
                .replacing("ONE", with: "\(numbers.priority)").replacing("TWO", with: "\(numbers.priority + 1)")
            // Before ours, beside ours (where the kernel can tell them apart), and in the place of ours.
            #expect(shell("ip rule add \(text) protocol 119"))
            try pass(&plane, wanted)
            shell("ip rule add \(text) protocol 119 2>/dev/null")
            try pass(&plane, wanted)
            let place = rule.contains("ONE") ? numbers.priority : numbers.priority + 1
            let empty = "while ip rule del priority \(place) 2>/dev/null; do :; done"
            #expect(shell("\(empty); ip rule add \(text) protocol 119"))
            let planned = try plan(&plane, wanted)
            #expect(!planned.isEmpty)
            try pass(&plane, wanted)
            #expect(try plane.observe(mesh, Interests(rules: wanted)).state.rules == wanted)
            try pass(&plane, [])
        }
    }

    @Test func removesOneOfTwoEqualOnes() throws {
        try onKernel { plane, _ in
            try pass(&plane, wanted)
            // Only without EXCL can there be two: the diff knows one key once, and each pass takes one away.
            let twin = try KernelTwin()
            try twin.add(wanted[3])
            #expect(try plane.observe(mesh, Interests(rules: wanted)).state.rules.count == wanted.count + 1)
            #expect(plane.perform([.rule(.remove(wanted[3]))], for: mesh) == [.done])
            #expect(try plane.observe(mesh, Interests(rules: wanted)).state.rules == wanted)
        }
    }

    @Test(arguments: [
        ("priority 500 table TABLE", "rule", "table:"), ("priority 500 fwmark MARK table 9", "rule", "fwMark:"),
        ("priority 500 fwmark MARK/0xff00 table 9", "rule", "fwMark:"),
        ("priority 500 not fwmark MARK table 9", "rule", "fwMark:"),
        ("priority ONE from 10.0.0.0/8 table 9", "rule", "interface"),
        ("priority TWO table 9 protocol 119 fwmark 6", "", ""),
        ("priority 500 not fwmark 0x77000001 table 51820", "", ""), ("priority 500 from 10.0.0.0/8 table 9", "", ""),
    ])
    func namesRulesThatUseItsNumbers(_ rule: String, _ kind: String, _ field: String) throws {
        try onKernel { plane, _ in
            let text =
                rule
                .replacing("MARK", with: "\(numbers.mark)").replacing("TABLE", with: "\(numbers.table)")
                .replacing("ONE", with: "\(numbers.priority)").replacing("TWO", with: "\(numbers.priority + 1)")
            #expect(shell("ip -6 rule add \(text.replacing("10.0.0.0/8", with: "fd00::/8"))"))
            let found = try plane.observe(mesh, Interests(rules: wanted)).foreign
            guard !kind.isEmpty else { return #expect(found == []) }
            let object = try #require(found.first)
            #expect(found.count == 1)
            #expect(object.kind == "rule")
            #expect(object.relation == .takesNumber)
            #expect(object.remedy.contains(field))
            // A mesh that is to go, or has no full tunnel, has no use for the numbers.
            #expect(try plane.observe(mesh, Interests()).foreign == [])
        }
    }

    /// As wg-quick makes it, with its own mark and with another; and another mesh with a mark of its own.
    @Test(arguments: [
        ("not fwmark 0xca6c table 51820", "`FwMark = 0x77000001`"),
        ("not fwmark 0x4242 table 4242 protocol 119", "other mesh's node"),
        ("not fwmark 0x77000001 table 51820", ""), ("not fwmark 0xca6c table main", ""),
        ("not fwmark 0xca6c from 10.0.0.0/8 table 51820", ""), ("fwmark 0xca6c table 51820", ""),
        ("not fwmark 0x77000001/0xff000000 table 51820 protocol 119", ""),
    ])
    func namesTunnelsThatTakeEachOthersPackets(_ rule: String, _ remedy: String) throws {
        try onKernel { plane, _ in
            #expect(shell("ip rule add priority 500 \(rule)"))
            let found = try plane.observe(mesh, Interests(rules: wanted)).foreign
            guard !remedy.isEmpty else { return #expect(found == []) }
            let object = try #require(found.first)
            #expect(found.count == 1)
            #expect(object.relation == .hinders)
            #expect(object.remedy.contains(remedy))
        }
    }

    @Test func namesRoutesInItsTable() throws {
        try onKernel { plane, fixture in
            shell("ip link add d0 type bridge; ip link set d0 up; ip address add 192.168.7.1/24 dev d0")
            shell("ip route add 10.1.0.0/16 dev d0 table \(numbers.table); ip route add 10.2.0.0/16 dev d0 table 77")
            shell("ip -6 route add blackhole fd01::/64 table \(numbers.table)")
            let found = try plane.observe(mesh, Interests(rules: wanted)).foreign
            #expect(found.map(\.relation) == [.takesNumber])
            #expect(found.first?.description == "10.1.0.0/16 dev d0 table \(numbers.table) proto boot and 1 more")
            #expect(found.first?.remedy.contains("`table:`") == true)
            #expect(try plane.observe(mesh, Interests()).foreign == [])
        }
    }

    /// Those of others that lead into the tunnel itself stand in its way there, and need no second line.
    @Test func namesRoutesOfOthersOnItsLinkOnce() throws {
        try onKernel { plane, fixture in
            #expect(plane.perform([.link(.create(KernelFixture.link))], for: mesh) == [.done])
            #expect(plane.perform([.link(.setUp(interface: "wg0"))], for: mesh) == [.done])
            #expect(shell("ip route add 10.1.0.0/16 dev wg0 table \(numbers.table)"))
            #expect(shell("ip route add 10.2.0.0/16 dev wg0"))
            let found = try plane.observe(mesh, Interests(rules: wanted)).foreign.filter { $0.kind == "route" }
            #expect(
                found.map(\.description) == [
                    "10.2.0.0/16 dev wg0 proto boot", "10.1.0.0/16 dev wg0 table \(numbers.table) proto boot",
                ])
            #expect(found.map(\.relation) == [.onLink, .takesNumber])
        }
    }

    /// A rule that looks nowhere has no table to be named.
    @Test(arguments: [
        ("blackhole", "from all blackhole"), ("unreachable from 10.0.0.0/8", "from 10.0.0.0/8 unreachable"),
        ("not fwmark MARK prohibit", "not from all fwmark MARK prohibit"), ("goto 32766", "from all goto 32766"),
    ])
    func describesRulesAsIpRuleDoes(_ rule: String, _ words: String) throws {
        try onKernel { plane, _ in
            let mark = "0x\(String(numbers.mark, radix: 16))/0xff000000"
            let text = rule.replacing("MARK", with: mark)
            #expect(shell("ip rule add \(text) priority \(numbers.priority + 1) protocol 119"))
            let live = try plane.observe(mesh, Interests(rules: wanted)).state.rules
            #expect(live.map(\.words) == [words.replacing("MARK", with: mark)])
            #expect(output("ip rule").contains(":\t\(words.replacing("MARK", with: mark)) proto 119"))
            let operations = try plan(&plane, wanted)
            #expect(live.allSatisfy { operations.contains(.remove($0)) })
            try pass(&plane, wanted)
            #expect(try plane.observe(mesh, Interests(rules: wanted)).state.rules == wanted)
        }
    }

    /// Two meshes whose topologies say the same mark, or whose names give the same priority.
    @Test func leavesAnotherMeshsRulesAlone() throws {
        try onKernel { plane, _ in
            let other = MeshIdentity(mesh: "lab", interface: "wg7")
            shell("ip link add wg7 type bridge; ip link set wg7 alias weft:lab")
            // The kind is what an own mesh has.
            guard TestNamespace.hasKernelWireGuard || shell("ip link del wg7; ip tuntap add dev wg7 mode tun") else {
                return
            }
            if TestNamespace.hasKernelWireGuard { shell("ip link del wg7; ip link add wg7 type wireguard") }
            shell("ip link set wg7 alias weft:lab")
            let theirs = PolicyRule(
                .v4, priority: other.routingNumbers.priority + 1, .lookupUnlessMarked(mark: 5, table: 5))
            #expect(plane.perform([.rule(.add(theirs))], for: other) == [.done])
            let ours = wanted(mark: 5, table: 6)
            let observed = try plane.observe(mesh, Interests(rules: ours))
            #expect(observed.state.rules == [])
            #expect(observed.foreign.map(\.relation) == [.takesNumber])
            #expect(observed.foreign.first?.remedy.contains("another mesh's: of lab on wg7") == true)
            #expect(plane.perform([.rule(.remove(theirs))], for: mesh) == [.already])
            #expect(try plane.observe(other, Interests()).state.rules == [theirs])
        }
    }

    /// A default route into the tunnel, and the refusal of the other family, in a table of their own.
    @Test func keepsDefaultRoutesInItsOwnTable() throws {
        try onKernel { plane, fixture in
            #expect(plane.perform([.link(.create(KernelFixture.link))], for: mesh) == [.done])
            #expect(plane.perform([.link(.setUp(interface: "wg0"))], for: mesh) == [.done])
            for table: UInt32 in [numbers.table, 77] {
                var routes: [Route] = []
                for (text, metric, target) in [
                    ("0.0.0.0/0", 0, Route.Target.interface), ("0.0.0.0/0", mesh.unreachableMetric, .unreachable),
                    ("::/0", 1024, .interface), ("::/0", mesh.unreachableMetric, .unreachable),
                ] as [(String, UInt32, Route.Target)] {
                    var route = route(text, metric: metric, target: target)
                    route.key.table = table
                    routes.append(route)
                }
                #expect(
                    plane.perform(routes.map { .route(.add($0, interface: "wg0")) }, for: mesh)
                        == Array(repeating: .done, count: 4))
                let observed = try plane.observe(mesh, Interests(rules: wanted(mark: 9, table: table)))
                #expect(Set(observed.state.routes) == Set(routes))
                #expect(observed.foreign == [])
                // Nobody wants them any more: they are seen, and go.
                #expect(Set(try plane.observe(mesh, Interests()).state.routes) == Set(routes))
                #expect(
                    plane.perform(routes.map { .route(.remove($0, interface: "wg0")) }, for: mesh)
                        == Array(repeating: .done, count: 4))
                #expect(try plane.observe(mesh, Interests()).state.routes == [])
            }
        }
    }
}

/// Adds a rule as somebody does who does not ask whether it is there.
private struct KernelTwin {
    private let channel: Channel

    init() throws(Errno) { channel = Channel(try Socket(.route)) }

    func add(_ rule: PolicyRule) throws(NetlinkError) {
        guard case .lookupUnlessMarked(let mark, let table) = rule.key.action else { return }
        // RTM_NEWRULE, then the attributes' numbers in linux/fib_rules.h.
        try channel.request(32, flags: 0x400) { encoder in
            encoder.putRuleHeader(family: rule.key.family.number, action: 1, isInverted: true)
            encoder.attribute(6, rule.key.priority)
            encoder.attribute(15, table)
            encoder.attribute(21, UInt8(119))
            encoder.attribute(10, mark)
            encoder.attribute(16, MeshIdentity.mask(of: mark))
        }
    }
}
