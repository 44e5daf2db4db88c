// Other programs' firewalls: named where they stand against a mesh, and no longer once they let it be.

import Glibc
import Netlink
import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite(.enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct NeighboursTests {
    static let everything: Set<DesiredState.Flow> = [.listen(port: 51820), .deliver, .forward]

    func onKernel(_ body: (inout KernelDataplane, KernelFixture) throws -> Void) throws {
        try TestNamespace.run {
            let fixture = try KernelFixture()
            var plane = fixture.plane
            try body(&plane, fixture)
        }
    }

    func found(
        _ plane: inout KernelDataplane, _ flows: Set<DesiredState.Flow> = everything
    ) throws -> [ForeignObject] {
        try found(&plane, MeshTraffic(flows))
    }

    func found(_ plane: inout KernelDataplane, _ traffic: MeshTraffic) throws -> [ForeignObject] {
        try plane.observe(MeshIdentity(mesh: "corp", interface: "wg0"), Interests(traffic: traffic)).foreign
            .filter { $0.kind == "chain" }
    }

    func nft(_ rules: String) -> Bool { shell("nft -f - <<'END'\n\(rules)\nEND") }

    /// Runs a command of a remedy that is one for nft, or what iptables would do.
    func follow(_ remedy: String) {
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
    /// The port that the tunnel listens on, sent to another host; and nodes that all come from the hub.
    @Test(arguments: [
        ("prerouting", "dnat ip to 192.0.2.9", "sends the tunnel's own packets to UDP port 51820 elsewhere"),
        ("prerouting", "udp dport 51820 dnat ip to 192.0.2.9:51820", "sends the tunnel's own packets"),
        ("prerouting", "fib daddr type local udp dport 51000-52000 redirect to :53", "sends the tunnel's own packets"),
        ("prerouting", "iifname eth0 udp dport 51820 dnat ip to 192.0.2.9", "may send the tunnel's own packets"),
        ("prerouting", "tcp dport 51820 dnat ip to 192.0.2.9", ""),
        ("prerouting", "udp dport 53 redirect to :5353", ""),
        ("prerouting", "ip daddr 192.0.2.1 udp dport 51820 dnat ip to 192.0.2.9", ""),
        ("prerouting", "iifname wg0 dnat ip to 192.0.2.9", ""), ("output", "udp dport 51820 dnat ip to 192.0.2.9", ""),
        (
            "postrouting", "masquerade",
            "gives this host's address to what nodes of the mesh send one another through it"
        ),
        ("postrouting", "ip saddr 10.80.0.0/16 snat ip to 192.0.2.1", "gives this host's address"),
        ("postrouting", "oifname wg0 masquerade", "gives this host's address"),
        ("postrouting", "oifname eth0 masquerade", ""), ("postrouting", "oifname != wg0 masquerade", ""),
        ("postrouting", "ip saddr 192.168.1.0/24 oifname != br0 masquerade", ""),
        ("postrouting", "iifname br0 masquerade", ""), ("postrouting", "oifname wg0 accept; masquerade", ""),
    ])
    func namesWhatChangesAddresses(_ hook: String, _ rules: String, _ phrase: String) throws {
        try onKernel { (plane, _) throws in
            let traffic = MeshTraffic(
                [.listen(port: 51820), .deliver, .relay], reached: [try #require(IPPrefix("10.80.0.0/16"))])
            #expect(nft("table inet mine { chain base { type nat hook \(hook) priority 0; \(rules); }; }"))
            let objects = try found(&plane, traffic)
            #expect(objects.count == (phrase.isEmpty ? 0 : 1))
            guard let object = objects.first else { return }
            #expect(object.description.hasPrefix("inet mine base \(phrase)"), "\(object.description)")
            #expect(object.stopsTunnel == (hook == "prerouting"))
            if hook == "postrouting" { #expect(try found(&plane) == [], "it passes nothing on between nodes") }
            follow(object.remedy)
            #expect(try found(&plane, traffic) == [])
        }
    }

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
