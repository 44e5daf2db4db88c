// The loop on the model kernel: what it does, in which order, and that it always ends where it should.

import Testing
import WeftModel
import WeftPlan
import WeftReconcile
import WeftTestSupport

func random(_ seed: Int) -> DesiredState {
    var generator = SeededGenerator(seed: UInt64(seed))
    return randomDesiredState(&generator, mesh: mesh)
}

/// All that a kernel holds for the mesh, in an order of its own, endpoints aside.
private func contents(_ kernel: ModelKernel) throws -> [String] {
    var kernel = kernel
    let seen = try kernel.observe(mesh, Interests(sysctls: kernel.sysctls.keys.sorted()))
    var lines = seen.state.peers.map { peer in
        var peer = peer
        peer.endpoint = nil
        return "\(peer)"
    }
    lines += seen.state.routes.map { "\($0)" } + seen.state.addresses.map { "\($0)" }
    lines += seen.state.sysctls.map { "\($0)" }
    lines += [seen.state.link.map { "\($0)" } ?? "none"]
    if var device = seen.state.device {
        // An unset port is the kernel's to choose, so what was there before may stay.
        device.listenPort = nil
        lines.append("\(device)")
    }
    return lines.sorted()
}

@Suite struct ReconcilerTests {
    @Test(arguments: 1...40)
    func aThenBEqualsBAlone(seed: Int) throws {
        let first = random(seed * 2)
        let second = random(seed * 2 + 1)
        var host = Host()
        #expect(try host.apply(first).isConverged)
        let prefixes = { (state: DesiredState) in Set(state.state.peers.flatMap { Array($0.allowedIPs) }) }
        host.kernel.guarded = prefixes(first).intersection(prefixes(second))
        let report = try host.apply(second)
        #expect(report.outcomes.allSatisfy { !$0.isFailure })
        #expect(report.isConverged)
        #expect(host.kernel.lost.isEmpty)
        let mutations = host.kernel.mutations
        #expect(try host.apply(second).isConverged)
        #expect(host.kernel.mutations == mutations, "a pass with nothing to do sends nothing")
        var clean = Host()
        try clean.apply(second)
        #expect(try contents(host.kernel) == contents(clean.kernel))
        try host.apply(nil)
        #expect(host.kernel.links.isEmpty && host.kernel.routes.isEmpty)
        #expect(host.kernel.sysctls["net/ipv4/ip_forward"] == "0")
    }

    @Test(arguments: 1...6)
    func killedAnywhereTheNextApplyConverges(seed: Int) throws {
        let first = random(seed * 2)
        let second = random(seed * 2 + 1)
        var base = Host()
        try base.apply(first)
        let total = try base.plan(second).operations.count
        for count in 0...total {
            var host = base
            host.kernel.killAfter = host.kernel.mutations + count
            try host.apply(second)
            host.kernel.killAfter = nil
            #expect(try host.apply(second).isConverged, "killed after \(count) of \(total)")
            #expect(try host.plan(second).isEmpty)
        }
    }

    /// Once per fault: every operation of the plan fails in turn, in each way that the kernel has.
    @Test(arguments: [
        DataplaneError.Code.noMemory, .portInUse, .gone, .invalid, .obstructed, .notPermitted, .inconsistent, .other,
    ])
    func everyOperationMayFailOnce(code: DataplaneError.Code) throws {
        for seed in 1...4 {
            let first = random(seed * 2)
            let second = random(seed * 2 + 1)
            var base = Host()
            try base.apply(first)
            let total = try base.plan(second).operations.count
            let prefixes = { (state: DesiredState) in Set(state.state.peers.flatMap { Array($0.allowedIPs) }) }
            for count in 1...max(1, total) {
                var host = base
                let failing = host.kernel.mutations + count
                host.kernel.guarded = prefixes(first).intersection(prefixes(second))
                host.kernel.fault = { number, _ in number == failing ? DataplaneError(code, "injected") : nil }
                let report = try host.apply(second)
                if count <= total { #expect(report.outcomes.contains { $0.isFailure }) }
                #expect(host.kernel.lost.isEmpty)
                host.kernel.fault = { _, _ in nil }
                #expect(try host.apply(second).isConverged)
            }
        }
    }

    @Test func anIncompleteReadingPlansNothing() throws {
        var host = Host()
        try host.apply(random(1))
        host.kernel.observationFault = { _ in DataplaneError(.inconsistent, "interrupted") }
        let mutations = host.kernel.mutations
        #expect(throws: DataplaneError.self) { try host.apply(random(2)) }
        #expect(host.kernel.mutations == mutations)
    }

    @Test func aBusyPortLeavesNothingBehind() throws {
        var desired = random(1)
        desired.state.device?.listenPort = 4000
        var host = Host()
        host.kernel.busyPorts = [4000]
        let plan = try host.plan(desired)
        #expect(plan.isBlocked && plan.isEmpty && plan.isStuck)
        #expect(plan.obstacles.map(\.relation) == [.holdsPort])
        let report = try host.apply(desired)
        #expect(!report.isConverged && host.kernel.mutations == 0)
        // It is taken between the plan and the apply: what was made on the way is gone again, and said to be.
        host.kernel.busyPorts = []
        let (late, observation) = try host.reconciler.plan(mesh, desired: desired, memory: host.memory)
        host.kernel.busyPorts = [4000]
        let undone = host.reconciler.apply(late, desired: desired, memory: host.memory, observation: observation)
        #expect(!undone.isConverged)
        #expect(host.kernel.links.isEmpty)
        #expect(undone.memory == host.memory)
        var isDecided = false
        for (planned, outcome) in zip(late.operations, undone.outcomes) {
            switch planned.operation {
            case .link(.setUp):
                if case .failed(let error) = outcome {
                    #expect(error.code == .portInUse)
                } else {
                    Issue.record("\(outcome)")
                }
                isDecided = true
            case .firewall: #expect(outcome == .done)
            case .link, .device, .address, .peer:
                #expect(outcome == .takenBack("the link could not be brought up"), "\(planned.operation)")
            case .route, .rule, .resolver, .sysctl:
                #expect(isDecided && outcome == .skipped("the link could not be brought up"), "\(planned.operation)")
            }
        }
    }

    /// Only a port that the plan has the device bind is looked at: not the one that it listens on.
    @Test func aPortThatTheDeviceHoldsIsNotInTheWay() throws {
        var desired = random(1)
        desired.state.device?.listenPort = 4000
        var host = Host()
        try host.apply(desired)
        host.kernel.busyPorts = [4000]
        #expect(try host.apply(desired).isConverged)
        desired.state.device?.listenPort = 4001
        host.kernel.busyPorts = [4001]
        #expect(try host.plan(desired).obstacles.map(\.relation) == [.holdsPort])
        host.kernel.links["wg0"]?.isUp = false
        desired.state.device?.listenPort = 4000
        host.kernel.busyPorts = [4000]
        #expect(try host.plan(desired).obstacles.map(\.relation) == [.holdsPort])
        #expect(try host.apply(nil).isConverged)
    }

    @Test func aForeignLinkBlocksEverything() throws {
        var host = Host()
        host.kernel.links["wg0"] = ModelKernel.ModelLink(alias: "somebody's")
        let plan = try host.plan(random(1))
        #expect(plan.isBlocked && plan.isEmpty && plan.isStuck)
        #expect(try !host.plan(nil).isStuck)
        #expect(try !host.apply(random(1)).isConverged)
        #expect(try host.apply(nil).outcomes.isEmpty)
        #expect(host.kernel.links["wg0"]?.alias == "somebody's")
    }

    /// Two meshes that were given one interface name: what goes by the name is the first one's, also when the second is
    /// taken down.
    @Test func takingAMeshDownLeavesAnotherOneOnTheSameInterfaceAlone() throws {
        var host = Host()
        try host.apply(random(1))
        let before = try contents(host.kernel)
        let mutations = host.kernel.mutations
        let other = MeshIdentity(mesh: "other", interface: mesh.interface)
        let plan = try host.plan(nil, other)
        #expect(plan.isHeld && plan.isEmpty && plan.takesDown && plan.isStuck)
        try host.apply(nil, other)
        #expect(host.kernel.mutations == mutations)
        #expect(try contents(host.kernel) == before)
    }

    /// What was done by hand to attributes that Weft never sets is taken back, with the routes that go meanwhile.
    @Test(arguments: [
        InterfaceAddress.Alteration.lifetime, .attributes(peer: nil), .attributes(peer: IPAddress(v4: 9)),
    ])
    func alteredAddressesAreTakenBack(alteration: InterfaceAddress.Alteration) throws {
        for seed in 1...20 {
            var host = Host()
            let desired = random(seed)
            try host.apply(desired)
            for index in host.kernel.links["wg0"]?.addresses.indices ?? 0..<0 {
                host.kernel.links["wg0"]?.addresses[index].address.alteration = alteration
            }
            let plan = try host.plan(desired)
            #expect(plan.operations.filter { $0.operation.kind == .address }.count == desired.state.addresses.count)
            #expect(plan.operations.allSatisfy { $0.operation.action != .remove })
            #expect(try host.apply(desired).isConverged, "seed \(seed)")
            #expect(try host.plan(desired).isEmpty)
        }
    }

    @Test func alteredRoutesAreTakenBack() throws {
        for seed in 1...20 {
            var host = Host()
            let desired = random(seed)
            try host.apply(desired)
            for index in host.kernel.routes.indices { host.kernel.routes[index].route.isAltered = true }
            let count = try host.plan(desired).operations.count { $0.operation.action == .change }
            #expect(count == desired.state.routes.count)
            #expect(try host.apply(desired).isConverged, "seed \(seed)")
            #expect(try host.plan(desired).isEmpty)
        }
    }

    /// A read-only /proc/sys: what cannot be done whole is not begun, and a mesh that is to go does so for the rest.
    @Test func aSettingThatCannotBeWrittenStopsAll() throws {
        let forwarding = "net/ipv4/ip_forward"
        var desired = random(1)
        desired.state.sysctls = [Sysctl(forwarding, "1"), Sysctl("net/ipv6/conf/all/forwarding", "1")]
        var host = Host()
        host.kernel.fixedSysctls = [forwarding]
        let plan = try host.plan(desired)
        #expect(plan.isBlocked && plan.isStuck)
        let obstacle = try #require(plan.obstacles.first)
        #expect(plan.obstacles.count == 1 && obstacle.kind == "sysctl")
        #expect(obstacle.description == "net.ipv4.ip_forward = 0 (1 is wanted, and /proc/sys is read-only here)")
        #expect(obstacle.remedy.contains("--sysctl net.ipv4.ip_forward=1"))
        #expect(try !host.apply(desired).isConverged)
        #expect(host.kernel.mutations == 0)

        // Somebody sets it: there is nothing in the way of writing nothing.
        host.kernel.sysctls[forwarding] = "1"
        #expect(try host.apply(desired).isConverged)

        // It cannot be given back either, and all else goes.
        host.kernel.sysctlMemory.originals[forwarding] = .init(value: "0", written: "1")
        let down = try host.apply(nil)
        #expect(down.plan.obstacles.map(\.relation) == [.fixesSysctl] && !down.isConverged)
        #expect(host.kernel.links.isEmpty && host.kernel.sysctls["net/ipv6/conf/all/forwarding"] == "0")
        host.kernel.fixedSysctls = []
        #expect(try host.apply(nil).isConverged)
        #expect(host.kernel.sysctls[forwarding] == "0")
    }

    /// A link that is not there has no settings to look at; it is made with the defaults, and those can be set.
    @Test func aSettingOfALinkToComeIsNamedByItsDefault() throws {
        var observed = Observation(time: UnixTime(seconds: 0))
        let wanted = Sysctl("net/ipv4/conf/wg0/rp_filter", "2")
        var desired = random(1)
        desired.state.sysctls = [wanted]
        func obstacles() -> [ForeignObject] {
            Plan(mesh: mesh, desired: desired, observed: observed, memory: MeshMemory()).obstacles
        }
        observed.fixedSysctls = [Sysctl(wanted.path, "1")]
        #expect(obstacles().first?.remedy.contains("--sysctl net.ipv4.conf.default.rp_filter=2") == true)
        observed.fixedSysctls = [wanted]
        #expect(obstacles() == [])
        desired.state.sysctls = [Sysctl("net/ipv6/conf/eth0.5/accept_ra", "2")]
        observed.state.sysctls = [Sysctl("net/ipv6/conf/eth0.5/accept_ra", "1")]
        observed.fixedSysctls = observed.state.sysctls
        #expect(obstacles().first?.remedy.contains("--sysctl net.ipv6.conf.eth0/5.accept_ra=2") == true)
    }

    @Test func aForeignRouteStaysAndIsNamed() throws {
        let desired = random(3)
        let taken = try #require(desired.state.routes.first { $0.target == .interface })
        var foreign = taken
        foreign.source = nil
        var host = Host()
        host.kernel.routes = [ModelKernel.ModelRoute(route: foreign, interface: "eth0", isOurs: false)]
        let report = try host.apply(desired)
        #expect(report.outcomes.allSatisfy { !$0.isFailure })
        #expect(!report.isConverged)
        #expect(report.remaining?.obstacles.map(\.relation) == [.blocksRoute(taken.key)])
        #expect(host.kernel.routes.filter { $0.interface == "eth0" }.map(\.route) == [foreign])
        try host.apply(nil)
        #expect(host.kernel.routes.map(\.route) == [foreign])
    }

    @Test func aHalfMadeLinkIsRemoved() throws {
        var host = Host()
        host.kernel.links[mesh.reservedName] = ModelKernel.ModelLink(alias: "")
        #expect(try host.apply(random(1)).isConverged)
        #expect(host.kernel.links.keys.sorted() == ["wg0"])
    }

    /// Wherever a run is interrupted, what was done is told from what was not, and the next one goes on.
    @Test func anInterruptedRunIsGoneOnWith() throws {
        for limit in 0... {
            var batches = limit
            var host = Host()
            let (plan, observation) = try host.reconciler.plan(mesh, desired: random(3), memory: host.memory)
            var done = 0
            let report = host.reconciler.apply(
                plan, desired: random(3), memory: host.memory, observation: observation,
                progress: { step, decided in done += step.outcomes[decided].filter { !$0.isFailure }.count },
                isInterrupted: {
                    batches -= 1
                    return batches < 0
                })
            host.memory = report.memory
            #expect(report.outcomes.count == plan.operations.count)
            #expect(report.outcomes.dropFirst(done).allSatisfy { $0 == .skipped("the run was interrupted") })
            #expect(try host.apply(random(3)).isConverged)
            if report.isConverged {
                #expect(limit > 3)
                break
            }
        }
    }

    /// The sessions of a device that is known by its program live on when its alias is changed.
    @Test(arguments: ["", "uplink"]) func anotherAliasIsPutRight(_ alias: String) throws {
        var host = Host()
        #expect(try host.apply(random(1)).isConverged)
        host.kernel.programs = ["wg0"]
        host.kernel.links["wg0"]?.alias = alias
        let plan = try host.plan(random(1))
        #expect(
            plan.operations.map(\.operation) == [
                .link(.setAlias(interface: "wg0", from: alias, to: mesh.alias))
            ])
        #expect(plan.operations.first?.effect == PlannedOperation(.link(.setUp(interface: "wg0"))).effect)
        #expect(try host.apply(random(1)).isConverged)
        #expect(host.kernel.links["wg0"]?.alias == mesh.alias)
    }

    @Test func twoMeshesDoNotTouchEachOther() throws {
        let other = MeshIdentity(mesh: "lab", interface: "wg1")
        var generator = SeededGenerator(seed: 5)
        var second = randomDesiredState(&generator, mesh: other)
        second.state.routes = second.state.routes.filter { $0.target == .unreachable }
        second.state.sysctls = [Sysctl("net/ipv4/ip_forward", "1")]
        var first = random(4)
        first.state.sysctls = [Sysctl("net/ipv4/ip_forward", "1")]
        for downFirst in [mesh, other] {
            var host = Host()
            #expect(try host.apply(first).isConverged)
            #expect(try host.apply(second, other).isConverged)
            #expect(try host.plan(first).isEmpty && host.plan(second, other).isEmpty)
            try host.apply(nil, downFirst)
            #expect(host.kernel.sysctls["net/ipv4/ip_forward"] == "1", "the other mesh still claims it")
            let rest = downFirst == mesh ? other : mesh
            #expect(try host.plan(rest == mesh ? first : second, rest).isEmpty)
            try host.apply(nil, rest)
            #expect(host.kernel.sysctls["net/ipv4/ip_forward"] == "0")
            #expect(host.kernel.links.isEmpty && host.kernel.routes.isEmpty)
        }
    }

    /// The kernel changes others along with a switch of forwarding. They are given back with it, as they were or as somebody
    /// has set them since.
    @Test(arguments: ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"])
    func whatGoesWithForwardingIsGivenBack(path: String) throws {
        let isFour = path == "net/ipv4/ip_forward"
        let folder = isFour ? "net/ipv4/conf" : "net/ipv6/conf"
        let redirects = "\(folder)/all/accept_redirects"
        func forwarding(_ interface: String) -> String { "\(folder)/\(interface)/forwarding" }
        let before = [
            path: "0", redirects: "0", forwarding("default"): "0", forwarding("eth0"): "0", forwarding("br0"): "1",
            forwarding("usb0"): "1",
        ]
        func up() throws -> Host {
            var desired = random(4)
            desired.state.sysctls = [Sysctl(path, "1")]
            var host = Host()
            host.kernel.sysctls = before
            #expect(try host.apply(desired).isConverged)
            #expect(host.kernel.sysctls[path] == "1" && host.kernel.sysctls[forwarding("eth0")] == "1")
            return host
        }
        func down(_ host: Host) throws -> [String: String] {
            var host = host
            #expect(try host.apply(nil).isConverged)
            #expect(host.kernel.sysctlMemory.originals.isEmpty)
            return host.kernel.sysctls
        }
        #expect(try down(up()) == before)
        // The switch is as before already: weft was killed there, or somebody turned it off.
        var host = try up()
        host.kernel.write(Sysctl(path, "0"))
        #expect(host.kernel.sysctls[forwarding("br0")] == "0")
        #expect(try down(host) == before)
        host.kernel.write(Sysctl(forwarding("br0"), "1"))
        #expect(try down(host) == before)
        // What somebody has set since, and an interface that has gone.
        host = try up()
        host.kernel.write(Sysctl(forwarding("br0"), "0"))
        if isFour { host.kernel.write(Sysctl(redirects, "1")) }
        host.kernel.sysctls[forwarding("usb0")] = nil
        var theirs = before
        theirs[forwarding("br0")] = "0"
        if isFour { theirs[redirects] = "1" }
        theirs[forwarding("usb0")] = nil
        #expect(try down(host) == theirs)
        // Somebody has need of another value of the switch: then all that goes with it is theirs.
        host = try up()
        host.kernel.write(Sysctl(path, "2"))
        let needed = host.kernel.sysctls.filter { !$0.key.contains("/wg0/") }
        #expect(try down(host) == needed)
    }

    /// A setting of the mesh's own link is written once that is there, put right again, and forgotten with it.
    @Test func aSettingOfTheOwnLinkGoesWithIt() throws {
        var desired = random(3)
        let path = "net/ipv4/conf/wg0/rp_filter"
        desired.state.sysctls = [Sysctl(path, "2"), Sysctl("net/ipv4/conf/wg0/no_such_setting", "1")]
        var host = Host()
        let first = try host.plan(desired).operations.map(\.operation)
        let up = try #require(first.firstIndex(of: .link(.setUp(interface: "wg0"))))
        let set = try #require(first.firstIndex(of: .sysctl(.setOwn(Sysctl(path, "2"), from: nil))))
        #expect(up < set)
        desired.state.sysctls.removeLast()
        #expect(try host.apply(desired).isConverged)
        #expect(host.kernel.sysctls[path] == "2")
        #expect(host.kernel.sysctlMemory == SysctlMemory())
        #expect(try host.plan(desired).isEmpty)
        host.kernel.sysctls[path] = "0"
        #expect(try host.plan(desired).operations.map(\.operation) == [.sysctl(.setOwn(Sysctl(path, "2"), from: "0"))])
        #expect(try host.apply(nil).isConverged)
        #expect(host.kernel.sysctls[path] == nil)
    }

    @Test func aLinkTakenDownByHandIsRaisedWithItsRoutes() throws {
        let desired = random(3)
        var host = Host()
        try host.apply(desired)
        host.kernel.links["wg0"]?.isUp = false
        host.kernel.routes.removeAll { $0.interface == "wg0" && $0.route.prefix.family == .v4 }
        #expect(try host.apply(desired).isConverged)
        #expect(host.kernel.links["wg0"]?.isUp == true)
    }
}
