// A host's other WireGuard interfaces, and what is routed into them.

import Glibc
import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

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
