// Tables for tests on nf_tables: one with everything that Weft can say, and large ones.

import Glibc
import Netlink
import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

/// Shorthands for rules.
enum Step {
    static func name(_ text: String) -> [UInt8] {
        Array(text.utf8) + [UInt8](repeating: 0, count: 16 - text.utf8.count)
    }
    static func interface(_ key: FirewallExpression.Meta, is name: String) -> [FirewallExpression] {
        [.meta(key), .compare(.equal, Self.name(name))]
    }
    static func interface(_ key: FirewallExpression.Meta, isNot name: String) -> [FirewallExpression] {
        [.meta(key), .compare(.notEqual, Self.name(name))]
    }
    static func byte(_ key: FirewallExpression.Meta, _ value: UInt8) -> [FirewallExpression] {
        [.meta(key), .compare(.equal, [value])]
    }
    static func host(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }
    static let ipv4 = byte(.family, UInt8(AF_INET))
    static let ipv6 = byte(.family, UInt8(AF_INET6))
    static func direction(_ value: UInt8) -> [FirewallExpression] {
        [.conntrack(.direction), .compare(.equal, [value])]
    }
    static func jump(_ chain: String) -> [FirewallExpression] { [.verdict(.jump(chain))] }
}

func key(_ addresses: String..., transport: UInt8? = nil, port: UInt16? = nil) -> FirewallKey {
    var key = FirewallKey()
    for address in addresses { key.append(IPAddress(address) ?? IPAddress(v4: 0)) }
    if let transport { key.append(transport: transport) }
    if let port { key.append(port: port) }
    return key
}

extension Firewall {
    static let sampleMark: UInt32 = 0x7700_0001

    /// Everything that Weft can say, each thing at least once; in the order in which it is read.
    static var sample: Firewall {
        let mark = Step.host(sampleMark)
        let notLocal: [FirewallExpression] = [.compare(.notEqual, Step.host(2))]
        var firewall = Firewall()
        firewall.counters = [
            FirewallCounter("access-0a1b2c3d", comment: "web -> db:80"), FirewallCounter("access-refused"),
        ]
        firewall.sets = [
            FirewallSet(
                "allow6", [.address6],
                elements: [
                    .init(key("fd00::"), key("fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
                    .init(key("ff00::"), key("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
                ]),
            FirewallSet(
                "nat-src4", [.address4],
                elements: [
                    .init(key("0.0.0.0"), key("0.255.255.255")), .init(key("10.0.0.0"), key("10.0.255.255")),
                    .init(key("192.168.1.7"), key("192.168.1.7")), .init(key("192.168.1.8"), key("192.168.1.9")),
                    .init(key("255.255.255.255"), key("255.255.255.255")),
                ]),
            FirewallSet(
                "one4", [.address4], hasCounters: true,
                elements: [
                    .init(key("10.9.0.0"), key("10.9.0.7"), counter: "access-0a1b2c3d"),
                    .init(key("10.9.0.8"), key("10.9.0.8"), counter: "access-refused"),
                ]),
            FirewallSet(
                "pairs6", [.address6, .address6], hasCounters: true,
                elements: [
                    .init(
                        key("fd00::1", "fd01::"), key("fd00::1", "fd01::ffff:ffff:ffff:ffff"), counter: "access-refused"
                    )
                ]),
            FirewallSet(
                "ports4", [.address4, .address4, .transport, .port], hasCounters: true,
                elements: [
                    .init(
                        key("10.0.0.1", "10.1.0.0", transport: 6, port: 80),
                        key("10.0.0.9", "10.1.255.255", transport: 6, port: 90), counter: "access-0a1b2c3d"),
                    .init(
                        key("10.0.0.1", "10.1.0.1", transport: 17, port: 53),
                        key("10.0.0.1", "10.1.0.1", transport: 17, port: 53), counter: "access-refused"),
                ]),
        ]
        let flow: [FirewallExpression] = [
            .tuple(.original, .source4), .payload(.network, offset: 16, length: 4, into: 1),
            .meta(.transport, into: 2), .tuple(.reply, .sourcePort, into: 3),
        ]
        let pair: [FirewallExpression] = [
            .payload(.network, offset: 24, length: 16), .tuple(.original, .destination6, into: 4),
        ]
        firewall.chains = [
            FirewallChain(
                "access",
                rules: [
                    FirewallRule(
                        [
                            .conntrack(.state), .bitwise(mask: Step.host(4)), .compare(.notEqual, Step.host(0)),
                        ] + Step.byte(.transport, 1) + [.verdict(.accept)]),
                    FirewallRule(
                        Step.byte(.transport, 6) + Step.ipv4 + flow + [.countByMap(set: "ports4"), .verdict(.accept)],
                        comment: "allowed"),
                    FirewallRule(
                        Step.direction(1) + Step.ipv6 + pair + [.countByMap(set: "pairs6"), .verdict(.accept)]),
                    FirewallRule([.countBy("access-refused"), .reject(.prohibited)]),
                ]),
            FirewallChain(
                "clamp", base: .init(.filter, .forward, priority: -150),
                rules: [
                    FirewallRule(
                        Step.interface(.outputInterface, is: "wg0") + Step.byte(.transport, 6) + [
                            .payload(.transport, offset: 13, length: 1), .bitwise(mask: [6]),
                            .compare(.equal, [2]), .routeTCPMSS(), .byteOrder16(), .writeTCPMSS(),
                        ])
                ]),
            FirewallChain("forward", base: .init(.filter, .forward, priority: 0)),
            FirewallChain(
                "guard", base: .init(.filter, .prerouting, priority: -300),
                rules: [
                    FirewallRule(
                        Step.interface(.inputInterface, isNot: "wg0") + Step.ipv4 + [
                            .payload(.network, offset: 16, length: 4), .compare(.equal, [10, 80, 0, 1]),
                            .addressType(.source),
                        ] + notLocal + [.counter, .verdict(.drop)], comment: "its own address")
                ]),
            FirewallChain(
                "input", base: .init(.filter, .input, priority: 5),
                rules: [
                    FirewallRule(
                        Step.interface(.inputInterface, is: "wg0") + Step.byte(.transport, 6) + [.reject(.reset)]),
                    FirewallRule([.verdict(.goto("access"))]),
                ]),
            FirewallChain(
                "output", base: .init(.filter, .output, priority: 0, dropsByDefault: true),
                rules: [
                    FirewallRule(
                        Step.interface(.outputInterface, isNot: "wg0")
                            + [.meta(.mark), .compare(.notEqual, mark), .addressType(.destination)] + notLocal
                            + Step.ipv6 + [
                                .payload(.network, offset: 24, length: 16), .lookup(set: "allow6", isInverted: true),
                                .counter, .reject(.prohibited),
                            ]),
                    FirewallRule(
                        Step.ipv4 + [
                            .payload(.network, offset: 16, length: 4), .countByMap(set: "one4"), .verdict(.return),
                        ]),
                    FirewallRule(Step.jump("access")),
                ]),
            FirewallChain(
                "postrouting", base: .init(.nat, .postrouting, priority: 100),
                rules: [
                    FirewallRule(
                        Step.interface(.outputInterface, is: "eth0") + Step.ipv4 + [
                            .payload(.network, offset: 12, length: 4), .lookup(set: "nat-src4"),
                            .payload(.network, offset: 16, length: 4), .lookup(set: "nat-src4", isInverted: true),
                            .counter, .masquerade,
                        ])
                ]),
            FirewallChain(
                "restore", base: .init(.filter, .prerouting, priority: -150),
                rules: [
                    FirewallRule(
                        Step.byte(.transport, 17)
                            + [.conntrack(.mark), .compare(.equal, mark), .conntrack(.mark), .setMeta(.mark)])
                ]),
            FirewallChain(
                "reroute", base: .init(.route, .output, priority: -150)),
            FirewallChain(
                "save", base: .init(.filter, .postrouting, priority: -150),
                rules: [
                    FirewallRule(
                        Step.byte(.transport, 17)
                            + [.meta(.mark), .compare(.equal, mark), .meta(.mark), .setConntrack(.mark)])
                ]),
        ]
        firewall.chains.sort { $0.name < $1.name }
        return firewall
    }

    /// What `nft` 1.0.6 prints of `sample`, but for long lists, which stand in one line here.
    // swift-format-ignore
    static let sampleText = """
        table inet weft-wg0 {
        	counter access-0a1b2c3d {
        		comment "web -> db:80"
        		packets 0 bytes 0
        	}

        	counter access-refused {
        		packets 0 bytes 0
        	}

        	set allow6 {
        		type ipv6_addr
        		flags interval
        		elements = { fd00::/16, ff00::/8 }
        	}

        	set nat-src4 {
        		type ipv4_addr
        		flags interval
        		elements = { 0.0.0.0/8, 10.0.0.0/16, 192.168.1.7, 192.168.1.8/31, 255.255.255.255 }
        	}

        	map one4 {
        		type ipv4_addr : counter
        		flags interval
        		elements = { 10.9.0.0/29 : "access-0a1b2c3d", 10.9.0.8 : "access-refused" }
        	}

        	map pairs6 {
        		type ipv6_addr . ipv6_addr : counter
        		flags interval
        		elements = { fd00::1 . fd01::/64 : "access-refused" }
        	}

        	map ports4 {
        		type ipv4_addr . ipv4_addr . inet_proto . inet_service : counter
        		flags interval
        		elements = { 10.0.0.1-10.0.0.9 . 10.1.0.0/16 . tcp . 80-90 : "access-0a1b2c3d", 10.0.0.1 . 10.1.0.1 . udp . 53 : "access-refused" }
        	}

        	chain access {
        		ct state related meta l4proto icmp accept
        		meta l4proto tcp counter name ct original ip saddr . ip daddr . meta l4proto . ct reply proto-src map @ports4 accept comment "allowed"
        		ct direction reply counter name ip6 daddr . ct original ip6 daddr map @pairs6 accept
        		counter name "access-refused" reject with icmpx admin-prohibited
        	}

        	chain clamp {
        		type filter hook forward priority mangle; policy accept;
        		oifname "wg0" tcp flags syn / syn,rst tcp option maxseg size set rt mtu
        	}

        	chain forward {
        		type filter hook forward priority filter; policy accept;
        	}

        	chain guard {
        		type filter hook prerouting priority raw; policy accept;
        		iifname != "wg0" ip daddr 10.80.0.1 fib saddr type != local counter packets 0 bytes 0 drop comment "its own address"
        	}

        	chain input {
        		type filter hook input priority filter + 5; policy accept;
        		iifname "wg0" meta l4proto tcp reject with tcp reset
        		goto access
        	}

        	chain output {
        		type filter hook output priority filter; policy drop;
        		oifname != "wg0" meta mark != 0x77000001 fib daddr type != local ip6 daddr != @allow6 counter packets 0 bytes 0 reject with icmpx admin-prohibited
        		counter name ip daddr map @one4 return
        		jump access
        	}

        	chain postrouting {
        		type nat hook postrouting priority srcnat; policy accept;
        		oifname "eth0" ip saddr @nat-src4 ip daddr != @nat-src4 counter packets 0 bytes 0 masquerade
        	}

        	chain reroute {
        		type route hook output priority mangle; policy accept;
        	}

        	chain restore {
        		type filter hook prerouting priority mangle; policy accept;
        		meta l4proto udp ct mark 0x77000001 meta mark set ct mark
        	}

        	chain save {
        		type filter hook postrouting priority mangle; policy accept;
        		meta l4proto udp meta mark 0x77000001 ct mark set meta mark
        	}
        }

        """
}

extension Firewall {
    /// Half of the elements are ranges of addresses, half flows to ports with counters; as many rules in each of four
    /// chains.
    static func large(elements: Int, rules: Int) -> Firewall {
        var firewall = Firewall(counters: (0..<100).map { FirewallCounter("access-\(100 + $0)") })
        let half = UInt32(elements / 2)
        firewall.sets = [
            FirewallSet(
                "allow4", [.address4],
                elements: (0..<half).map { number in
                    var (lower, upper) = (FirewallKey(), FirewallKey())
                    lower.append(0x0A00_0000 + number * 16)
                    upper.append(0x0A00_0000 + number * 16 + number % 15)
                    return .init(lower, upper)
                }),
            FirewallSet(
                "ports4", [.address4, .address4, .transport, .port], hasCounters: true,
                elements: (0..<half).map { number in
                    func key(_ port: UInt16) -> FirewallKey {
                        var key = FirewallKey()
                        key.append(0x0A00_0000 + number)
                        key.append(0x0A01_0000 + number % 50)
                        key.append(transport: 6)
                        key.append(port: port)
                        return key
                    }
                    return .init(key(80), key(90), counter: "access-\(100 + number % 100)")
                }),
        ]
        firewall.chains = ["a", "b", "c", "d"].map { name in
            FirewallChain(
                name, base: .init(.filter, .forward, priority: 0),
                rules: (0..<rules / 4).map { number in
                    FirewallRule(
                        Step.interface(.outputInterface, is: "wg\(number)") + Step.ipv4 + [
                            .payload(.network, offset: 16, length: 4), .lookup(set: "allow4"), .counter,
                            .verdict(.accept),
                        ], comment: "rule \(number)")
                })
        }
        return firewall
    }
}

/// The table of a mesh on `wg0` in the calling thread's namespace.
struct Tables {
    static let name = "weft-wg0"
    let channel: Channel
    var tables: NfTables { NfTables(channel: channel, table: Self.name) }

    init(_ transport: (any Transport)? = nil) throws {
        channel = Channel(try transport ?? Socket(.netfilter))
    }

    /// As `nft` 1.0.6 prints it, all of it, but for long lists, which stand in one line: others break them elsewhere, and 1.1
    /// has other words for flags.
    static var text: String {
        output("nft list table inet \(name)")
            .replacing(/,\n\t\t\t +/, with: ", ")
            .replacing("tcp flags & (syn | rst) == syn", with: "tcp flags syn / syn,rst")
    }

    /// Lets `nft` do what the text says.
    static func nft(_ text: String) {
        let pipe = popen("nft -f -", "w")
        #expect(pipe != nil)
        guard let pipe else { return }
        fputs(text, pipe)
        #expect(pclose(pipe) == 0)
    }

    func firewall() throws(DataplaneError) -> Firewall? { try tables.read().firewall }

    func make(_ firewall: Firewall) -> Outcome { tables.perform(.create(firewall, table: Self.name), last: nil) }

    /// Leads what is there to what is wanted, as a plan would.
    func lead(to wanted: Firewall?) throws(DataplaneError) -> Outcome? {
        let last = try tables.read()
        guard let operation = operation(from: last.firewall, to: wanted) else { return nil }
        return tables.perform(operation, last: last)
    }

    func operation(from live: Firewall?, to wanted: Firewall?) -> FirewallOperation? {
        var observed = Observation(time: UnixTime(seconds: 0))
        observed.state.firewall = live
        let mesh = MeshIdentity(mesh: "corp", interface: "wg0")
        var desired = DesiredState(mesh: "corp", interface: "wg0", node: "here", state: HostState(firewall: wanted))
        desired.state.link = Link(name: "wg0", mtu: 1420, alias: mesh.alias)
        let plan = Plan(mesh: mesh, desired: desired, observed: observed, memory: MeshMemory())
        for planned in plan.operations {
            if case .firewall(let operation) = planned.operation { return operation }
        }
        return nil
    }
}
