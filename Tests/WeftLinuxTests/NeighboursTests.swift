// Other programs' firewalls and network managers: named where they stand against a mesh, and no longer once they let it be.

import Glibc
import Netlink
import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite(.enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct NeighboursTests {
    private static let everything: Set<DesiredState.Flow> = [.listen(port: 51820), .deliver, .forward]

    private func onKernel(_ body: (inout KernelDataplane, KernelFixture) throws -> Void) throws {
        try TestNamespace.run {
            let fixture = try KernelFixture()
            var plane = fixture.plane
            try body(&plane, fixture)
        }
    }

    private func found(
        _ plane: inout KernelDataplane, _ flows: Set<DesiredState.Flow> = everything
    ) throws -> [ForeignObject] {
        try found(&plane, MeshTraffic(flows))
    }

    private func found(_ plane: inout KernelDataplane, _ traffic: MeshTraffic) throws -> [ForeignObject] {
        try plane.observe(MeshIdentity(mesh: "corp", interface: "wg0"), Interests(traffic: traffic)).foreign
            .filter { $0.kind == "chain" }
    }

    private func nft(_ rules: String) -> Bool { shell("nft -f - <<'END'\n\(rules)\nEND") }

    /// Runs a command of a remedy that is one for nft, or what iptables would do.
    private func follow(_ remedy: String) {
        let commands = remedy.split(separator: "`").dropFirst().first?.split(separator: ";") ?? []
        #expect(!commands.isEmpty, "\(remedy)")
        for command in commands {
            var words = command.split(separator: " ").map(String.init)
            if words[0] == "iptables" || words[0] == "ip6tables" {
                let family = words[0] == "iptables" ? "ip" : "ip6"
                var table = "filter"
                if words[1] == "-t" {
                    table = words[2]
                    words.removeSubrange(1...2)
                }
                // iptables -I CHAIN … -j ACCEPT
                let match =
                    switch words[3] {
                    case "-i": "iifname \(words[4])"
                    case "-o": "oifname \(words[4])"
                    case "-d": "\(family) daddr \(words[4])"
                    case "-s": "\(family) saddr \(words[4])"
                    case "-m" where words[4] == "mark": "meta mark \(words[6])"
                    case "-m": "ct state established,related"
                    default: "udp \(words[5] == "--sport" ? "sport" : "dport") \(words[6])"
                    }
                words = ["nft insert rule", family, table, words[2], match, "accept"]
            }
            #expect(shell(words.joined(separator: " ")), "\(command)")
        }
    }

    @Test func saysNothingWhereNothingStandsInTheWay() throws {
        try onKernel { (plane, _) throws in
            #expect(try found(&plane) == [])
            #expect(
                nft(
                    """
                    table ip filter { chain INPUT { type filter hook input priority 0; policy accept; }; }
                    table ip nat { chain POSTROUTING { type nat hook postrouting priority 100; policy accept; }; }
                    table bridge b { chain forward { type filter hook forward priority 0; policy drop; }; }
                    table netdev n { }
                    table inet mine {
                        chain forward { type filter hook forward priority 0; ip saddr 192.0.2.1 drop; tcp dport 25 reject; }
                        chain prerouting { type nat hook prerouting priority -100; }
                    }
                    table inet sleeping {
                        flags dormant;
                        chain input { type filter hook input priority 0; policy drop; }
                    }
                    """))
            #expect(try found(&plane) == [])
            #expect(nft("table inet mine { chain input { type filter hook input priority 0; policy drop; }; }"))
            #expect(try found(&plane).count == 1)
            // Awake, it drops.
            #expect(nft("table inet sleeping { }"))
            #expect(try found(&plane).count == 2)
            #expect(nft("delete table inet sleeping"))
            // What is not needed is not asked for, and a mesh that goes needs nothing.
            #expect(try found(&plane, [.forward]) == [])
            #expect(try found(&plane, []) == [])
        }
    }

    /// As Docker leaves it: the remedy names its own chain, and following it is enough.
    @Test func namesDocker() throws {
        try onKernel { (plane, _) throws in
            #expect(
                nft(
                    """
                    table ip filter {
                        chain DOCKER-USER { counter return; }
                        chain DOCKER-FORWARD { oifname docker0 counter accept; }
                        chain FORWARD {
                            type filter hook forward priority 0; policy drop;
                            counter jump DOCKER-USER
                            counter jump DOCKER-FORWARD
                        }
                        chain INPUT { type filter hook input priority 0; policy accept; }
                    }
                    """))
            let objects = try found(&plane)
            let object = try #require(objects.first)
            #expect(objects.count == 1)
            #expect(object.kind == "chain")
            #expect(object.relation == .hinders)
            #expect(object.description == "ip filter FORWARD (Docker) drops what is forwarded from and to wg0")
            #expect(
                object.remedy
                    == "Let it through: `iptables -I DOCKER-USER -i wg0 -j ACCEPT; iptables -I DOCKER-USER -o wg0 -j ACCEPT`."
            )
            follow(object.remedy)
            #expect(try found(&plane) == [])
        }
    }

    @Test func namesUfw() throws {
        try onKernel { (plane, _) throws in
            let base = """
                table ip6 filter {
                    chain ufw6-user-input { UDP }
                    chain ufw6-user-forward { FORWARD }
                    chain ufw6-before-input { iifname lo accept; ct state established,related accept; jump ufw6-user-input; }
                    chain INPUT { type filter hook input priority 0; policy drop; jump ufw6-before-input; }
                    chain FORWARD { type filter hook forward priority 0; policy drop; jump ufw6-user-forward; }
                }
                """
            func rules(_ input: String, _ forward: String) -> String {
                "table ip6 filter\ndelete table ip6 filter\n"
                    + base.replacing("UDP", with: input).replacing("FORWARD }", with: "\(forward) }")
            }
            #expect(nft(rules("", "")))
            let objects = try found(&plane)
            #expect(
                objects.map(\.description) == [
                    "ip6 filter INPUT (ufw) drops the tunnel's own packets to UDP port 51820, and what comes in by wg0 "
                        + "for this host",
                    "ip6 filter FORWARD (ufw) drops what is forwarded from and to wg0",
                ])
            #expect(objects.first?.remedy == "Let it through: `ufw allow 51820/udp; ufw allow in on wg0`.")
            #expect(
                objects.last?.remedy == "Let it through: `ufw route allow in on wg0; ufw route allow out on wg0`.")
            #expect(nft(rules("udp dport 51820 accept;", "")))
            #expect(
                try found(&plane).first?.description
                    == "ip6 filter INPUT (ufw) drops what comes in by wg0 for this host")
            #expect(
                nft(rules("udp dport 51820 accept; iifname wg0 accept;", "iifname wg0 accept; oifname wg0 accept;")))
            #expect(try found(&plane) == [])
        }
    }

    @Test func namesFirewalld() throws {
        try onKernel { (plane, _) throws in
            let zones = """
                table inet firewalld {
                    chain filter_IN_public { tcp dport 22 accept; PORT }
                    chain filter_INPUT_ZONES { TRUSTED iifname eth0 goto filter_IN_public; goto filter_IN_public; }
                    chain filter_INPUT {
                        type filter hook input priority 10; policy accept;
                        ct state { established, related } accept
                        jump filter_INPUT_ZONES
                        reject with icmpx admin-prohibited
                    }
                }
                """
            #expect(nft(zones.replacing("PORT", with: "").replacing("TRUSTED", with: "")))
            let object = try #require(try found(&plane).first)
            #expect(object.description.hasPrefix("inet firewalld filter_INPUT (firewalld) drops the tunnel's own"))
            #expect(
                object.remedy
                    == "Let it through: `firewall-cmd --permanent --add-port=51820/udp; "
                    + "firewall-cmd --permanent --zone=trusted --add-interface=wg0; firewall-cmd --reload`.")
            #expect(
                nft(
                    "delete table inet firewalld\n"
                        + zones.replacing("PORT", with: "udp dport 51820 accept;")
                        .replacing("TRUSTED", with: "iifname wg0 accept;")))
            #expect(try found(&plane) == [])
        }
    }

    /// The rules of others that are only known by what they do: refused at the end, or dropped by policy.
    @Test(arguments: [
        ("ip filter INPUT", "input", "policy accept; ct state established accept; counter log drop;"),
        (
            "ip filter FORWARD", "forward",
            "policy accept; ct state established accept; reject with icmp host-prohibited;"
        ),
        ("ip6 filter OUTPUT", "output", "policy drop; oifname eth0 accept;"),
        ("inet mine input", "input", "policy drop; tcp dport 22 accept;"),
        ("inet mine forward", "forward", "policy drop; iifname eth0 oifname eth1 accept;"),
        ("inet mine output", "output", "policy drop; udp dport 53 accept;"),
        ("ip mine input", "input", "policy drop; iifname vmap { eth0 : drop };"),
        ("ip raw PREROUTING", "prerouting", "policy accept; iifname lo accept; iifname != eth0 drop;"),
        ("ip mangle POSTROUTING", "postrouting", "policy accept; oifname eth0 accept; drop;"),
        ("inet mine pre", "prerouting", "policy drop; ct state established accept;"),
        ("inet mine post", "postrouting", "policy drop; oifname lo accept;"),
    ])
    func theRemedyIsEnough(_ place: String, _ hook: String, _ rules: String) throws {
        try onKernel { (plane, _) throws in
            let words = place.split(separator: " ")
            #expect(
                nft(
                    "table \(words[0]) \(words[1]) { chain \(words[2]) { type filter hook \(hook) priority 0; \(rules) }; }"
                ))
            var traffic = MeshTraffic(Self.everything, reached: [prefix("10.80.0.0/16"), prefix("fd80::/48")])
            traffic.addresses = [IPAddress("10.80.0.1"), IPAddress("fd80::1")].compactMap(\.self)
            let objects = try found(&plane, traffic)
            #expect(objects.count == 1)
            #expect(objects.first?.description.hasPrefix(place) == true)
            follow(objects.first?.remedy ?? "")
            #expect(try found(&plane, traffic) == [])
        }
    }

    /// What each layout does to each flow: `-` passes, `?` may be dropped, `x` is dropped.
    static let layouts: [(String, String, String)] = [
        // At the end, behind a jump, behind a goto, in a chain of a chain.
        ("input", "tcp dport 22 accept; drop;", "tunnel x deliver x"),
        ("input", "jump a; }; chain a { tcp dport 22 accept; jump b; }; chain b { reject;", "tunnel x deliver x"),
        ("input", "goto a; }; chain a { return;", "tunnel - deliver -"),
        ("input", "policy drop; goto a; }; chain a { return;", "tunnel x deliver x"),
        ("input", "policy drop; goto a; }; chain a { iifname wg0 accept; return;", "tunnel x deliver -"),
        ("input", "jump a; drop; }; chain a { iifname wg0 return; accept;", "tunnel - deliver x"),
        ("input", "udp dport 51820 jump a; drop; }; chain a { accept;", "tunnel - deliver x"),
        ("input", "udp dport 51820 goto a; accept; }; chain a { counter drop;", "tunnel x deliver -"),
        // What is not known: which address, which interface, which mark, which rate.
        ("input", "ip saddr 192.0.2.0/24 accept; ip6 saddr 2001:db8::/32 accept; drop;", "tunnel ? deliver ?"),
        ("input", "iifname eth0 accept; drop;", "tunnel ? deliver x"),
        ("input", "iifname eth0 drop;", "tunnel ? deliver -"),
        ("input", "iifname != eth0 drop;", "tunnel ? deliver x"),
        ("input", "ip saddr 192.0.2.1 drop; ip6 saddr 2001:db8::1 drop;", "tunnel - deliver -"),
        ("input", "ip saddr != 192.0.2.0/24 drop;", "tunnel ? deliver ?"),
        ("input", "limit rate over 9/second drop;", "tunnel - deliver -"),
        ("input", "limit rate 9/second accept; drop;", "tunnel ? deliver ?"),
        ("input", "meta mark 7 drop; meta mark and 0xff 7 drop;", "tunnel - deliver -"),
        ("input", "meta mark set 7; meta mark != 9 drop;", "tunnel ? deliver ?"),
        ("input", "meta hour \"17:00\"-\"19:00\" drop;", "tunnel - deliver -"),
        // What is known.
        ("input", "ct state vmap { established : accept, new : jump a }; }; chain a { drop;", "tunnel x deliver x"),
        ("input", "ct state { established, related } accept; ct state invalid drop;", "tunnel - deliver -"),
        ("input", "ct state != new accept; udp dport 51820 accept; drop;", "tunnel - deliver x"),
        ("input", "ct status dnat accept; drop;", "tunnel x deliver x"),
        ("input", "meta l4proto { tcp, udp } accept; drop;", "tunnel - deliver x"),
        ("input", "ip protocol 17 accept; ip6 nexthdr 17 accept; drop;", "tunnel - deliver x"),
        ("input", "meta nfproto ipv4 drop;", "tunnel x deliver x"),
        ("input", "udp dport 51000-52000 accept; drop;", "tunnel - deliver x"),
        ("input", "udp dport >= 51820 accept; drop;", "tunnel - deliver x"),
        ("input", "udp dport != { 53, 51820 } drop;", "tunnel - deliver -"),
        ("input", "udp dport vmap { 53 : accept, 51820 : drop };", "tunnel x deliver -"),
        ("input", "iifname vmap { wg0 : accept, * : drop };", "tunnel x deliver -"),
        ("input", "fib saddr . iif oif missing drop;", "tunnel - deliver -"),
        ("input", "fib daddr type != local drop;", "tunnel - deliver -"),
        ("forward", "iifname wg0 oifname wg0 accept; drop;", "from x to x"),
        ("forward", "ct state established accept; iifname wg0 accept; drop;", "from - to -"),
        ("forward", "iifname wg0 accept; drop;", "from - to x"),
        ("forward", "iifname docker0 oifname != docker0 jump a; }; chain a { oifname docker0 drop;", "from - to -"),
        ("output", "meta skuid 1000 drop;", "out - send -"),
        ("output", "policy drop; oifname { lo, wg0 } accept;", "out x send -"),
        ("output", "policy drop; oifname wg0 accept; udp sport 51820 accept;", "out - send -"),
        ("output", "fib daddr type local accept; oifname wg0 accept; drop;", "out x send -"),
    ]

    @Test(arguments: layouts)
    func followsPacketsThroughAnyLayout(_ hook: String, _ rules: String, _ fates: String) throws {
        try onKernel { (plane, _) throws in
            #expect(nft("table inet mine { chain base { type filter hook \(hook) priority 0; \(rules) }; }"))
            let words = fates.split(separator: " ")
            let text = try found(&plane).map(\.description).joined()
            let halves = text.split(separator: "may drop", maxSplits: 1)
            let (certain, open) = (halves.first ?? "", halves.dropFirst().first ?? "")
            let phrases = [
                "tunnel": "the tunnel's own packets to", "deliver": "what comes in by wg0", "from": "forwarded from",
                "to": " to wg0", "out": "the tunnel's own packets from", "send": "what goes out by wg0",
            ]
            for index in stride(from: 0, to: words.count, by: 2) {
                let phrase = phrases[String(words[index])] ?? "?"
                let seen = certain.contains(phrase) ? "x" : open.contains(phrase) ? "?" : "-"
                #expect(seen == words[index + 1], "\(words[index]): \(text)")
            }
            if text.isEmpty { return }
            // Whatever it is, the remedy is enough.
            follow(try #require(try found(&plane).first).remedy)
            #expect(try found(&plane) == [])
        }
    }

    /// Which packets are dialled with, and which come back, where the kernel chooses the port.
    @Test func theTunnelMustGetOut() throws {
        try onKernel { (plane, _) throws in
            let far = [("198.51.100.7", 51_820), ("198.51.100.8", 443)] as [(String, UInt16)]
            let endpoints = Set(far.compactMap { pair in IPAddress(pair.0).map { SocketAddress($0, port: pair.1) } })
            var traffic = MeshTraffic([.deliver], endpoints: endpoints, addresses: IPAddress("10.80.0.2").map { [$0] })
            traffic.isDialled = false
            let shut = "table inet mine { chain output { type filter hook output priority 0; policy drop; }; }"
            let base = "\(shut); table inet mine { chain input { type filter hook input priority 0; policy drop; }; }"
            #expect(nft(base))
            #expect(
                try found(&plane, traffic).map(\.description) == [
                    "inet mine output drops the tunnel's own packets to UDP port 443, 51820, and what goes out by wg0",
                    "inet mine input drops answers to the tunnel's own packets, and what comes in by wg0 for this host",
                ])
            // Half of it is not enough.
            #expect(
                nft(
                    "insert rule inet mine output oifname wg0 accept; insert rule inet mine output udp dport 443 accept"
                ))
            #expect(nft("insert rule inet mine output ip daddr 198.51.100.9 udp dport 51820 accept"))
            #expect(
                try found(&plane, traffic).first?.description
                    == "inet mine output drops the tunnel's own packets to UDP port 443, 51820")
            for object in try found(&plane, traffic) { follow(object.remedy) }
            #expect(try found(&plane, traffic) == [])
            // By its mark, where it has one.
            #expect(nft("delete table inet mine") && nft(shut))
            traffic.mark = 0x77D4_DDC9
            let remedy = try #require(try found(&plane, traffic).first?.remedy)
            #expect(remedy.contains("meta mark 0x77d4ddc9 accept"))
            follow(remedy)
            #expect(try found(&plane, traffic) == [])
            // Who is dialled by others answers from its port.
            #expect(nft("flush chain inet mine output"))
            traffic = MeshTraffic([.listen(port: 51_820)])
            #expect(nft("add rule inet mine output oifname wg0 accept"))
            #expect(
                try found(&plane, traffic).first?.description
                    == "inet mine output drops the tunnel's own packets from UDP port 51820")
            #expect(nft("add rule inet mine output ct state established accept"))
            #expect(try found(&plane, traffic) == [])
        }
    }

    /// A hub, an exit and a gateway need different things.
    @Test func asksForWhatTheHostDoes() throws {
        try onKernel { (plane, _) throws in
            func chain(_ rules: String) -> Bool {
                nft(
                    """
                    table ip filter
                    delete table ip filter
                    table ip filter {
                        chain FORWARD { type filter hook forward priority 0; policy drop; \(rules); }
                    }
                    """)
            }
            let lan = DesiredState.Flow.reach([prefix("192.168.1.0/24")])
            #expect(chain("iifname wg0 oifname wg0 accept"))
            #expect(try found(&plane, [.relay]) == [])
            #expect(try found(&plane, [.forward]).count == 1)
            #expect(chain("ct state established accept; iifname wg0 accept"))
            #expect(try found(&plane, [.relay, .forward]) == [])
            #expect(
                try found(&plane, [lan]).map(\.description) == [
                    "ip filter FORWARD (iptables) drops what is forwarded to wg0"
                ])
            #expect(chain("ct state established accept; iifname wg0 accept; ip saddr 192.168.0.0/16 accept"))
            #expect(try found(&plane, [lan]) == [])
            #expect(try found(&plane, [.reach([prefix("fd01::/64")])]) == [])
        }
    }

    /// Docker keeps others from its containers' addresses: nobody's concern but who reaches them through the mesh.
    @Test func namesWhatDockerDropsInRaw() throws {
        try onKernel { (plane, _) throws in
            #expect(
                nft(
                    """
                    table ip raw {
                        chain PREROUTING {
                            type filter hook prerouting priority -300; policy accept;
                            ip daddr 172.17.0.2 iifname != "docker0" counter drop
                        }
                    }
                    """))
            var traffic = MeshTraffic(Self.everything, addresses: IPAddress("10.80.0.1").map { [$0] })
            traffic.reached = [prefix("10.80.0.0/16")]
            #expect(try found(&plane, traffic) == [])
            traffic.flows.insert(.reach([prefix("172.17.0.0/16")]))
            let object = try #require(try found(&plane, traffic).first)
            #expect(object.description == "ip raw PREROUTING (iptables) may drop what is forwarded from wg0")
            #expect(object.remedy == "Let it through: `iptables -t raw -I PREROUTING -i wg0 -j ACCEPT`.")
            follow(object.remedy)
            #expect(try found(&plane, traffic) == [])
        }
    }

    /// Another mesh's kill switch refuses what does not go through its own tunnel: both ways out of here are named.
    @Test func namesAnotherMeshsKillSwitch() throws {
        try onKernel { (plane, _) throws in
            func killSwitch(_ allowed: String) -> String {
                """
                table inet weft-wg1
                delete table inet weft-wg1
                table inet weft-wg1 {
                    set allow4 { type ipv4_addr; flags interval; elements = { \(allowed) }; }
                    chain restore {
                        type filter hook prerouting priority mangle;
                        meta l4proto udp ct mark 0x77000001 meta mark set ct mark
                    }
                    chain output {
                        type filter hook output priority 0;
                        meta nfproto ipv4 udp sport 68 udp dport 67 accept
                        icmpv6 type 135 accept
                        meta nfproto ipv4 oifname != wg1 oifname != lo meta mark != 0x77000001 ip daddr != @allow4 counter reject with icmpx admin-prohibited
                    }
                    chain forward {
                        type filter hook forward priority 0;
                        meta nfproto ipv4 iifname != wg1 oifname != wg1 ip daddr != @allow4 counter reject with icmpx admin-prohibited
                    }
                }
                """
            }
            var traffic = MeshTraffic(
                [.deliver, .reach([prefix("192.168.7.0/24")])],
                endpoints: [SocketAddress(try #require(IPAddress("198.51.100.7")), port: 51_820)],
                addresses: IPAddress("10.80.0.2").map { [$0] }, reached: [prefix("10.80.0.0/16")])
            traffic.isDialled = false
            #expect(nft(killSwitch("10.7.0.0/16")))
            let objects = try found(&plane, traffic)
            #expect(
                objects.map(\.description) == [
                    "inet weft-wg1 output (the mesh on wg1) drops what goes out by wg0, and may drop the tunnel's own packets "
                        + "that do not go out by wg1",
                    "inet weft-wg1 forward (the mesh on wg1) drops what is forwarded from and to wg0",
                ])
            #expect(
                objects.map { $0.remedy.contains("put 10.80.0.0/16, 198.51.100.7 into `killSwitch: {allow: […]}`") }
                    == [true, false])
            #expect(objects.last?.remedy.contains("put 10.80.0.0/16, 192.168.7.0/24 into") == true)
            #expect(nft(killSwitch("10.80.0.0/16, 192.168.0.0/16")))
            #expect(
                try found(&plane, traffic).map(\.description) == [
                    "inet weft-wg1 output (the mesh on wg1) may drop the tunnel's own packets that do not go out by wg1"
                ])
            #expect(nft(killSwitch("10.80.0.0/16, 192.168.0.0/16, 198.51.100.7")))
            #expect(try found(&plane, traffic) == [])
        }
    }

    /// In how many ways a rule may name the mesh.
    @Test(arguments: [
        "iifname wg0 accept; oifname wg0 accept", "iifname \"wg*\" accept; oifname \"wg*\" accept",
        "iifname { wg0, wg1 } accept; oifname { eth0, wg0 } accept", "iifname @tunnels accept; oifname @tunnels accept",
        "iif wg0 accept; oif wg0 accept", "jump other",
        "iifname vmap { eth0 : drop, wg0 : accept }; oifname vmap { wg0 : accept }",
        "ip saddr 10.80.0.0/16 accept comment \"weft: our mesh\"; drop", "ct state new,established jump other",
    ])
    func knowsWhereItIsNamed(_ rules: String) throws {
        try onKernel { (plane, _) throws in
            shell("ip link add wg0 type bridge")
            func table(_ rules: String, _ name: String) -> String {
                """
                table ip mine
                delete table ip mine
                table ip mine {
                    set tunnels { type ifname; elements = { eth1, \(name) }; }
                    chain other { iifname \(name) accept; oifname \(name) accept; }
                    chain forward { type filter hook forward priority 0; policy drop; \(rules); }
                }
                """
            }
            #expect(nft(table(rules, "wg0")))
            let flows: Set<DesiredState.Flow> = [.relay]
            #expect(try found(&plane, flows) == [])
            // Another interface's name is not ours.
            if rules.contains("comment") || rules.contains("*") { return }
            shell("ip link add wg7 type bridge")
            #expect(nft(table(rules.replacing("wg0", with: "wg7"), "wg01")))
            #expect(try found(&plane, flows).count == 1)
        }
    }

    /// Rules of iptables, as it writes them itself.
    @Test(
        .enabled(if: shell("command -v iptables-nft >/dev/null"), "iptables-nft"),
        arguments: ["iptables-nft", "ip6tables-nft"])
    func readsWhatIptablesWrites(_ program: String) throws {
        let name = program.replacing("-nft", with: "")
        try onKernel { (plane, _) throws in
            func followWithIptables() throws {
                for object in try found(&plane) {
                    let remedy = object.remedy.split(separator: "`")[1].replacing(name, with: program)
                    #expect(shell(String(remedy)), "\(remedy)")
                }
            }
            // A last rule that refuses all, as Oracle's images have it, and policies.
            shell("\(program) -A INPUT -p tcp --dport 22 -j ACCEPT; \(program) -A INPUT -j REJECT")
            shell("\(program) -P FORWARD DROP; \(program) -P OUTPUT DROP; \(program) -A OUTPUT -o lo -j ACCEPT")
            #expect(try found(&plane).count == 3)
            #expect(try found(&plane).allSatisfy { $0.description.contains("(iptables)") })
            try followWithIptables()
            #expect(try found(&plane) == [])

            shell("\(program) -F; \(program) -P OUTPUT ACCEPT; \(program) -P FORWARD ACCEPT")
            shell("\(program) -P INPUT DROP; \(program) -A INPUT -p udp -m multiport --dports 53,51820 -j ACCEPT")
            #expect(try found(&plane, [.listen(port: 51820)]) == [])
            #expect(try found(&plane, [.listen(port: 51821)]).count == 1)
            shell("\(program) -F; \(program) -A INPUT -p udp --dport 51000:52000 -j ACCEPT")
            #expect(try found(&plane, [.listen(port: 51820)]) == [])
            shell("\(program) -F; \(program) -A INPUT -i wg+ -j ACCEPT")
            #expect(try found(&plane, [.deliver]) == [])

            shell("\(program) -F; \(program) -P INPUT ACCEPT; \(program) -P FORWARD DROP")
            shell("\(program) -N DOCKER-USER; \(program) -A FORWARD -j DOCKER-USER")
            #expect(try found(&plane).map { $0.description.contains("(Docker)") } == [true])
            try followWithIptables()
            #expect(try found(&plane) == [])
        }
    }

    @Test(arguments: [
        "udp dport 51820 accept", "udp dport { 53, 51820 } accept", "meta l4proto udp th dport 51820 accept",
        "udp dport @open accept", "udp dport 51820-51820 accept",
    ])
    func knowsWhereItsPortIsNamed(_ rule: String) throws {
        try onKernel { (plane, _) throws in
            for (port, count) in [(51820, 0), (51821, 1)] {
                #expect(
                    nft(
                        """
                        table inet mine
                        delete table inet mine
                        table inet mine {
                            set open { type inet_service; elements = { 53, \(port) }; }
                            chain input {
                                type filter hook input priority 0; policy drop; \(rule.replacing("51820", with: "\(port)"));
                            }
                        }
                        """))
                #expect(try found(&plane, [.listen(port: 51820)]).count == count)
            }
        }
    }
}

struct LegacyTablesTests {
    private let folder = TemporaryFolder()

    @Test func namesTablesThatItCannotSeeInto() {
        func found(_ port: UInt16?) -> [ForeignObject] {
            LegacyTables(proc: folder.path, interface: "wg0", port: port).read()
        }
        // A kernel without them has no such files, and one where nobody used them has nothing in them.
        #expect(found(nil) == [])
        system("mkdir -p '\(folder.path)/thread-self/net'")
        folder.write("", to: "thread-self/net/ip_tables_names")
        folder.write("", to: "thread-self/net/ip6_tables_names")
        #expect(found(nil) == [])
        folder.write("nat\nfilter\n", to: "thread-self/net/ip_tables_names")
        #expect(
            found(51_820).map(\.description) == [
                "iptables has the tables filter, nat (IPv4): weft cannot see into these"
            ])
        #expect(found(51_820).first?.relation == .leftAlone)
        #expect(found(51_820).first?.remedy.contains("`iptables-legacy-save`") == true)
        #expect(found(51_820).first?.remedy.contains("UDP port 51820, or wg0") == true)
        folder.write("raw\n", to: "thread-self/net/ip6_tables_names")
        #expect(
            found(nil).last?.description == "ip6tables has the table raw (IPv6): weft cannot see into these")
        #expect(found(nil).last?.remedy.contains("accepts wg0.") == true)
    }
}

@Suite(.enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct OtherTunnelsTests {
    @Test func areThoseOfWeftAndOfOthersWithWhatIsRoutedIntoThem() throws {
        let folder = TemporaryFolder()
        system("mkdir -p '\(folder.path)/wireguard'; touch '\(folder.path)/wireguard/wg3.sock'")
        try TestNamespace.run { () throws in
            let features = try HostFeatures()
            #expect(try features.otherTunnels(than: "wg0", run: folder.path) == [])
            // Without WireGuard in the kernel, devices of programs: weft's by its alias, others' by their sockets.
            for name in ["wg0", "wg1", "wg2", "wg3"] {
                #expect(shell("ip tuntap add dev \(name) mode tun && ip link set \(name) up"))
            }
            shell("ip link set wg0 alias weft:corp; ip link set wg1 alias weft:lab; ip link add d0 type bridge")
            shell(
                "ip address add 10.90.0.1/16 dev wg1; ip route add 10.90.4.0/24 dev wg1; ip route add 10.7.0.0/16 dev wg1"
            )
            shell(
                "ip -6 route add fd90::/48 dev wg1; ip route add default dev wg3 table 77; ip route add unreachable 10.90.0.0/15 metric \(MeshIdentity(mesh: "lab", interface: "wg1").unreachableMetric) proto 119; ip route add 10.8.0.0/16 dev wg2"
            )
            #expect(
                try features.otherTunnels(than: "wg0", run: folder.path) == [
                    .init(
                        interface: "wg1", mesh: "lab",
                        networks: [prefix("10.7.0.0/16"), prefix("10.90.0.0/15"), prefix("fd90::/48")]),
                    .init(interface: "wg3", networks: [prefix("0.0.0.0/0")]),
                ])
        }
    }
}

struct NetworkManagersTests {
    private let folder = TemporaryFolder()

    init() {
        for name in [
            "proc/1/ns", "proc/2/ns", "proc/thread-self/ns", "run/systemd/netif", "run/NetworkManager/conf.d",
            "etc/systemd/networkd.conf.d", "etc/NetworkManager/conf.d", "usr/lib/systemd/networkd.conf.d",
            "usr/lib/NetworkManager/conf.d",
        ] {
            system("mkdir -p '\(folder.path)/\(name)'")
        }
        symlink("net:[7]", "\(folder.path)/proc/thread-self/ns/net")
    }

    private func start(_ name: String, namespace: String = "net:[7]") {
        folder.write(name + "\n", to: "proc/1/comm")
        unlink("\(folder.path)/proc/1/ns/net")
        symlink(namespace, "\(folder.path)/proc/1/ns/net")
    }

    private func found(routes: Bool = true, rules: Bool = true) -> [ForeignObject] {
        NetworkManagers(proc: "\(folder.path)/proc", root: folder.path, interface: "wg0")
            .read(routes: routes, rules: rules)
    }

    @Test func namesNetworkdUntilItIsToldToLetBe() {
        #expect(found() == [])
        start("systemd-network", namespace: "net:[8]")
        #expect(found() == [])
        start("systemd-network")
        #expect(found().map(\.kind) == ["manager"])
        #expect(found().first?.relation == .hinders)
        #expect(found().first?.description.contains("removes routes and policy rules") == true)
        #expect(found().first?.remedy.contains("/etc/systemd/networkd.conf.d/weft.conf") == true)
        #expect(found(routes: true, rules: false).first?.remedy.contains("RoutingPolicy") == false)
        #expect(found(routes: false, rules: false) == [])
        folder.write("[Network]\nManageForeignRoutes = no\n", to: "etc/systemd/networkd.conf")
        #expect(found().first?.description.contains("removes policy rules that") == true)
        folder.write(
            "# ours\n[Network]\nManageForeignRoutingPolicyRules=false\n", to: "etc/systemd/networkd.conf.d/weft.conf")
        #expect(found() == [])
        // A drop-in that counts later has the last word.
        folder.write("[Network]\nManageForeignRoutes=yes\n", to: "usr/lib/systemd/networkd.conf.d/zz.conf")
        #expect(found().first?.description.contains("removes routes that") == true)
        folder.write("", to: "etc/systemd/networkd.conf.d/zz.conf")
        #expect(found() == [])
    }

    /// What the remedy says is a command, and doing it is enough.
    @Test(arguments: ["systemd-network", "NetworkManager"])
    func theRemedyIsEnough(_ name: String) throws {
        start(name)
        let remedy = try #require(found().first?.remedy)
        let command = remedy.split(separator: "`")[1].split(separator: ";").dropLast().joined(separator: ";")
        #expect(system(command.replacing("/etc", with: "\(folder.path)/etc")) == 0)
        #expect(found() == [])
    }

    @Test(arguments: [
        ("[keyfile]\nunmanaged-devices=interface-name:wg0", true),
        ("[keyfile]\nunmanaged-devices=mac:00:11:22:33:44:55;interface-name:wg*", true),
        ("[keyfile]\nunmanaged-devices=type:wireguard", true), ("[keyfile]\nunmanaged-devices=*", true),
        ("[keyfile]\nunmanaged-devices=*,except:interface-name:wg0", false),
        ("[keyfile]\nunmanaged-devices=interface-name:wg1", false),
        ("[main]\nunmanaged-devices=interface-name:wg0", false),
        ("[device-x]\nmatch-device=interface-name:wg*\nmanaged=0", true),
        ("[device-x]\nmatch-device=interface-name:wg*\nmanaged=1", false),
    ])
    func knowsWhatNetworkManagerWasTold(_ text: String, _ isSilent: Bool) {
        start("NetworkManager")
        #expect(found().count == 1)
        folder.write(text + "\n", to: "usr/lib/NetworkManager/conf.d/10-x.conf")
        #expect(found().isEmpty == isSilent)
    }
}
