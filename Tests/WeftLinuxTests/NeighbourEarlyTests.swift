// What other programs' rules do to a mesh's packets before all others: at single interfaces, and to connection tracking.

import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

extension NeighboursTests {
    /// What the remedies lead to, and whom the answers come to.
    private func traffic() throws -> MeshTraffic {
        var traffic = MeshTraffic(
            Self.everything,
            reached: [try #require(IPPrefix("10.80.0.0/16")), try #require(IPPrefix("fd80::/48"))])
        traffic.addresses = [try #require(IPAddress("10.80.0.1")), try #require(IPAddress("fd80::1"))]
        traffic.isTracked = true
        return traffic
    }

    @Test(arguments: [
        ("ingress", "eth0", "udp dport 51820 drop;", "drops the tunnel's own packets to UDP port 51820"),
        (
            "ingress", "eth0", "policy drop; tcp dport 22 accept;",
            "drops the tunnel's own packets to UDP port 51820, and what is forwarded to wg0"
        ),
        (
            "ingress", "wg0", "tcp dport 22 accept; drop;",
            "drops what comes in by wg0 for this host, and what is forwarded from wg0"
        ),
        ("egress", "wg0", "policy drop;", "drops what goes out by wg0, and what is forwarded to wg0"),
        ("egress", "eth0", "udp sport 51820 drop;", "drops the tunnel's own packets from UDP port 51820"),
        ("ingress", "eth0", "tcp dport 25 drop; ip saddr 198.51.100.0/24 drop;", ""),
        ("ingress", "eth0", "udp dport 51820 accept; udp dport 51820 drop;", ""), ("ingress", "lo", "drop;", ""),
        ("egress", "wg0", "tcp dport 25 drop;", ""),
    ])
    func namesWhatDropsAtOneInterface(_ hook: String, _ device: String, _ rules: String, _ phrase: String) throws {
        try onKernel { (plane, _) throws in
            #expect(shell("ip link add eth0 type veth peer name wg0"))
            #expect(
                nft(
                    "table netdev guard { chain base { type filter hook \(hook) device \(device) priority 0; \(rules) }; }"
                ))
            let objects = try found(&plane, traffic())
            #expect(
                objects.map(\.description)
                    == (phrase.isEmpty ? [] : ["netdev guard base (on \(device)) \(phrase)"]))
            for object in objects { follow(object.remedy) }
            #expect(try found(&plane, traffic()) == [])
        }
    }

    @Test(arguments: [
        (
            "prerouting", -300, "notrack",
            "keeps what comes in by wg0 for this host, and what is forwarded from and to wg0"
        ),
        ("output", -300, "notrack", "keeps what goes out by wg0"),
        ("prerouting", -300, "iifname eth0 notrack", "may keep what is forwarded to wg0"),
        ("prerouting", -300, "udp dport 51820 notrack", ""), ("prerouting", -300, "iifname lo notrack", ""),
        (
            "prerouting", -300,
            "iifname wg0 accept; ip daddr 10.80.0.0/16 accept; ip6 daddr fd80::/48 accept; notrack", ""
        ),
        // The connection is known by then.
        ("prerouting", -150, "notrack", ""), ("forward", -300, "notrack", ""),
    ])
    func namesWhatKeepsConnectionsFromBeingKnown(
        _ hook: String, _ priority: Int, _ rules: String, _ phrase: String
    ) throws {
        try onKernel { (plane, _) throws in
            #expect(nft("table inet mine { chain base { type filter hook \(hook) priority \(priority); \(rules); }; }"))
            let objects = try found(&plane, traffic())
            let end = "out of connection tracking, which this mesh's firewall goes by"
            #expect(objects.map(\.description) == (phrase.isEmpty ? [] : ["inet mine base \(phrase) \(end)"]))
            // A mesh whose firewall knows no connections loses nothing.
            var stateless = try traffic()
            stateless.isTracked = false
            #expect(try found(&plane, stateless) == [])
            for object in objects { follow(object.remedy) }
            #expect(try found(&plane, traffic()) == [])
        }
    }
}
