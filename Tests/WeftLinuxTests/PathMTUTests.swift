// The link's MTU from the routes to the endpoints, and what else a host's kernel tells, on the running kernel.

import CLinux
import Netlink
import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite(.enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct PathMTUTests {
    private let mesh = MeshIdentity(mesh: "corp", interface: "wg0")

    /// A host with three ways out, of 1500, 1400 and 1300 bytes.
    private func onHost(_ body: () throws -> Void) throws {
        try TestNamespace.run { () throws in
            for (number, mtu) in [(1, 1500), (2, 1400), (3, 1300)] {
                #expect(
                    shell(
                        """
                        ip link add d\(number) mtu \(mtu) type bridge; ip link set d\(number) up; \
                        ip address add 10.0.\(number).1/24 dev d\(number); \
                        ip address add fd0\(number)::1/64 dev d\(number) nodad
                        """))
            }
            try body()
        }
    }

    private func mtu(
        _ endpoints: String..., mark: UInt32 = 0, hasIPv6: Bool = false
    ) throws -> UInt32? {
        try PathMTU(for: mesh).linkMTU(
            to: Set(endpoints.compactMap { IPAddress($0) }), mark: mark, hasIPv6: hasIPv6)
    }

    @Test func takesTheNarrowestPath() throws {
        try onHost { () throws in
            #expect(try mtu("10.0.1.9") == 1420)
            #expect(try mtu("10.0.1.9", "10.0.2.9") == 1320)
            #expect(try mtu("fd03::9", "10.0.1.9") == 1220)
            // With IPv6 inside, Linux needs 1280 bytes.
            #expect(try mtu("fd03::9", "10.0.1.9", hasIPv6: true) == 1280)
            shell("ip link set d2 mtu 9000")
            #expect(try mtu("10.0.2.9") == 8920)
        }
    }

    @Test func aRoutesOwnMTUComesFirst() throws {
        try onHost { () throws in
            shell("ip route add 192.0.2.0/24 dev d1 mtu 1250; ip -6 route add 2001:db8::/32 dev d1 mtu lock 1290")
            #expect(try mtu("192.0.2.7") == 1170)
            #expect(try mtu("2001:db8::7") == 1210)
            #expect(try mtu("2001:db8::7", "192.0.2.7", "10.0.1.9", hasIPv6: true) == 1280)
        }
    }

    @Test func leavesOutWhatIsNoPath() throws {
        try onHost { () throws in
            // Without a route, refused, on this host itself, and into tunnels of Weft's own.
            shell("ip route add unreachable 203.0.113.0/24; ip route add blackhole 198.51.100.0/24")
            shell("ip link add wg0 mtu 576 type bridge; ip link set wg0 up; ip route add 10.9.0.0/16 dev wg0")
            shell("ip link add wg1 mtu 577 type bridge; ip link set wg1 up alias weft:lab")
            shell("ip route add 10.8.0.0/16 dev wg1")
            let nowhere = [
                "192.0.2.7", "203.0.113.7", "198.51.100.7", "127.0.0.1", "::1", "10.0.3.1", "fd03::1", "10.9.0.1",
                "10.8.0.1", "224.0.0.1",
            ]
            for address in nowhere {
                #expect(try mtu(address) == nil, "\(address)")
                #expect(try mtu(address, "10.0.2.9") == 1320, "\(address)")
            }
        }
    }

    @Test func withoutAnEndpointTheDefaultRouteDecides() throws {
        try onHost { () throws in
            #expect(try mtu() == nil)
            shell("ip route add default via 10.0.2.9")
            #expect(try mtu() == 1320)
            #expect(try mtu("127.0.0.1") == 1320)
            shell("ip -6 route add default via fd03::9")
            #expect(try mtu() == 1220)
            #expect(try mtu("10.0.1.9") == 1420)
        }
    }

    @Test func looksUpWithTheTunnelsMark() throws {
        try onHost { () throws in
            shell("ip route add default via 10.0.1.9; ip route add default via 10.0.3.9 table 7")
            shell("ip rule add fwmark 0x77 table 7")
            #expect(try mtu("192.0.2.7") == 1420)
            #expect(try mtu("192.0.2.7", mark: 0x77) == 1220)
            // A full tunnel that is up: only what is marked goes around it.
            shell("ip link add wg0 type bridge; ip link set wg0 up; ip route add default dev wg0 table 9")
            shell("ip rule add not fwmark 0x78 table 9 priority 10000")
            #expect(try mtu("192.0.2.7") == nil)
            #expect(try mtu("192.0.2.7", mark: 0x78) == 1420)
        }
    }

    /// The mesh's own full tunnel is to go, or to have another mark: until then its rule takes what bears none.
    @Test func aTunnelThatGoesIsNoPath() throws {
        try onHost { () throws in
            let (mark, table, priority) = (mesh.routingNumbers.mark, 9, mesh.routingNumbers.priority + 1)
            shell("ip link add wg0 type bridge; ip link set wg0 up; ip route add default dev wg0 table \(table)")
            shell("ip route add default via 10.0.2.9")
            for live in [mark, 0x4242] {
                let mask = MeshIdentity.mask(of: live)
                let rule = "not fwmark \(live)/\(mask) table \(table) priority \(priority) protocol 119"
                #expect(shell("ip rule add \(rule)"))
                for wanted in [0, mark, 0x4242, 0x4243] as [UInt32] {
                    #expect(try mtu("192.0.2.7", mark: wanted) == 1320, "\(live), \(wanted)")
                    #expect(try mtu(mark: wanted) == 1320, "\(live), \(wanted)")
                }
                #expect(shell("ip rule del \(rule)"))
            }
        }
    }

    /// Another mesh's full tunnel takes this one's packets, and may be gone tomorrow: what is beyond it is the path.
    @Test func theFullTunnelOfAnotherMeshIsPassedBy() throws {
        try onHost { () throws in
            let other = MeshIdentity(mesh: "lab", interface: "wg1")
            let (mark, priority) = (other.routingNumbers.mark, other.routingNumbers.priority + 1)
            shell("ip link add wg1 mtu 577 type bridge; ip link set wg1 up alias weft:lab")
            shell("ip route add default via 10.0.2.9; ip route add default dev wg1 table 9")
            let mask = MeshIdentity.mask(of: mark)
            #expect(shell("ip rule add not fwmark \(mark)/\(mask) table 9 priority \(priority) protocol 119"))
            for wanted in [0, mesh.routingNumbers.mark] {
                #expect(try mtu("192.0.2.7", mark: wanted) == 1320)
                #expect(try mtu(mark: wanted) == 1320)
            }
            // What is routed into it besides is no path all the same.
            shell("ip route add 10.8.0.0/16 dev wg1")
            #expect(try mtu("10.8.0.1", "10.0.1.9") == 1420)
        }
    }

    @Test func ofSeveralWaysTheNarrowestCounts() throws {
        try onHost { () throws in
            shell("ip route add 192.0.2.0/24 nexthop via 10.0.1.9 nexthop via 10.0.2.9")
            #expect(try mtu("192.0.2.7") == 1320)
            shell("ip -6 route add 2001:db8::/32 nexthop via fd01::9 nexthop via fd03::9")
            #expect(try mtu("2001:db8::7") == 1220)
            // By objects of their own, which newer tools use.
            if shell("ip nexthop add id 7 via 10.0.3.9 dev d3 2>/dev/null") {
                shell("ip route add 198.51.100.0/24 nhid 7")
                #expect(try mtu("198.51.100.7") == 1220)
            }
        }
    }

    @Test func whatThePathHasTaughtTheKernelForAWhileDoesNotCount() throws {
        try onHost { () throws in
            // A lower MTU with a time limit, as an ICMP message leaves it, cannot be made by hand; a metric can.
            shell("ip route add 192.0.2.7/32 via 10.0.1.9; ip route add 192.0.2.0/24 via 10.0.1.9 mtu 1399")
            #expect(try mtu("192.0.2.7") == 1420)
            #expect(try mtu("192.0.2.8") == 1319)
        }
    }

    @Test func tellsInterfacesFamiliesAndReversePath() throws {
        try onHost { () throws in
            let features = try HostFeatures()
            #expect(try features.interfaces() == ["lo", "d1", "d2", "d3"])
            #expect(try features.families() == [.v4, .v6])
            #expect(features.hasFirewall() == (output("nft list tables; echo $?") == "0\n"))
            // Routes and rules are still taken with this.
            shell("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
            #expect(try features.families() == [.v4, .v6])
            #expect(shell("ip -6 rule add not fwmark 5 table 5"))
            #expect(shell("ip -6 route add unreachable default table 5 metric 7"))

            func set(_ all: Int, _ byDefault: Int) {
                shell("echo \(all) > /proc/sys/net/ipv4/conf/all/rp_filter")
                shell("echo \(byDefault) > /proc/sys/net/ipv4/conf/default/rp_filter")
            }
            for (all, byDefault, isStrict) in [
                (0, 0, false), (1, 0, true), (2, 1, false), (0, 1, true), (0, 2, false), (1, 2, true),
            ] {
                set(all, byDefault)
                #expect(features.hasStrictReversePath(on: "wg0") == isStrict)
            }
            set(0, 0)
            shell("ip link add wg0 type bridge; echo 1 > /proc/sys/net/ipv4/conf/wg0/rp_filter")
            #expect(features.hasStrictReversePath(on: "wg0"))
        }
    }

    @Test func tellsWhereIPv6IsOff() throws {
        try onHost { () throws in
            let features = try HostFeatures()
            func set(_ name: String, _ value: Int) {
                shell("echo \(value) > /proc/sys/net/ipv6/conf/\(name)/disable_ipv6")
            }
            set("all", 0)
            #expect(features.ipv6Switch(on: "wg0") == .on)
            set("default", 1)
            #expect(features.ipv6Switch(on: "wg0") == .offOnHost, "one that is made now is made with it off")
            shell("ip link add wg0 type bridge")
            #expect(features.ipv6Switch(on: "wg0") == .offOnHost)
            set("wg0", 0)
            #expect(features.ipv6Switch(on: "wg0") == .on)
            set("all", 0)
            set("wg0", 1)
            #expect(features.ipv6Switch(on: "wg0") == .offOnInterface)
            set("all", 1)
            #expect(features.ipv6Switch(on: "wg0") == .offOnHost)
            set("all", 0)
            #expect(features.ipv6Switch(on: "wg0") == .on)
        }
    }

    @Test func tellsWhetherItsInterfacePassesPacketsOn() throws {
        try onHost { () throws in
            let features = try HostFeatures()
            func set(_ name: String, _ value: Int) {
                shell("echo \(value) > /proc/sys/net/ipv4/conf/\(name)/forwarding")
            }
            set("all", 0)
            #expect(!features.hasForwardingOff(on: "wg0"), "turned on, it is turned on for all")
            set("all", 1)
            #expect(!features.hasForwardingOff(on: "wg0"))
            set("default", 0)
            #expect(features.hasForwardingOff(on: "wg0"), "one that is made now is made with it off")
            shell("ip link add wg0 type bridge")
            #expect(features.hasForwardingOff(on: "wg0"))
            set("wg0", 1)
            #expect(!features.hasForwardingOff(on: "wg0"))
        }
    }

    /// As in a container: the setting cannot be written. That is known before it is tried, and the answer says what to do.
    @Test func aReadOnlyProcIsSaidToBeOne() throws {
        try TestNamespace.run { () throws in
            // 0x20000: a mount namespace of this thread's own.
            #expect(CLinux.unshare(0x20000) == 0)
            shell("mount --make-rprivate / && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys")
            let fixture = try KernelFixture()
            var plane = fixture.plane
            let path = "net/ipv4/ip_forward"
            let observed = try plane.observe(fixture.mesh, Interests(sysctls: [path]))
            let value = try #require(observed.state.sysctls.first?.value)
            let other = value == "1" ? "0" : "1"
            #expect(observed.fixedSysctls == [Sysctl(path, value)])
            let own = "net/ipv4/conf/wg0/rp_filter"
            let byDefault = output("cat /proc/sys/net/ipv4/conf/default/rp_filter").dropLast()
            let absent = try plane.observe(fixture.mesh, Interests(sysctls: [own, "net/ipv4/no_such_setting"]))
            #expect(absent.fixedSysctls == [Sysctl(own, String(byDefault))])
            // A kernel with WireGuard writes these when the link comes up.
            let redirects = "net/ipv4/conf/all/send_redirects"
            let left = try plane.observe(fixture.mesh, Interests(sysctls: [redirects])).fixedSysctls.map(\.path)
            #expect(left == (TestNamespace.hasKernelWireGuard ? [] : [redirects]))
            let outcomes = plane.perform([.sysctl(.claim(Sysctl(path, other), from: value))], for: fixture.mesh)
            let error = try #require(failure(outcomes.first))
            #expect(error.code == .notPermitted)
            #expect(error.message.contains("read-only"))
            #expect(error.message.contains("--sysctl"))
            // What is right already needs no writing.
            #expect(plane.perform([.sysctl(.hold(Sysctl(path, value)))], for: fixture.mesh) == [.done])

            // One part of it may be written, as some containers have it.
            shell("mount --bind /proc/sys/net/ipv4 /proc/sys/net/ipv4 && mount -o remount,bind,rw /proc/sys/net/ipv4")
            let paths = [path, "net/ipv6/conf/all/forwarding"]
            let mixed = try plane.observe(fixture.mesh, Interests(sysctls: paths)).fixedSysctls.map(\.path)
            #expect(mixed == ["net/ipv6/conf/all/forwarding"])
        }
    }
}
