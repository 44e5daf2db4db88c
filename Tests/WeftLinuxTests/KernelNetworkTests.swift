// Links, addresses, routes and settings on the running kernel: a tun device where it has no WireGuard.

import Netlink
import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite(.enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct KernelNetworkTests {
    /// Runs a test on a dataplane in a namespace of its own.
    private func onKernel(_ body: (inout KernelDataplane, KernelFixture) throws -> Void) throws {
        try TestNamespace.run {
            let fixture = try KernelFixture()
            var plane = fixture.plane
            try body(&plane, fixture)
        }
    }

    private func make(_ plane: inout KernelDataplane, _ fixture: KernelFixture) {
        #expect(plane.perform([.link(.create(KernelFixture.link))], for: fixture.mesh) == [.done])
        #expect(plane.perform([.link(.setUp(interface: "wg0"))], for: fixture.mesh) == [.done])
    }

    @Test func makesKnowsAndRemovesItsLink() throws {
        try onKernel { plane, fixture in
            #expect(try plane.observe(fixture.mesh, Interests(sysctls: [])).state.link == nil)
            #expect(plane.perform([.link(.create(KernelFixture.link))], for: fixture.mesh) == [.done])
            var observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            var expected = KernelFixture.link
            expected.isUp = false
            #expect(observed.state.link == expected)
            #expect(observed.deviceKind == (TestNamespace.hasKernelWireGuard ? .kernel : .userspace))
            #expect(observed.halfMadeLink == nil)
            #expect(observed.foreign == [])
            #expect(plane.perform([.link(.create(KernelFixture.link))], for: fixture.mesh) == [.already])

            let changes: [WeftPlan.Operation] = [
                .link(.setMTU(interface: "wg0", from: 1420, to: 1380)), .link(.setUp(interface: "wg0")),
            ]
            #expect(plane.perform(changes, for: fixture.mesh) == [.done, .done])
            observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(observed.state.link == Link(name: "wg0", mtu: 1380, alias: "weft:corp"))

            #expect(plane.perform([.link(.remove(interface: "wg0"))], for: fixture.mesh) == [.done])
            #expect(plane.perform([.link(.remove(interface: "wg0"))], for: fixture.mesh) == [.already])
            #expect(try plane.observe(fixture.mesh, Interests(sysctls: [])).state.link == nil)
        }
    }

    @Test(arguments: [
        ("ip link add wg0 type bridge", "kind bridge"),
        ("ip link add wg0 type bridge; ip link set wg0 alias weft:corp", "not on record"),
        ("ip link add wg0 type bridge; ip link set wg0 alias weft:lab", "belongs to the mesh lab"),
        ("ip link add d0 type bridge; ip link property add dev d0 altname wg0", "d0 has the alternative name wg0"),
    ])
    func leavesForeignLinksAlone(_ command: String, _ words: String) throws {
        try onKernel { plane, fixture in
            shell(command)
            let before = output("ip -o link")
            let observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(observed.state.link == nil)
            let obstacle = try #require(observed.foreign.first)
            #expect(obstacle.relation == .blocksLink)
            #expect(obstacle.description.contains(words))
            #expect(obstacle.remedy.isEmpty == false)
            for operation: LinkOperation in [
                .create(KernelFixture.link), .setUp(interface: "wg0"), .remove(interface: "wg0"),
                .setMTU(interface: "wg0", from: 1, to: 1400),
            ] {
                let outcomes = plane.perform([.link(operation)], for: fixture.mesh)
                #expect(failure(outcomes.first)?.code == .obstructed)
            }
            #expect(output("ip -o link") == before)
        }
    }

    @Test func findsAndRemovesHalfMadeLinks() throws {
        try onKernel { plane, fixture in
            shell("ip link add '\(fixture.mesh.reservedName)' type bridge")
            var observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(observed.halfMadeLink == fixture.mesh.reservedName)
            let remove = Operation.link(.removeHalfMade(name: fixture.mesh.reservedName))
            #expect(plane.perform([remove], for: fixture.mesh) == [.done])
            #expect(plane.perform([remove], for: fixture.mesh) == [.already])
            observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(observed.halfMadeLink == nil)

        }
    }

    /// A user-space device that was started and not marked yet, or whose mark somebody has changed.
    @Test(arguments: ["", "uplink"]) func marksItsUserSpaceDevice(_ alias: String) throws {
        try onKernel { plane, fixture in
            fixture.tunnels.recorded = ["wg0"]
            shell("ip tuntap add dev wg0 mode tun; ip link set wg0 alias '\(alias)'")
            var observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(observed.state.link?.alias == alias)
            #expect(observed.foreign == [])
            let mark = Operation.link(.setAlias(interface: "wg0", from: alias, to: fixture.mesh.alias))
            #expect(plane.perform([mark], for: fixture.mesh) == [.done])
            observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(observed.state.link?.alias == fixture.mesh.alias)
            // Another mesh's it is not.
            shell("ip link set wg0 alias weft:lab")
            observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(observed.state.link == nil)
            #expect(observed.foreign.first?.relation == .blocksLink)
        }
    }

    @Test func addsAndRemovesAddresses() throws {
        try onKernel { plane, fixture in
            make(&plane, fixture)
            let wanted = [address("10.80.0.1"), address("fd80::1")]
            let adds = wanted.map { Operation.address(.add($0, interface: "wg0")) }
            #expect(plane.perform(adds, for: fixture.mesh) == [.done, .done])
            #expect(plane.perform(adds, for: fixture.mesh) == [.already, .already])
            shell("ip addr add 192.0.2.1/24 dev wg0; ip addr add 10.80.0.9/32 dev wg0")
            let observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(observed.state.addresses == wanted)
            #expect(Set(observed.foreign.map(\.description)) == ["192.0.2.1/24 dev wg0", "10.80.0.9/32 dev wg0"])
            #expect(observed.foreign.allSatisfy { $0.relation == .onLink })
            #expect(output("ip -6 addr show dev wg0").contains("tentative") == false)

            let foreign = plane.perform([.address(.add(address("10.80.0.9"), interface: "wg0"))], for: fixture.mesh)
            #expect(failure(foreign.first)?.code == .obstructed)
            // Neither what is not ours nor what is not there is removed.
            let removes = [address("10.80.0.9"), address("10.80.0.7"), wanted[0], wanted[1]]
                .map { Operation.address(.remove($0, interface: "wg0")) }
            #expect(plane.perform(removes, for: fixture.mesh) == [.already, .already, .done, .done])
            #expect(output("ip addr show dev wg0").contains("10.80.0.9/32"))
        }
    }

    @Test func addsReplacesAndRemovesRoutes() throws {
        try onKernel { plane, fixture in
            make(&plane, fixture)
            _ = plane.perform(
                [
                    .address(.add(address("10.80.0.1"), interface: "wg0")),
                    .address(.add(address("fd80::1"), interface: "wg0")),
                ],
                for: fixture.mesh)
            let metric = fixture.mesh.unreachableMetric
            let wanted = [
                route("10.80.0.0/16", metric: metric, target: .unreachable), route("10.80.0.2/32", source: "10.80.0.1"),
                route("192.168.3.0/24"), route("fd80::/64", metric: metric, target: .unreachable),
                route("fd80::2/128", source: "fd80::1"), route("fd81::/64", metric: 77),
            ]
            let adds = wanted.map { Operation.route(.add($0, interface: "wg0")) }
            #expect(plane.perform(adds, for: fixture.mesh) == wanted.map { _ in .done })
            var observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(Set(observed.state.routes) == Set(wanted))
            #expect(observed.foreign == [])
            #expect(plane.perform(adds, for: fixture.mesh) == wanted.map { _ in .already })

            var replaced = wanted[1]
            replaced.source = nil
            let change = RouteOperation.replace(old: wanted[1], new: replaced, interface: "wg0")
            #expect(plane.perform([.route(change)], for: fixture.mesh) == [.done])
            observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(observed.state.routes.contains(replaced))
            #expect(observed.state.routes.contains(wanted[1]) == false)

            // Drifted or not, a route is removed by its key.
            let removes = wanted.map { Operation.route(.remove($0, interface: "wg0")) }
            #expect(plane.perform(removes, for: fixture.mesh) == wanted.map { _ in .done })
            #expect(plane.perform(removes, for: fixture.mesh) == wanted.map { _ in .already })
            #expect(try plane.observe(fixture.mesh, Interests(sysctls: [])).state.routes == [])
        }
    }

    @Test func neverTouchesRoutesOfOthers() throws {
        try onKernel { plane, fixture in
            make(&plane, fixture)
            shell("ip link add d0 type bridge; ip link set d0 up")
            shell("ip route add 10.1.0.0/24 dev d0 proto static; ip -6 route add fd81::/64 dev d0 proto static")
            shell("ip route add 10.2.0.0/24 dev wg0 proto static; ip route add 10.3.0.0/24 dev d0 proto 119")
            let before = output("ip route; ip -6 route")
            let wanted = ["10.1.0.0/24", "fd81::/64", "10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24"].map { route($0) }

            let obstacles = try plane.foreignRoutes(at: wanted.map(\.key), of: fixture.mesh)
            #expect(Set(obstacles.map(\.relation)) == Set(wanted.dropLast().map { .blocksRoute($0.key) }))
            #expect(obstacles.contains { $0.description == "10.1.0.0/24 dev d0 proto static" })
            let observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(observed.state.routes == [])
            #expect(observed.foreign.map(\.description) == ["10.2.0.0/24 dev wg0 proto static"])

            let outcomes = plane.perform(
                wanted.map { .route(.add($0, interface: "wg0")) }, for: fixture.mesh)
            for outcome in outcomes.dropLast() {
                #expect(failure(outcome)?.code == .obstructed)
                #expect(failure(outcome)?.message.contains("stands there") == true)
            }
            #expect(outcomes.last == .done)
            let removes = wanted.map { Operation.route(.remove($0, interface: "wg0")) }
            #expect(
                plane.perform(removes, for: fixture.mesh) == [.already, .already, .already, .already, .done])
            #expect(output("ip route; ip -6 route") == before)
        }
    }

    @Test func unreachableRoutesOutliveTheLink() throws {
        try onKernel { plane, fixture in
            make(&plane, fixture)
            let loose = route("10.80.0.0/16", metric: fixture.mesh.unreachableMetric, target: .unreachable)
            let other = route("10.80.0.0/16", metric: 0x7700_0001, target: .unreachable)
            _ = plane.perform(
                [.route(.add(loose, interface: "wg0")), .route(.add(route("10.9.0.0/24"), interface: "wg0"))],
                for: fixture.mesh)
            _ = plane.perform([.route(.add(other, interface: "wg0"))], for: fixture.mesh)
            _ = plane.perform([.link(.remove(interface: "wg0"))], for: fixture.mesh)
            let left = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(left.state.routes == [loose])
            #expect(
                plane.perform([.route(.remove(loose, interface: "wg0"))], for: fixture.mesh) == [.done])
            #expect(
                plane.perform([.route(.remove(route("10.9.0.0/24"), interface: "wg0"))], for: fixture.mesh)
                    == [.already])
            // That of another mesh stays.
            #expect(output("ip route").contains("unreachable 10.80.0.0/16"))
        }
    }

    @Test func addsManyRoutesAndReportsTheFewThatFail() throws {
        try onKernel { plane, fixture in
            make(&plane, fixture)
            shell("ip link add d0 type bridge; ip link set d0 up; ip route add 10.5.7.0/32 dev d0")
            let wanted = (0..<1800).map { route("10.5.\($0 / 256).\($0 % 256)/32") }
            let outcomes = plane.perform(wanted.map { .route(.add($0, interface: "wg0")) }, for: fixture.mesh)
            let failed = outcomes.indices.filter { outcomes[$0].isFailure }
            #expect(failed == [7 * 256])
            let observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(observed.state.routes.count == 1799)
            // In the order of their prefixes, which is what makes the diff cheap.
            #expect(observed.state.routes == wanted.enumerated().filter { $0.offset != 1792 }.map(\.element))
        }
    }

    @Test func writesSettingsThatDiffer() throws {
        try onKernel { plane, fixture in
            let path = "net/ipv4/conf/lo/forwarding"
            shell("echo 0 > /proc/sys/\(path)")
            let observed = try plane.observe(fixture.mesh, Interests(sysctls: [path, "net/ipv4/no_such_setting"]))
            #expect(observed.state.sysctls == [Sysctl(path, "0")])
            let claim = Operation.sysctl(.claim(Sysctl(path, "1"), from: "0"))
            #expect(plane.perform([claim], for: fixture.mesh) == [.done])
            #expect(output("cat /proc/sys/\(path)") == "1\n")
            #expect(fixture.ledger.stored.originals[path] == .init(value: "0", written: "1"))
            #expect(plane.perform([claim], for: fixture.mesh) == [.already])
            // Claimed paths are read without being asked for.
            #expect(try plane.observe(fixture.mesh, Interests(sysctls: [])).state.sysctls == [Sysctl(path, "1")])
            let release = Operation.sysctl(.release(path: path, from: "1", restore: "0"))
            #expect(plane.perform([release], for: fixture.mesh) == [.done])
            #expect(output("cat /proc/sys/\(path)") == "0\n")
            #expect(fixture.ledger.stored.claims["wg0"] == [])

            let own = Operation.sysctl(.setOwn(Sysctl(path, "1"), from: nil))
            #expect(plane.perform([own, own], for: fixture.mesh) == [.done, .already])
            #expect(output("cat /proc/sys/\(path)") == "1\n")
            #expect(fixture.ledger.stored.claims["wg0"] == [])

            let wrong = Operation.sysctl(.claim(Sysctl(path, "maybe"), from: "0"))
            #expect(failure(plane.perform([wrong], for: fixture.mesh).first)?.code == .invalid)
        }
    }

    /// Forwarding brings others along in this kernel as `ForwardingSwitch` has it; and they are given back.
    @Test func givesBackWhatTheKernelChangesAlong() throws {
        try onKernel { plane, fixture in
            #expect(shell("ip link add d0 type bridge && ip link add d1 type bridge"))
            let switches = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"]
            let others = ["net/ipv4/conf/d0/forwarding", "net/ipv6/conf/d0/forwarding"]
            let hardened = ["net/ipv4/conf/all/accept_redirects"]
            func settings() -> String {
                output("cd /proc/sys && grep -H . net/ipv[46]/conf/*/forwarding net/ipv[46]/conf/*/accept_redirects")
            }
            for path in switches + hardened { shell("echo 0 > /proc/sys/\(path)") }
            for path in others { shell("echo 1 > /proc/sys/\(path)") }
            let before = settings()
            let claims = switches.map { Operation.sysctl(.claim(Sysctl($0, "1"), from: "0")) }
            #expect(plane.perform(claims, for: fixture.mesh) == [.done, .done])
            #expect(!settings().contains("d1/forwarding:0"))
            let companions = [hardened[0]: "0", others[0]: "1"]
            #expect(fixture.ledger.stored.originals[switches[0]]?.companions == companions)
            #expect(fixture.ledger.stored.originals[switches[1]]?.companions == [others[1]: "1"])
            // They are read with the claims.
            let live = try plane.observe(fixture.mesh, Interests(sysctls: [])).state.sysctls.map(\.path)
            #expect(Set(live) == Set(switches + hardened + others))
            let bare = switches.map { Operation.sysctl(.release(path: $0, from: "1", restore: "0")) }
            #expect(plane.perform(bare, for: fixture.mesh) == [.done, .done])
            #expect(settings() != before)
            #expect(output("cat /proc/sys/\(hardened[0])") == "1\n")
            #expect(output("cat /proc/sys/\(others[0]) /proc/sys/\(others[1])") == "0\n0\n")
            let gone = Sysctl("net/ipv4/conf/d9/forwarding", "1")
            let releases = [
                Operation.sysctl(
                    .release(
                        path: switches[0], from: "1", restore: "0",
                        companions: [Sysctl(hardened[0], "0"), Sysctl(others[0], "1"), gone])),
                .sysctl(.release(path: switches[1], from: "1", restore: "0", companions: [Sysctl(others[1], "1")])),
            ]
            #expect(plane.perform(releases, for: fixture.mesh) == [.done, .done])
            #expect(settings() == before)
        }
    }

    @Test func twoMeshesKeepApart() throws {
        try onKernel { plane, fixture in
            let lab = MeshIdentity(mesh: "lab", interface: "wg1")
            make(&plane, fixture)
            let second = Link(name: "wg1", mtu: 1400, alias: "weft:lab")
            #expect(plane.perform([.link(.create(second))], for: lab) == [.done])
            #expect(plane.perform([.link(.setUp(interface: "wg1"))], for: lab) == [.done])
            for (mesh, text) in [(fixture.mesh, "10.80.0.0/24"), (lab, "10.90.0.0/24")] {
                let routes = [
                    route(text), route("10.0.0.0/8", metric: mesh.unreachableMetric, target: .unreachable),
                ]
                #expect(
                    plane.perform(routes.map { .route(.add($0, interface: mesh.interface)) }, for: mesh)
                        == [.done, .done])
                let observed = try plane.observe(mesh, Interests(sysctls: []))
                #expect(Set(observed.state.routes) == Set(routes))
                #expect(observed.foreign == [])
            }
            #expect(plane.perform([.link(.remove(interface: "wg0"))], for: fixture.mesh) == [.done])
            #expect(try plane.observe(lab, Interests(sysctls: [])).state.routes.count == 2)
            #expect(try plane.observe(lab, Interests(sysctls: [])).state.link == second)
        }
    }
}
