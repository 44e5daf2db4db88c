// Packets followed through others' rulesets: every kind of condition and verdict, and what programs really write.

import Glibc
import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

extension NeighboursTests {
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

    /// What programs really write, with iptables' own matches: the layout, what opens it, and what is named before.
    static let iptablesLayouts: [(String, String, String)] = [
        (
            // ufw 0.36: before.rules, user.rules and after.rules.
            """
            -N ufw-before-input
            -N ufw-user-input
            -N ufw-not-local
            -N ufw-skip-to-policy-input
            -N ufw-logging-deny
            -N ufw-user-limit
            -A ufw-before-input -i lo -j ACCEPT
            -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            -A ufw-logging-deny -m conntrack --ctstate INVALID -m limit --limit 3/min --limit-burst 10 -j RETURN
            -A ufw-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
            -A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
            -A ufw-before-input -m conntrack --ctstate INVALID -j DROP
            -A ufw-before-input -p icmp --icmp-type echo-request -j ACCEPT
            -A ufw-before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT
            -A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
            -A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
            -A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny
            -A ufw-not-local -j DROP
            -A ufw-before-input -j ufw-not-local
            -A ufw-before-input -d 224.0.0.251 -p udp -m udp --dport 5353 -j ACCEPT
            -A ufw-user-limit -j REJECT
            -A ufw-user-input -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW -m recent --set
            -A ufw-user-input -p tcp --dport 22 -m conntrack --ctstate NEW -m recent --update --seconds 30 -j ufw-user-limit
            -A ufw-before-input -j ufw-user-input
            -A ufw-skip-to-policy-input -j DROP
            -A INPUT -j ufw-before-input
            -A INPUT -p udp -m udp --dport 137 -j ufw-skip-to-policy-input
            -A INPUT -m addrtype --dst-type BROADCAST -j ufw-skip-to-policy-input
            -P INPUT DROP
            """, "-A ufw-user-input -p udp -m udp --dport 51820 -j ACCEPT\n-A ufw-user-input -i wg0 -j ACCEPT",
            "ip filter INPUT (ufw) drops the tunnel's own packets to UDP port 51820, and what comes in by wg0 for this host"
        ),
        (
            // NixOS: the last rule of a chain, and reverse paths looked at in mangle.
            """
            -N nixos-fw
            -N nixos-fw-accept
            -N nixos-fw-refuse
            -N nixos-fw-log-refuse
            -A nixos-fw-accept -j ACCEPT
            -A nixos-fw-refuse -j DROP
            -A nixos-fw-log-refuse -p tcp --syn -j LOG
            -A nixos-fw-log-refuse -m pkttype ! --pkt-type unicast -j nixos-fw-refuse
            -A nixos-fw-log-refuse -j nixos-fw-refuse
            -A nixos-fw -i lo -j nixos-fw-accept
            -A nixos-fw -m conntrack --ctstate ESTABLISHED,RELATED -j nixos-fw-accept
            -A nixos-fw -p tcp --dport 22 -j nixos-fw-accept
            -A nixos-fw -p icmp --icmp-type echo-request -j nixos-fw-accept
            -A nixos-fw -j nixos-fw-log-refuse
            -A INPUT -j nixos-fw
            -t mangle -N nixos-fw-rpfilter
            -t mangle -A nixos-fw-rpfilter -m rpfilter --validmark -j RETURN
            -t mangle -A nixos-fw-rpfilter -p udp -m udp --sport 67 --dport 68 -j RETURN
            -t mangle -A nixos-fw-rpfilter -j DROP
            -t mangle -A PREROUTING -j nixos-fw-rpfilter
            """,
            "-I nixos-fw -p udp -m multiport --dports 53,51000:52000 -j nixos-fw-accept\n-I nixos-fw -i wg0 -j nixos-fw-accept",
            "ip filter INPUT (iptables) drops the tunnel's own packets to UDP port 51820, and what comes in by wg0 for this host"
        ),
        (
            // The kill switch of wg-quick(8), of somebody else's tunnel: perhaps ours leaves by that.
            "-I OUTPUT ! -o wg9 -m mark ! --mark 0xca6c -m addrtype ! --dst-type LOCAL -j REJECT",
            "-I OUTPUT -o wg0 -j ACCEPT\n-I OUTPUT -p udp -m udp --sport 51820 -j ACCEPT",
            "ip filter OUTPUT (iptables) drops what goes out by wg0, and may drop the tunnel's own packets from UDP port 51820"
        ),
        (
            // Kubernetes, Calico and fail2ban beside each other: marks, lists, accepts that say nothing about us.
            """
            -N KUBE-FIREWALL
            -A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
            -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
            -A INPUT -j KUBE-FIREWALL
            -N KUBE-FORWARD
            -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
            -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
            -A FORWARD -j KUBE-FORWARD
            -N f2b-sshd
            -A f2b-sshd -s 192.0.2.7 -j REJECT
            -A f2b-sshd -j RETURN
            -A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
            """, "", ""
        ),
    ]

    @Test(.enabled(if: shell("command -v iptables-nft >/dev/null"), "iptables-nft"), arguments: iptablesLayouts)
    func followsPacketsThroughWhatProgramsWrite(_ layout: String, _ opening: String, _ named: String) throws {
        try onKernel { (plane, _) throws in
            func iptables(_ rules: String) {
                for rule in rules.split(separator: "\n") { #expect(shell("iptables-nft \(rule)"), "\(rule)") }
            }
            var traffic = MeshTraffic(
                Self.everything, addresses: IPAddress("10.80.0.1").map { [$0] }, reached: [prefix("10.80.0.0/16")])
            iptables(layout)
            #expect(try found(&plane, traffic).map(\.description) == (named.isEmpty ? [] : [named]))
            iptables(opening)
            #expect(try found(&plane, traffic) == [])
            // Another port and another interface are not ours.
            traffic.flows = [.listen(port: 443)]
            #expect(try found(&plane, traffic).isEmpty == named.isEmpty)
        }
    }
}
