// The order of a plan's operations: what comes before what, so that nothing is cut off on the way.

import Testing
import WeftModel
import WeftPlan
import WeftReconcile
import WeftTestSupport

@Suite struct OrderTests {
    private func peer(_ number: UInt64, _ prefixes: [String], keepalive: UInt16 = 0) throws -> Peer {
        let list = PrefixList(try prefixes.map { try #require(IPPrefix($0)) })
        return Peer(publicKey: key(number), persistentKeepalive: keepalive, allowedIPs: list)
    }

    private func plan(from live: [Peer], to desired: [Peer]) -> Plan {
        let link = Link(name: "wg0", mtu: 1420, alias: "weft:corp")
        var observed = Observation(time: UnixTime(seconds: 0))
        observed.state = HostState(link: link, peers: live)
        observed.statistics = live.map { _ in PeerStatistics() }
        let wanted = DesiredState(
            mesh: "corp", interface: "wg0", node: "here", state: HostState(link: link, peers: desired))
        return Plan(mesh: mesh, desired: wanted, observed: observed, memory: MeshMemory())
    }

    @Test func aPrefixMovesByTheTakersAddition() throws {
        let before = [try peer(1, ["10.1.0.0/16", "10.2.0.0/16"]), try peer(2, ["10.3.0.0/16"])]
        let after = [try peer(1, ["10.2.0.0/16"]), try peer(2, ["10.1.0.0/16", "10.3.0.0/16"])]
        let operations = plan(from: before, to: after).operations
        #expect(operations.count == 2)
        guard case .peer(.change(let first)) = operations[0].operation,
            case .peer(.change(let second)) = operations[1].operation
        else {
            Issue.record("two changes were expected: \(operations)")
            return
        }
        #expect(first.removed.isEmpty && first.added.isEmpty)
        #expect(first.moved.map(\.to) == [key(2)])
        #expect(second.added.map(\.description) == ["10.1.0.0/16"])
        #expect(operations.allSatisfy { $0.effect == .hitless })
    }

    @Test func aPrefixThatGrowsCutsNothingOff() throws {
        let before = [try peer(1, ["10.1.0.0/24"]), try peer(2, ["10.2.0.0/16"])]
        let grown = [try peer(1, ["10.1.0.0/22"]), try peer(2, ["10.2.0.0/16"])]
        #expect(plan(from: before, to: grown).operations.map(\.effect) == [.hitless])
        // Around it, but another peer's prefix is nearer.
        let stolen = [try peer(1, ["10.0.0.0/8"]), try peer(2, ["10.1.0.0/16", "10.2.0.0/16"])]
        let operations = plan(from: before, to: stolen).operations
        #expect(operations.map(\.effect) == [.hitless, .hitless])
        #expect(operations.first?.effectScope == "if the new peer of 10.1.0.0/24 already serves it")
        // The exit has no way to what it has not.
        let exit = [try peer(1, ["10.3.0.0/24"]), try peer(2, ["0.0.0.0/0", "10.2.0.0/16"])]
        #expect(plan(from: before, to: exit).operations.map(\.effect).sorted() == [.hitless, .outage])
    }

    @Test func aRouteThatGoesWhileItsPeerStaysIsAnOutage() throws {
        let link = Link(name: "wg0", mtu: 1420, alias: "weft:corp")
        let peers = [try peer(1, ["10.1.0.0/16", "10.2.0.0/24"])]
        func route(_ text: String) throws -> Route {
            let prefix = try #require(IPPrefix(text))
            return Route(prefix, table: Route.mainTable, metric: 0, target: .interface, source: nil)
        }
        let routes = [try route("10.1.0.0/16"), try route("10.2.0.0/24")]
        var observed = Observation(time: UnixTime(seconds: 0))
        observed.state = HostState(link: link, peers: peers, routes: routes)
        observed.statistics = peers.map { _ in PeerStatistics() }
        func effects(_ kept: [Route]) -> [SessionEffect] {
            let wanted = DesiredState(
                mesh: "corp", interface: "wg0", node: "here",
                state: HostState(link: link, peers: peers, routes: kept))
            return Plan(mesh: mesh, desired: wanted, observed: observed, memory: MeshMemory()).operations.map(\.effect)
        }
        #expect(effects([]) == [.outage, .outage])
        // A larger route takes the packets over before the smaller one goes.
        let around = try route("10.0.0.0/8")
        #expect(effects([around]) == [.hitless, .hitless, .hitless])
    }

    @Test func removalsComeLast() throws {
        let before = [try peer(1, ["10.1.0.0/16"]), try peer(2, [])]
        let after = [try peer(2, [], keepalive: 25), try peer(3, ["10.1.0.0/16"])]
        let operations = plan(from: before, to: after).operations.map(\.operation)
        #expect(operations.map(\.action) == [.add, .change, .remove])
    }

    @Test func aFailedAdditionKeepsThePeersThatWereToGo() throws {
        var host = Host()
        let link = Link(name: "wg0", mtu: 1420, alias: "weft:corp")
        let device = Device(privateKey: SecretTag(1, 1), publicKey: key(9), listenPort: nil)
        func desired(_ peers: [Peer]) -> DesiredState {
            DesiredState(
                mesh: "corp", interface: "wg0", node: "here",
                state: HostState(link: link, device: device, peers: peers))
        }
        // More than a batch of additions, so that the removal comes in a later one.
        let old = try peer(1, ["10.1.0.0/16"])
        try host.apply(desired([old]))
        let many = (0..<UInt64(Application.batch)).map { Peer(publicKey: PublicKey(bigEndianWords: $0, 1, 1, 1)) }
        let taker = try peer(900, ["10.1.0.0/16"])
        host.kernel.fault = { _, operation in
            if case .peer(.add(let peer)) = operation, peer.publicKey == taker.publicKey {
                return DataplaneError(.noMemory, "injected")
            }
            return nil
        }
        let report = try host.apply(desired([taker] + many))
        #expect(report.outcomes.last?.isFailure == true)
        #expect(host.kernel.links["wg0"]?.peers.contains { $0.publicKey == old.publicKey } == true)
        host.kernel.fault = { _, _ in nil }
        #expect(try host.apply(desired([taker] + many)).isConverged)
        #expect(host.kernel.links["wg0"]?.peers.contains { $0.publicKey == old.publicKey } == false)
    }
}

@Suite struct ForeignObjectTests {
    /// A route of others on the mesh's own interface is seen there, and again where a route of the mesh is to stand.
    @Test func whatStandsInTheWayIsListedOnce() {
        let alone = ForeignObject(kind: "route", description: "10.1.0.0/24 dev wg0 proto static")
        let rest = ForeignObject(kind: "route", description: "10.9.0.0/24 dev wg0 proto static")
        var obstacle = alone
        obstacle.relation = .takesNumber
        let observed = Observation(foreign: [alone, rest], time: UnixTime(seconds: 0))
        let wanted = DesiredState(
            mesh: "corp", interface: "wg0", node: "here",
            state: HostState(link: Link(name: "wg0", mtu: 1420, alias: "weft:corp")))
        let plan = Plan(mesh: mesh, desired: wanted, observed: observed, memory: MeshMemory(), obstacles: [obstacle])
        #expect(plan.foreign == [rest, obstacle])
    }
}

@Suite struct GoneWithTheLinkTests {
    /// What others put on the interface is left alone for as long as the interface stays.
    @Test func whatIsOnTheLinkGoesWithIt() {
        let guest = ForeignObject(kind: "address", description: "10.7.7.7/24 dev wg0", relation: .onLink)
        let bystander = ForeignObject(kind: "rule", description: "900: from all lookup 7 proto static (IPv4)")
        let link = Link(name: "wg0", mtu: 1420, alias: "weft:corp")
        var observed = Observation(foreign: [guest, bystander], time: UnixTime(seconds: 0))
        observed.state.link = link
        func plan(_ state: HostState?) -> Plan {
            let wanted = state.map { DesiredState(mesh: "corp", interface: "wg0", node: "here", state: $0) }
            return Plan(mesh: mesh, desired: wanted, observed: observed, memory: MeshMemory())
        }
        let kept = plan(HostState(link: link))
        #expect(kept.leftAlone == [guest, bystander] && kept.goesWithLink == [] && kept.obstacles == [])
        // `weft down`, and a node that is disabled.
        for gone in [plan(nil), plan(HostState())] {
            #expect(gone.goesWithLink == [guest] && gone.leftAlone == [bystander] && gone.obstacles == [])
        }
    }
}

@Suite struct PortTests {
    private func port(
        wanted: UInt16?, live: UInt16?, isUp: Bool, kind: DeviceKind = .kernel, halfMade: String? = nil
    ) -> UInt16? {
        var observed = Observation(time: UnixTime(seconds: 0))
        observed.halfMadeLink = halfMade
        if live != nil {
            observed.state.link = Link(name: "wg0", mtu: 1420, isUp: isUp, alias: mesh.alias)
            observed.state.device = Device(privateKey: nil, publicKey: nil, listenPort: live)
            observed.deviceKind = kind
        }
        let state = HostState(
            link: Link(name: "wg0", mtu: 1420, alias: mesh.alias),
            device: Device(privateKey: nil, publicKey: nil, listenPort: wanted))
        let desired = DesiredState(mesh: "corp", interface: "wg0", node: "here", state: state)
        return Plan(mesh: mesh, desired: desired, observed: observed, memory: MeshMemory()).portToBind(on: observed)
    }

    @Test func knowsWhichPortIsToBeBound() {
        #expect(port(wanted: 7, live: nil, isUp: false) == 7)
        #expect(port(wanted: nil, live: nil, isUp: false) == nil)
        #expect(port(wanted: 7, live: 7, isUp: true) == nil)
        #expect(port(wanted: 8, live: 7, isUp: true) == 8)
        // The kernel lets go of a port with the link; a program may keep it.
        #expect(port(wanted: 7, live: 7, isUp: false) == 7)
        #expect(port(wanted: nil, live: 7, isUp: false) == 7)
        #expect(port(wanted: 7, live: 7, isUp: false, kind: .userspace) == nil)
        #expect(port(wanted: 8, live: 7, isUp: false, kind: .userspace) == 8)
        // What is removed first may have it.
        #expect(port(wanted: 7, live: nil, isUp: false, halfMade: "wg0") == nil)
    }

    /// A packet of the tunnel's own that goes through the tunnel comes out at the exit, which then looks for this host behind
    /// its own tunnel: it must not happen even once. Also from wherever a run was interrupted.
    @Test func theTunnelsOwnPacketsNeverGoThroughIt() throws {
        struct Routing {
            var mark: UInt32 = 0
            var rules: [PolicyRule] = []

            var state: HostState {
                HostState(
                    link: Link(name: "wg0", mtu: 1420, alias: "weft:corp"),
                    device: Device(privateKey: nil, publicKey: nil, listenPort: nil, fwMark: mark), rules: rules)
            }

            /// Whether every packet of the tunnel's is looked up in the main table, by the rules in their order.
            var isSound: Bool {
                IPAddress.Family.allCases.allSatisfy { family in
                    for rule in rules.sorted(by: { $0.key < $1.key }) where rule.key.family == family {
                        switch rule.key.action {
                        case .lookupMainIfMarked(mark): return true
                        case .lookupUnlessMarked(let own, _):
                            if (own ^ mark) & MeshIdentity.mask(of: own) != 0 { return false }
                        default: break
                        }
                    }
                    return true
                }
            }

            mutating func take(_ operation: WeftPlan.Operation) {
                switch operation {
                case .device(let change): mark = change.fwMark ?? mark
                case .rule(.add(let rule)): rules.append(rule)
                case .rule(.remove(let rule)): rules.removeAll { $0 == rule }
                default: break
                }
            }
        }
        let numbers = mesh.routingNumbers
        func routing(_ mark: UInt32, _ families: [IPAddress.Family] = IPAddress.Family.allCases) -> Routing {
            if mark == 0 { return Routing() }
            let rules = families.flatMap { family in
                [
                    PolicyRule(family, priority: numbers.priority, .lookupMainWithoutDefault),
                    PolicyRule(
                        family, priority: numbers.priority + 1, .lookupUnlessMarked(mark: mark, table: numbers.table)),
                ]
            }
            return Routing(mark: mark, rules: rules)
        }
        func operations(from live: Routing, to wanted: Routing) -> [WeftPlan.Operation] {
            var observed = Observation(time: UnixTime(seconds: 0))
            observed.state = live.state
            let desired = DesiredState(mesh: "corp", interface: "wg0", node: "here", state: wanted.state)
            return Plan(mesh: mesh, desired: desired, observed: observed, memory: MeshMemory()).operations.map(
                \.operation)
        }
        let all = [
            routing(0), routing(numbers.mark), routing(0x4242), routing(0x4243), routing(0x7700_0001),
            routing(0x4242, [.v4]),
        ]
        for from in all {
            for wanted in all {
                let whole = operations(from: from, to: wanted)
                var live = from
                for length in 0...whole.count {
                    if length > 0 { live.take(whole[length - 1]) }
                    #expect(live.isSound, "\(from.mark) → \(wanted.mark), after \(length) of \(whole)")
                    var resumed = live
                    for operation in operations(from: live, to: wanted) {
                        resumed.take(operation)
                        #expect(resumed.isSound, "\(from.mark) → \(wanted.mark), resumed after \(length)")
                    }
                    #expect(resumed.mark == wanted.mark && Set(resumed.rules) == Set(wanted.rules))
                }
            }
        }
    }
}
