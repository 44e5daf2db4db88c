// Interfaces of others that pass nothing on: named where the mesh needs them, on the running kernel.

import Netlink
import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite(.enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct ForwardingSwitchesTests {
    /// A host with an uplink, a LAN of its own, and a network behind that; `off` is where nothing is passed on.
    private func named(off: String..., all: Int = 1, flows: DesiredState.Flow...) throws -> [String] {
        var found: [String] = []
        try TestNamespace.run { () throws in
            for (name, address) in [("out0", "198.51.100.2/24"), ("lan.7", "192.168.7.1/24"), ("wg0", "10.80.0.1/24")] {
                #expect(
                    shell(
                        "ip link add \(name) type bridge; ip link set \(name) up; ip address add \(address) dev \(name)"
                    ))
            }
            #expect(shell("ip route add default via 198.51.100.1; ip route add 172.16.0.0/16 via 192.168.7.9"))
            shell("echo 0 > /proc/sys/net/ipv4/ip_forward; echo \(all) > /proc/sys/net/ipv4/ip_forward")
            for name in off { shell("echo 0 > /proc/sys/net/ipv4/conf/\(name)/forwarding") }
            let switches = ForwardingSwitches(
                proc: "/proc", interface: "wg0", traffic: MeshTraffic(Set(flows)),
                transports: { (bus) throws(Errno) in try Socket(bus) })
            let objects = switches.read()
            #expect(objects.allSatisfy { $0.kind == "sysctl" && $0.relation == .hinders })
            found = objects.map { String($0.description.prefix { $0 != " " }) }
        }
        return found
    }

    private func reach(_ prefixes: String...) -> DesiredState.Flow {
        .reach(prefixes.compactMap { IPPrefix($0) })
    }

    @Test func namesTheLANsAndTheWayOut() throws {
        #expect(try named(off: "lan.7", "out0", flows: reach("192.168.7.0/24")) == ["net.ipv4.conf.lan/7.forwarding"])
        #expect(try named(off: "lan.7", "out0", flows: reach("172.16.9.0/24")) == ["net.ipv4.conf.lan/7.forwarding"])
        #expect(try named(off: "lan.7", flows: reach("192.168.0.0/16")) == ["net.ipv4.conf.lan/7.forwarding"])
        #expect(try named(off: "lan.7", "out0", flows: .forward) == ["net.ipv4.conf.out0.forwarding"])
    }

    @Test func namesNobodyElse() throws {
        #expect(try named(off: "lan.7", "out0", "wg0", flows: .relay, .deliver, .listen(port: 1)) == [])
        #expect(try named(off: "out0", "wg0", flows: reach("192.168.7.0/24", "fd00::/64")) == [])
        #expect(try named(flows: reach("192.168.7.0/24"), .forward) == [])
        // Turned on for the host, it is turned on for each.
        #expect(try named(off: "lan.7", all: 0, flows: reach("192.168.7.0/24")) == [])
    }
}
