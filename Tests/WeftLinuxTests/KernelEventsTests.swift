// What the kernel tells of changes, made by the programs that people make them with.

import CLinux
import Glibc
import Netlink
import Testing
import WeftLoop
import WeftModel

@testable import WeftLinux

@Suite(.enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct KernelEventsTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var kind: KernelEvents.Kind
        var command: String
        /// How a hint begins; empty where kernels differ in whether there is one.
        var hint = ""

        var testDescription: String { command }

        static let all = [
            Case(kind: .link, command: "ip link add d0 type bridge"),
            Case(kind: .link, command: "ip link del d1"),
            Case(
                kind: .address, command: "ip address add 10.0.0.1/24 dev lo",
                hint: "address 10.0.0.1/24 of interface 1 set by "),
            Case(kind: .address, command: "ip -6 address add fd00::1/64 dev lo"),
            Case(kind: .address, command: "ip address del 10.9.0.1/24 dev d1"),
            Case(
                kind: .route, command: "ip route add 10.1.0.0/16 dev lo", hint: "route 10.1.0.0/16 in table 254 set by "
            ),
            Case(
                kind: .route, command: "ip -6 route add fd01::/32 dev lo table 77777",
                hint: "route fd01::/32 in table 77777 set by "),
            Case(kind: .route, command: "ip route del 10.8.0.0/16", hint: "route 10.8.0.0/16 in table 254 removed by "),
            Case(kind: .rule, command: "ip rule add pref 77 table 5", hint: "rule of priority 77 set by "),
            Case(kind: .rule, command: "ip -6 rule del pref 32766", hint: "rule of priority 32766 removed by "),
            Case(kind: .netconf, command: "sysctl -qw net.ipv4.conf.d1.forwarding=1"),
            Case(kind: .netconf, command: "sysctl -qw net.ipv6.conf.d1.forwarding=1"),
            Case(
                kind: .firewall, command: "nft add table inet other",
                hint: "table other of nf_tables changed by nft (process "),
            Case(
                kind: .firewall, command: "nft add rule inet mine c counter",
                hint: "table mine of nf_tables changed by nft (process "),
        ]
    }

    /// Runs a test in a namespace with a few things to change.
    private func inNamespace(_ body: (KernelEvents) throws -> Void) throws {
        try TestNamespace.run {
            try #require(
                shell(
                    """
                    ip link add d1 type bridge && ip link set d1 addrgenmode none up && ip address add 10.9.0.1/24 dev d1 &&
                    ip route add 10.8.0.0/16 dev d1 && nft 'add table inet mine; add chain inet mine c'
                    """))
            let events = try KernelEvents()
            #expect(events.tellsOfFirewalls)
            _ = events.drain()
            try body(events)
        }
    }

    @Test(arguments: Case.all)
    func tellsOfAChange(one: Case) throws {
        try inNamespace { events in
            try #require(shell(one.command))
            let told = events.drain()
            #expect(told.kinds.contains(one.kind))
            #expect(!told.overflowed)
            if !one.hint.isEmpty {
                #expect(told.hints.contains { $0.hasPrefix(one.hint) }, Comment(rawValue: "\(told.hints)"))
            }
            // The kernel may still have something to say of the link.
            #expect(events.drain().kinds.isSubset(of: [.link]))
        }
    }

    @Test func namesAProgramThatIsStillThere() throws {
        try inNamespace { events in
            let program = try #require(popen("ip -batch -", "w"))
            fputs("route add 10.1.0.0/16 dev lo\n", program)
            fflush(program)
            var entry = pollfd(fd: events.descriptors[0], events: Int16(POLLIN), revents: 0)
            #expect(poll(&entry, 1, 30_000) == 1)
            let hints = events.drain().hints
            pclose(program)
            #expect(
                hints.contains { $0.contains("10.1.0.0/16 in table 254 set by ip (process ") },
                Comment(rawValue: "\(hints)"))
        }
    }

    @Test func saysNothingOfItsOwnChanges() throws {
        try inNamespace { events in
            let channel = Channel(try Socket(.route))
            try channel.request(UInt16(RTM_NEWROUTE), flags: NLM_F_CREATE) { encoder in
                encoder.putRouteHeader(
                    family: UInt8(AF_INET), length: 8, table: 254, proto: 119, type: UInt8(RTN_UNREACHABLE))
                encoder.attribute(UInt16(RTA_DST), IPAddress(v4: 0x0A00_0000))
            }
            let told = events.drain()
            #expect(told.kinds.contains(.route))
            #expect(told.hints.isEmpty)
        }
    }

    @Test func changesInOtherNamespacesAreNotTold() throws {
        try inNamespace { events in
            #expect(TestNamespace.run { shell("ip route add 10.1.0.0/16 dev lo") } == true)
            #expect(!events.drain().kinds.contains(.route))
        }
    }

    // MARK: Storms

    private static let storm = 20_000

    /// Adds 20,000 routes in one go.
    private func raiseStorm() throws {
        try #require(
            shell(
                """
                awk 'BEGIN { for (i = 0; i < \(Self.storm); i++)
                    printf "route add 10.%d.%d.%d/32 dev lo\\n", i / 65536, i / 256 % 256, i % 256 }' | ip -batch -
                """))
    }

    @Test func ofAStormAllIsToldOrThatThereWasMore() throws {
        try TestNamespace.run {
            let subscription = try Subscription(.route, groups: [RTNLGRP_IPV4_ROUTE.rawValue])
            try raiseStorm()
            var (count, overflowed) = (0, false)
            loop: while true {
                switch try subscription.next({ _ in count += 1 }) {
                case .messages: break
                case .overflow: overflowed = true
                case .nothing: break loop
                }
            }
            #expect(overflowed || count == Self.storm)
            #expect(count > 1000)
            // The socket goes on.
            shell("ip route flush 10.0.0.1/32")
            count = 0
            #expect(try subscription.next { _ in count += 1 } == .messages)
            #expect(count == 1)
        }
    }

    @Test func aStormKeepsNobodyElseWaiting() throws {
        try inNamespace { events in
            let loop = try EventLoop()
            try raiseStorm()
            var (drains, drainsBeforeTimer, hints) = (0, 0, 0)
            var (overflowed, kinds) = (false, Set<KernelEvents.Kind>())
            for descriptor in events.descriptors {
                try loop.watch(descriptor) { _ in
                    let told = events.drain()
                    drains += 1
                    overflowed = overflowed || told.overflowed
                    kinds.formUnion(told.kinds)
                    hints = max(hints, told.hints.count)
                }
            }
            loop.schedule(after: .zero) {
                drainsBeforeTimer = drains
                stopWhenQuiet(since: drains)
            }
            func stopWhenQuiet(since seen: Int) {
                loop.schedule(after: .seconds(1)) {
                    if drains == seen { loop.stop() } else { stopWhenQuiet(since: drains) }
                }
            }
            loop.run()
            #expect(drainsBeforeTimer <= 2)
            #expect(drains > 4)
            #expect(hints == 16)
            #expect(kinds.contains(.route))
            #expect(!overflowed || kinds == Set(KernelEvents.Kind.allCases))
            #expect(!events.drain().kinds.contains(.route))
            #expect(shell("ip link add d0 type bridge"))
            #expect(events.drain().kinds.contains(.link))
        }
    }
}
