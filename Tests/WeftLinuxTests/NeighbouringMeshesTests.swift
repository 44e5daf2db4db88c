// Another mesh's kill switch and access rules on the same host: named only where they concern this one.

import Glibc
import Netlink
import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

extension NeighboursTests {
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

    /// Whoever comes by another way with an address of that mesh is refused there, and so is whom its access rules do not
    /// name: neither concerns this mesh.
    @Test func anotherMeshsAccessRulesAreItsOwn() throws {
        try onKernel { (plane, _) throws in
            let table = """
                table inet weft-wg1 {
                    set mesh4 { type ipv4_addr; flags interval; elements = { 10.90.0.0/16 }; }
                    chain source {
                        type filter hook prerouting priority -5;
                        meta nfproto ipv4 iifname != wg1 iifname != lo ip saddr @mesh4 drop
                    }
                    chain input {
                        type filter hook input priority 0;
                        iifname wg1 reject
                        meta nfproto ipv4 iifname != wg1 ip saddr @mesh4 drop
                    }
                    chain forward {
                        type filter hook forward priority 0;
                        oifname wg1 reject
                        meta nfproto ipv4 iifname != wg1 ip saddr @mesh4 drop
                    }
                }
                """
            #expect(nft(table))
            let traffic = MeshTraffic(Self.everything, addresses: IPAddress("10.80.0.1").map { [$0] })
            #expect(try found(&plane, traffic) == [])
            // The same of somebody else's table.
            #expect(nft("delete table inet weft-wg1; \(table.replacing("weft-wg1", with: "others"))"))
            #expect(try !found(&plane, traffic).isEmpty)
        }
    }
}
