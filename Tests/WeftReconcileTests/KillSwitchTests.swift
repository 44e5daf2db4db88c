// A kill switch in a plan: kept shut, whatever else waits, and never shut to the tunnel itself.

import Testing
import WeftModel
import WeftPlan
import WeftReconcile
import WeftTestSupport

extension ReconcilerTests {
    /// What keeps all else from being done is no reason to leave it open; one that is new waits with the rest.
    /// Killed between any two operations, the switch lets the device's own packets pass, and no others.
    @Test func aKillSwitchGoesWithTheMark() throws {
        func shut(_ mark: UInt32) throws -> DesiredState {
            var desired = random(1)
            desired.state.device?.fwMark = mark
            let bytes = withUnsafeBytes(of: mark) { Array($0) }
            let rule = FirewallRule(
                [.meta(.mark), .compare(.notEqual, bytes), .reject(.prohibited)], comment: "kill switch")
            desired.state.firewall = Firewall(chains: [
                FirewallChain("output", base: .init(.filter, .output, priority: 0), rules: [rule])
            ])
            return desired
        }
        var base = Host()
        // Where the switch comes to a device whose packets bear no mark, they get one first.
        var open = try shut(0)
        open.state.firewall = nil
        #expect(try base.apply(open).isConverged)
        #expect(try base.plan(try shut(0x4242)).operations.map(\.operation.kind) == [.device, .firewall])
        #expect(try base.apply(try shut(0x4242)).isConverged)
        // Another program's mark is taken off the device, and nothing else.
        var marked = base
        marked.kernel.links["wg0"]?.device.fwMark = 0x99
        #expect(try marked.plan(try shut(0x4242)).operations.map(\.operation.kind) == [.device])
        let wanted = try shut(0x4343)
        // One that was in force is made before all else.
        var lost = base
        lost.kernel.firewalls[mesh.firewallTable] = nil
        lost.kernel.links["wg0"]?.device.fwMark = 0
        #expect(try lost.plan(wanted).operations.map(\.operation.kind) == [.firewall, .device])
        let plan = try base.plan(wanted).operations
        #expect(plan.map(\.operation.kind) == [.firewall, .device, .firewall] && plan.last?.effect == .hitless)
        for count in 0...plan.count {
            var host = base
            host.kernel.killAfter = host.kernel.mutations + count
            try host.apply(wanted)
            host.kernel.killAfter = nil
            let seen = try host.kernel.observe(mesh, Interests(wanted)).state
            let rules = try #require(seen.firewall?.chains.first?.rules)
            let passing = rules.flatMap { rule in
                rule.expressions.compactMap { if case .compare(.notEqual, let mark, _) = $0 { mark } else { nil } }
            }
            let mark = try #require(seen.device?.fwMark)
            #expect(passing.contains(withUnsafeBytes(of: mark) { Array($0) }), "killed after \(count)")
            #expect(seen.firewall?.isShut == true, "killed after \(count)")
            #expect(try host.apply(wanted).isConverged, "killed after \(count)")
            #expect(host.kernel.firewalls[mesh.firewallTable] == wanted.state.firewall)
        }
    }

    /// Where the device has to keep its addresses, so has the table, as long as that is shut.
    @Test func rulesForOtherAddressesWaitForThem() throws {
        var desired = random(1)
        let refusing = FirewallRule([.reject(.prohibited)], comment: "kill switch")
        func table(_ address: String) -> Firewall {
            Firewall(chains: [
                FirewallChain("output", base: .init(.filter, .output, priority: 0), rules: [refusing]),
                FirewallChain("forward", base: .init(.filter, .forward, priority: 0), rules: [refusing]),
                FirewallChain("input", rules: [FirewallRule([], comment: address)]),
            ])
        }
        desired.state.firewall = table("these")
        var host = Host()
        #expect(try host.apply(desired).isConverged)
        var edited = desired
        edited.state.addresses.append(InterfaceAddress(host: IPAddress(v4: 0x0A50_0108)))
        edited.state.firewall = table("others")
        edited.keyProblem = "there is no key"
        #expect(try host.plan(edited).isStuck)
        // Opened, it is shut before all else.
        host.kernel.firewalls[mesh.firewallTable]?.chains[0].rules = []
        #expect(try host.plan(edited).operations.map(\.operation.kind) == [.firewall])
    }

    /// The record is then that mesh's, and so is the table.
    @Test func aKillSwitchOfTheMeshThatHasTheInterfaceIsNotTouched() throws {
        var desired = random(1)
        desired.state.firewall = Firewall(chains: [
            FirewallChain(
                "output", base: .init(.filter, .output, priority: 0),
                rules: [FirewallRule([.reject(.prohibited)], comment: "kill switch")])
        ])
        var host = Host()
        #expect(try host.apply(desired).isConverged)
        let memory = host.memory
        host.kernel.links["wg0"]?.alias = "weft:lab"
        host.kernel.firewalls[mesh.firewallTable] = nil
        var other = desired
        other.node = "somebody"
        #expect(try host.plan(other).isStuck)
        #expect(try !host.apply(other).isConverged && host.memory == memory)
    }

    @Test func aKillSwitchThatWasInForceStaysShut() throws {
        var desired = random(1)
        desired.state.device?.listenPort = 4000
        let refusing = FirewallChain(
            "output", base: .init(.filter, .output, priority: 0),
            rules: [FirewallRule([.reject(.prohibited)], comment: "kill switch")])
        desired.state.firewall = Firewall(chains: [refusing])
        var host = Host()
        host.kernel.busyPorts = [4000]
        #expect(try host.plan(desired).isStuck)
        #expect(try !host.apply(desired).isConverged && host.kernel.mutations == 0 && !host.memory.hasKillSwitch)
        host.kernel.busyPorts = []
        #expect(try host.apply(desired).isConverged && host.memory.hasKillSwitch)

        // As after the machine was started anew.
        var started = Host()
        started.memory = host.memory
        started.kernel.busyPorts = [4000]
        #expect(try started.plan(desired).operations.map(\.operation.kind) == [.firewall])
        #expect(try !started.apply(desired).isConverged && started.memory.hasKillSwitch)
        #expect(started.kernel.firewalls[mesh.firewallTable] == desired.state.firewall)
        #expect(try started.plan(desired).isStuck)
        // Without its key it is kept shut as well, and nothing else is done.
        var keyless = desired
        keyless.keyProblem = "there is no key"
        started.kernel.busyPorts = []
        started.kernel.firewalls[mesh.firewallTable] = nil
        #expect(try started.plan(keyless).operations.map(\.operation.kind) == [.firewall])
        #expect(try !started.apply(keyless).isConverged && started.memory.node == desired.node)
        #expect(started.kernel.firewalls[mesh.firewallTable] == desired.state.firewall && started.kernel.links.isEmpty)
        // Nor is anything taken down without it, though the topology wants that.
        var gone = keyless
        gone.state = HostState()
        #expect(try started.plan(gone).isEmpty && started.memory.hasKillSwitch)
        // With another mark, which the device cannot get yet: the table is for the one that it has.
        func shut(_ mark: UInt32) -> Firewall {
            let bytes = [UInt8(mark & 0xFF), UInt8(mark >> 8 & 0xFF), UInt8(mark >> 16 & 0xFF), UInt8(mark >> 24)]
            let rule = FirewallRule(
                [.meta(.mark), .compare(.notEqual, bytes), .reject(.prohibited)], comment: "kill switch")
            return Firewall(chains: [FirewallChain("output", base: refusing.base, rules: [rule])])
        }
        var marked = desired
        marked.state.device?.fwMark = 0x4242
        marked.state.firewall = shut(0x4242)
        started.kernel.busyPorts = []
        #expect(try started.apply(marked).isConverged)
        marked.state.device?.fwMark = 0x4343
        marked.state.device?.listenPort = 4001
        marked.state.firewall = shut(0x4343)
        started.kernel.busyPorts = [4001]
        #expect(try started.plan(marked).isStuck)
        started.kernel.firewalls[mesh.firewallTable] = nil
        #expect(try !started.apply(marked).isConverged)
        #expect(started.kernel.firewalls[mesh.firewallTable] == shut(0x4242))
        #expect(try started.plan(marked).isStuck)
        // Without a device, it is as it will be.
        started.kernel.links["wg0"] = nil
        #expect(try !started.apply(marked).isConverged)
        #expect(started.kernel.firewalls[mesh.firewallTable] == shut(0x4343))
        started.kernel.busyPorts = [4000]
        // Opened by the topology: that waits with the rest, and then it is forgotten.
        var open = desired
        open.state.firewall = nil
        #expect(try started.plan(open).isStuck && started.memory.hasKillSwitch)
        started.kernel.busyPorts = []
        #expect(try started.apply(open).isConverged && !started.memory.hasKillSwitch)
    }
}
