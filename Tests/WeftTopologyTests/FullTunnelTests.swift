// Default routes through an exit: tables, rules, guards and marks, judged by what they do to packets.

import Testing
import WeftDiagnostics
import WeftModel
import WeftTestSupport

@testable import WeftTopology

@Suite struct FullTunnelTests {
    private let numbers = MeshIdentity(mesh: "corp", interface: "wg0").routingNumbers

    @Test func theClientRoutesEverythingThroughTheExit() throws {
        let state = try topology().hostState(of: "ana")
        #expect(state.peers.map(\.allowedIPs.description) == ["0.0.0.0/0, 10.80.0.1/32"])
        #expect(state.device?.fwMark == numbers.mark)
        let aside = state.routes.filter { $0.table == numbers.table }
        let metric = MeshIdentity(mesh: "corp", interface: "wg0").unreachableMetric
        #expect(
            aside == [
                Route(
                    try prefix("0.0.0.0/0"), table: numbers.table, metric: 0, target: .interface,
                    source: try ip("10.80.1.7")),
                Route(try prefix("::/0"), table: numbers.table, metric: metric, target: .unreachable, source: nil),
            ])
        // The mesh's own routes stay where they were.
        #expect(
            state.routes.filter { $0.table == Route.mainTable }.map(\.prefix.description) == [
                "10.80.0.0/16", "10.80.0.1/32",
            ])
        #expect(state.routes == state.routes.sorted { $0.key < $1.key })
        let rules = IPAddress.Family.allCases.flatMap { family in
            [
                PolicyRule(family, priority: numbers.priority, .lookupMainWithoutDefault),
                PolicyRule(
                    family, priority: numbers.priority + 1,
                    .lookupUnlessMarked(mark: numbers.mark, table: numbers.table)),
            ]
        }
        #expect(state.rules == rules)
        #expect(state.rules == state.rules.sorted { $0.key < $1.key })
        #expect(state.sysctls == [Sysctl("net/ipv4/conf/all/src_valid_mark", "1")])
        // Nobody else gets any of it.
        let exit = try topology().hostState(of: "fra")
        #expect(exit.rules.isEmpty && exit.device?.fwMark == 0)
        #expect(exit.peers.map(\.allowedIPs.description) == ["10.80.1.7/32"])
    }

    @Test func bothFamiliesGoWhereBothHaveThem() throws {
        let both = ("10.80.0.1, \"fd80::1\"", "10.80.1.7, \"fd80::7\"")
        let state = try topology(ranges: "10.80.0.0/16, \"fd80::/48\"", addresses: both).hostState(of: "ana")
        #expect(state.peers.first?.allowedIPs.description == "0.0.0.0/0, 10.80.0.1/32, ::/0, fd80::1/128")
        let aside = state.routes.filter { $0.table == numbers.table }
        #expect(aside.map(\.target) == [.interface, .interface])
        let source = try ip("fd80::7")
        #expect(aside.last?.metric == 1024 && aside.last?.source == source)

        let one = try topology(
            ranges: "10.80.0.0/16, \"fd80::/48\"", addresses: ("10.80.0.1", "10.80.1.7, \"fd80::7\""))
        let compilation = try one.compilation(of: "ana")
        #expect(compilation.diagnostics.map(\.id) == ["host.exit-family"])
        #expect(
            compilation.desired.state.routes.filter { $0.table == numbers.table }.map(\.target)
                == [.interface, .unreachable])
        #expect(compilation.desired.state.peers.first?.allowedIPs.description == "0.0.0.0/0, 10.80.0.1/32")
    }

    /// Under 1280 bytes there is no IPv6 on the link: it is refused, and does not leave by another way.
    @Test func aSmallMTURefusesIPv6() throws {
        let both = ("10.80.0.1, \"fd80::1\"", "10.80.1.7, \"fd80::7\"")
        let state = try topology(
            client: "useExit: fra\n    mtu: 1200", ranges: "10.80.0.0/16, \"fd80::/48\"", addresses: both
        ).hostState(of: "ana")
        #expect(state.routes.filter { $0.table == numbers.table }.map(\.target) == [.interface, .unreachable])
        #expect(state.peers.first?.allowedIPs.contains(try prefix("::/0")) == false)
    }

    /// By the host's default route too, each once, and none that lies within another.
    @Test func whatTheKillSwitchAllowsGoesBesideTheTunnel() throws {
        let allow = "[192.168.1.0/24, 100.64.0.0/16, 192.168.0.0/16, 100.64.0.0/16, \"fd00::/8\", 10.0.0.0/8]"
        let compilation = try topology(client: "useExit: fra\n    killSwitch: {allow: \(allow)}").compilation(of: "ana")
        let rules = compilation.desired.state.rules
        #expect(
            rules.map(\.words).filter { $0.hasPrefix("to ") } == [
                "to 10.0.0.0/8 lookup main", "to 100.64.0.0/16 lookup main", "to 192.168.0.0/16 lookup main",
                "to fd00::/8 lookup main",
            ])
        #expect(rules == rules.sorted { $0.key < $1.key })
        #expect(rules.allSatisfy { ($0.key.priority == numbers.priority) == $0.words.contains("lookup main") })
        #expect(compilation.diagnostics.isEmpty, "\(compilation.diagnostics)")
        // The mesh's routes in the main table come first; in the tunnel's own they would come too late.
        let aside = try topology(client: "useExit: fra\n    table: 77\n    killSwitch: {allow: \(allow)}")
            .compilation(of: "ana")
        #expect(!aside.desired.state.rules.contains { $0.words.hasPrefix("to 10.") })
        #expect(aside.desired.state.rules.contains { $0.words.hasPrefix("to 100.") })
        #expect(aside.diagnostics.map(\.id) == ["host.allow-in-mesh"])
    }

    @Test func theTopologysNumbersWin() throws {
        let state = try topology(client: "useExit: fra\n    fwMark: 0xca6c\n    table: 51820").hostState(of: "ana")
        #expect(state.device?.fwMark == 0xCA6C)
        #expect(Set(state.routes.map(\.table)) == [51_820])
        #expect(state.routes == state.routes.sorted { $0.key < $1.key })
        #expect(
            state.rules.filter { $0.key.priority == numbers.priority + 1 }.allSatisfy {
                $0.key.action == .lookupUnlessMarked(mark: 0xCA6C, table: 51_820)
            })
    }

    /// What the kernel lacks is not asked of it.
    @Test func aKernelWithoutIPv6GetsNoRulesOfIt() throws {
        var facts = HostFacts()
        facts.families = [.v4]
        let state = try topology().hostState(of: "ana", facts)
        #expect(state.rules.allSatisfy { $0.key.family == .v4 } && state.rules.count == 2)
        #expect(state.routes.filter { $0.table == numbers.table }.count == 1)
    }

    /// A host whose settings switch IPv6 off refuses addresses, and routes by the interface, but not those that lead nowhere.
    @Test func aHostThatSwitchesIPv6OffDoesWithoutIt() throws {
        let both = ("10.80.0.1, \"fd80::1\"", "10.80.1.7, \"fd80::7\"")
        let mesh = try topology(
            client: "useExit: fra", ranges: "10.80.0.0/16, \"fd80::/48\"", addresses: both)
        var facts = HostFacts()
        facts.ipv6Switch = .offOnHost
        let settings = try mesh.compilation(of: "ana", facts)
        #expect(settings.diagnostics.map(\.id) == ["host.no-ipv6"] && settings.refusals.isEmpty)
        var state = settings.desired.state
        #expect(state.addresses.map(\.address.family) == [.v4])
        #expect(state.routes.allSatisfy { $0.prefix.family == .v4 || $0.target == .unreachable })
        #expect(state.routes.filter { $0.table == numbers.table }.map(\.target) == [.interface, .unreachable])
        #expect(state.rules.count == 4)
        #expect(state.peers.first?.allowedIPs.contains(try prefix("::/0")) == false)
        facts.families = [.v4]
        state = try mesh.compilation(of: "ana", facts).desired.state
        #expect(state.routes.allSatisfy { $0.prefix.family == .v4 } && state.rules.count == 2)
        // Whoever has no IPv6 in the mesh is told nothing.
        #expect(try topology(client: "useExit: fra").compilation(of: "ana", facts).diagnostics.isEmpty)
    }

    /// What its own interface has is the mesh's to set.
    @Test func anInterfaceAloneThatHasIPv6OffIsToldToHaveIt() throws {
        let both = ("10.80.0.1, \"fd80::1\"", "10.80.1.7, \"fd80::7\"")
        let mesh = try topology(
            client: "useExit: fra", ranges: "10.80.0.0/16, \"fd80::/48\"", addresses: both)
        let on = try mesh.compilation(of: "ana")
        var facts = HostFacts()
        facts.ipv6Switch = .offOnInterface
        var found = try mesh.compilation(of: "ana", facts)
        #expect(found.diagnostics.isEmpty && found.refusals.isEmpty)
        #expect(found.desired.state.sysctls.first == Sysctl("net/ipv6/conf/wg0/disable_ipv6", "0"))
        found.desired.state.sysctls.removeFirst()
        #expect(found.desired.state == on.desired.state)
        // Whoever has no IPv6 in the mesh leaves it off.
        let without = try topology(client: "useExit: fra").hostState(of: "ana", facts).sysctls
        #expect(!without.contains { $0.path.hasSuffix("disable_ipv6") })
    }

    @Test(arguments: ["disabled: true", "expires: 2020-01-01T00:00:00Z"])
    func anAbsentExitLeavesNoWayOut(why: String) throws {
        let mesh = try topology(
            exit: "masquerade: true\n    \(why)", client: "useExit: fra\n    killSwitch: {allow: [192.168.0.0/24]}")
        let state = try mesh.hostState(of: "ana")
        #expect(state.peers.isEmpty)
        #expect(state.routes.filter { $0.table == numbers.table }.map(\.target) == [.unreachable, .unreachable])
        #expect(state.rules.map(\.words).contains("to 192.168.0.0/24 lookup main") && state.rules.count == 5)
        var firewall = try mesh.firewall(of: "ana")
        var leak = try packet("192.168.0.7", "198.51.100.9", out: "eth0")
        #expect(firewall.send(&leak) == .refused)
    }

    /// Packets to the tunnel's address that come in elsewhere are dropped, whoever sends them.
    @Test func theTunnelsAddressIsReachedByTheTunnelOnly() throws {
        var firewall = try topology().firewall(of: "ana")
        var forged = try packet("192.168.0.9", "10.80.1.7", in: "eth0")
        #expect(firewall.receive(&forged) == .dropped)
        var own = try packet("10.80.1.7", "10.80.1.7", in: "lo") { $0.isFromHere = true }
        #expect(firewall.receive(&own) == .accepted)
        var good = try packet("198.51.100.9", "10.80.1.7", in: "wg0")
        #expect(firewall.receive(&good) == .accepted)
        var other = try packet("192.168.0.9", "192.168.0.7", in: "eth0")
        #expect(firewall.receive(&other) == .accepted)
    }

    /// The mark goes from the tunnel's own packets to their connection and back to the answers; others' marks stay.
    @Test func answersGetTheTunnelsMark() throws {
        var firewall = try topology().firewall(of: "ana")
        var sent = try packet("192.168.0.7", "192.0.2.1", out: "eth0") { $0.mark = numbers.mark }
        #expect(firewall.send(&sent) == .accepted)
        #expect(sent.connectionMark == numbers.mark)
        var answer = try packet("192.0.2.1", "192.168.0.7", in: "eth0") { $0.connectionMark = numbers.mark }
        #expect(firewall.receive(&answer) == .accepted)
        #expect(answer.mark == numbers.mark)
        var foreign = try packet("192.0.2.1", "192.168.0.7", in: "eth0") {
            $0.connectionMark = 7
            $0.mark = 8
        }
        #expect(firewall.receive(&foreign) == .accepted)
        #expect(foreign.mark == 8 && foreign.connectionMark == 7)
        var stream = try packet("192.0.2.1", "192.168.0.7", in: "eth0") {
            $0.connectionMark = numbers.mark
            $0.transport = 6
        }
        #expect(firewall.receive(&stream) == .accepted)
        #expect(stream.mark == 0)
    }
}
