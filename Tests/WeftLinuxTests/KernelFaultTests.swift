// The reconciler on a running kernel while its netlink exchanges go wrong: it converges or says that it did not, loses
// nothing meanwhile, and the next pass puts right what is left.

import Glibc
import Netlink
import Testing
import WeftFaults
import WeftKeys
import WeftModel
import WeftPlan
import WeftReconcile

@testable import WeftLinux

/// A user-space device without a program: a tun device, and a device that remembers what it is told.
private final class ObedientTunnels: UserspaceDevices {
    private let tunnels = TestTunnels()
    private let device = ObedientDevice()

    func start(interface: String) throws(DataplaneError) {
        device.reading = ObedientDevice.fresh
        try tunnels.start(interface: interface)
    }

    func requireProgram() throws(DataplaneError) {}
    func isOurs(interface: String) -> Bool { tunnels.isOurs(interface: interface) }
    func control(interface: String) -> any WireGuardControl { device }

    /// A program's interface goes with the program.
    func stop(interface: String) throws(DataplaneError) {
        shell("ip link delete \(interface) 2>/dev/null")
        try tunnels.stop(interface: interface)
    }
}

private final class ObedientDevice: WireGuardControl {
    static let fresh = DeviceReading(device: Device(privateKey: nil, publicKey: nil, listenPort: nil))
    var reading = ObedientDevice.fresh

    func read() throws(DataplaneError) -> DeviceReading { reading }

    func perform(_ operation: DeviceOperation) -> Outcome {
        reading.device.privateKey = operation.privateKey ?? reading.device.privateKey
        reading.device.listenPort = operation.listenPort ?? reading.device.listenPort
        reading.device.fwMark = operation.fwMark ?? reading.device.fwMark
        return .done
    }

    func perform(_ operations: [PeerOperation]) -> [Outcome] {
        operations.map { operation in
            switch operation {
            case .add(let peer):
                take(Array(peer.allowedIPs))
                // One that is there already is merged with what is said of it, as the kernel does.
                var added = peer
                if let index = reading.peers.firstIndex(where: { $0.publicKey == peer.publicKey }) {
                    let old = reading.peers.remove(at: index)
                    added.allowedIPs = PrefixList((Array(old.allowedIPs) + Array(peer.allowedIPs)).sorted())
                    if peer.presharedKey == .none { added.presharedKey = old.presharedKey }
                    if peer.persistentKeepalive == 0 { added.persistentKeepalive = old.persistentKeepalive }
                    added.endpoint = peer.endpoint ?? old.endpoint
                }
                reading.peers.append(added)
            case .change(let change):
                take(change.added + change.removed)
                guard let index = reading.peers.firstIndex(where: { $0.publicKey == change.publicKey }) else { break }
                var peer = reading.peers[index]
                peer.presharedKey = change.presharedKey ?? peer.presharedKey
                peer.persistentKeepalive = change.persistentKeepalive ?? peer.persistentKeepalive
                peer.endpoint = change.endpoint ?? peer.endpoint
                peer.allowedIPs = PrefixList((Array(peer.allowedIPs) + change.added).sorted())
                reading.peers[index] = peer
            case .remove(let peer):
                reading.peers.removeAll { $0.publicKey == peer.publicKey }
            }
            reading.statistics = reading.peers.map { _ in PeerStatistics() }
            return .done
        }
    }

    func removeAllPeers() throws(DataplaneError) {
        reading.peers = []
        reading.statistics = []
    }

    /// As the kernel does: a prefix has one owner.
    private func take(_ prefixes: [IPPrefix]) {
        for index in reading.peers.indices {
            reading.peers[index].allowedIPs = PrefixList(
                reading.peers[index].allowedIPs.filter { !prefixes.contains($0) })
        }
    }
}

/// A host in the calling thread's namespace, whose exchanges with the kernel follow a script.
private struct Host {
    let script = FaultScript()
    let mesh = MeshIdentity(mesh: "corp", interface: "wg0")
    private let arena = SecretArena(capacity: 64)
    private let ledger = TestLedger()
    private let tunnels = ObedientTunnels()
    var memory = MeshMemory()

    /// As a new process has it: its own sockets, and nothing known.
    func reconciler() throws(DataplaneError) -> Reconciler<KernelDataplane> {
        let (arena, script) = (arena, script)
        let parts = KernelDataplane.Parts(userspace: tunnels, sysctls: ledger, secrets: { arena })
        return Reconciler(
            try KernelDataplane(parts) { (bus) throws(Errno) in FaultyTransport(try Socket(bus), script) })
    }

    mutating func pass(
        _ desired: DesiredState?, _ reconciler: inout Reconciler<KernelDataplane>
    ) throws(DataplaneError) -> PassReport {
        let (plan, observation) = try reconciler.plan(mesh, desired: desired, memory: memory)
        let report = reconciler.apply(plan, desired: desired, memory: memory, observation: observation)
        memory = report.memory
        return report
    }

    /// A secret of 32 equal bytes. 0x48 is a private key that needs no clamping.
    private func secret(_ byte: UInt8) -> SecretTag {
        let bytes = [UInt8](repeating: byte, count: 32)
        return arena.insert(bytes.span)
    }

    private func desired(
        _ own: [String], _ device: Device, mtu: UInt32, _ peers: [Peer], sysctls: [Sysctl], tunnelTable: UInt32
    ) -> DesiredState {
        let addresses = own.map { address($0) }
        var routes = peers.flatMap { peer in
            peer.allowedIPs.map { prefix in
                Route(
                    prefix, table: Route.mainTable, metric: Route.defaultMetric(prefix.family), target: .interface,
                    source: addresses.first { $0.address.family == prefix.family }?.address)
            }
        }
        for range in ["10.80.0.0/16", "fd80::/48"] {
            routes.append(
                Route(
                    prefix(range), table: Route.mainTable, metric: mesh.unreachableMetric, target: .unreachable,
                    source: nil))
        }
        // A tunnel for all of IPv4, and none for IPv6.
        routes.append(
            Route(prefix("0.0.0.0/0"), table: tunnelTable, metric: 0, target: .interface, source: nil))
        routes.append(
            Route(
                prefix("::/0"), table: tunnelTable, metric: mesh.unreachableMetric, target: .unreachable, source: nil))
        let priority = mesh.routingNumbers.priority
        let rules = [IPAddress.Family.v4, .v6].flatMap { family in
            [
                PolicyRule(family, priority: priority, .lookupMainWithoutDefault),
                PolicyRule(
                    family, priority: priority + 1,
                    .lookupUnlessMarked(mark: 0x77 + device.fwMark, table: tunnelTable)),
            ]
        }
        var desired = DesiredState(
            mesh: mesh.mesh, interface: mesh.interface, node: "here",
            state: HostState(
                link: Link(name: mesh.interface, mtu: mtu, alias: mesh.alias), device: device,
                addresses: addresses.sorted { $0.key < $1.key }, peers: peers,
                routes: routes.sorted { $0.key < $1.key }, rules: rules, sysctls: sysctls))
        desired.flows = [.deliver]
        return desired
    }

    private func peer(
        _ number: Int, _ allowedIPs: [String], keepalive: UInt16 = 0, secret: SecretTag? = nil, port: UInt16? = nil
    ) -> Peer {
        Peer(
            publicKey: key(number), presharedKey: secret.map { .tag($0) } ?? .none, persistentKeepalive: keepalive,
            allowedIPs: PrefixList(allowedIPs.map { prefix($0) }.sorted()),
            endpoint: port.map { SocketAddress(IPAddress(v4: 0xC000_0200 + UInt32(number)), port: $0) })
    }

    var first: DesiredState {
        desired(
            ["10.80.0.1", "fd80::1"], Device(privateKey: secret(0x48), publicKey: nil, listenPort: 51_820), mtu: 1420,
            [
                peer(1, ["10.80.0.2/32", "fd80::2/128"], port: 1000),
                peer(2, ["10.80.0.3/32", "10.20.0.0/24", "10.21.0.0/24", "fd20::/64"], secret: secret(7), port: 1000),
                peer(3, ["10.80.0.4/32", "10.22.0.0/24"], keepalive: 25),
                peer(4, ["10.80.0.5/32", "10.23.0.0/24"], secret: secret(8)),
            ], sysctls: [], tunnelTable: 7777)
    }

    /// Prefixes move from a peer that changes and from one that goes; another address gives every route another source.
    var second: DesiredState {
        desired(
            ["10.80.7.1", "fd80::1"],
            Device(privateKey: secret(0x48), publicKey: nil, listenPort: 51_999, fwMark: 0x77), mtu: 1390,
            [
                peer(1, ["10.80.0.2/32", "fd80::2/128"], port: 1000),
                peer(2, ["10.80.0.3/32", "10.21.0.0/24"], port: 2000),
                peer(3, ["10.80.0.4/32", "10.20.0.0/24", "fd20::/64"], secret: secret(7)),
                peer(5, ["10.80.0.6/32", "10.23.0.0/24", "10.24.0.0/24"], port: 1000),
            ], sysctls: [Sysctl("net/ipv4/ip_forward", "1")], tunnelTable: 8888)
    }
}

/// A fault, and for how long.
struct FaultCase: Hashable, Sendable, CustomTestStringConvertible {
    var fault: Fault
    var extent: FaultScript.Extent

    var testDescription: String { "\(fault), \(extent)" }

    static let isNightly = getenv("WEFT_NIGHTLY") != nil
    /// Which exchanges it strikes: this one, and every so many after it: they are shared out among the faults, because
    /// each costs three passes. All of them in a nightly run.
    var first = 0
    static let stride = getenv("WEFT_FAULT_STRIDE").flatMap { Int(String(cString: $0)) } ?? (isNightly ? 1 : 3)

    /// A nightly run has every one of them; else one of each sort.
    static let all: [FaultCase] = {
        var refusals = [EPERM, EINTR, ENOMEM, EEXIST, ENODEV]
        var faults: [Fault] = [
            .refuseAll(ENOMEM), .send(ENOBUFS), .signals(20), .lose, .delay, .cut, .overlong, .duplicate, .interrupt,
        ]
        var lasting: [Fault] = [.refuse(EPERM), .send(ENOBUFS), .lose, .interrupt]
        if isNightly {
            refusals += [
                ENOENT, ESRCH, EAGAIN, EBUSY, EINVAL, ENOSPC, EOPNOTSUPP, EADDRINUSE, EADDRNOTAVAIL, ENETDOWN, ENOBUFS,
            ]
            faults += [.refuseAll(EPERM), .refuseAll(EEXIST), .send(ENOMEM), .send(EPERM), .send(EAGAIN), .signals(1)]
            lasting += [.refuse(EINTR), .refuseAll(ENOMEM), .signals(2), .delay, .cut, .duplicate]
        }
        let cases =
            (refusals.map { Fault.refuse($0) } + faults).map { FaultCase(fault: $0, extent: .once) }
            + lasting.map { FaultCase(fault: $0, extent: .forEver) }
        return cases.enumerated().map { index, one in
            var one = one
            one.first = index % stride
            return one
        }
    }()
}

@Suite(.serialized, .enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct KernelFaultTests {
    /// Strikes each exchange of a pass in turn; before each, `base` is made anew.
    private func strikeEach(
        _ host: inout Host, _ fault: FaultCase, from base: DesiredState?, to goal: DesiredState?
    ) throws {
        let kept = prefixes(base).intersection(prefixes(goal))
        var number = fault.first
        while number < 200 {
            var clean = try host.reconciler()
            let made = try host.pass(base, &clean)
            #expect(made.isConverged == true, "without a fault: \(made.summary)")

            var struck = try host.reconciler()
            host.script.arm(fault.fault, at: number, fault.extent)
            var report: PassReport?
            do throws(DataplaneError) {
                report = try host.pass(goal, &struck)
            } catch {
                #expect(!error.message.isEmpty)
            }
            let count = host.script.struck
            host.script.disarm()
            if count == 0 { break }

            let label: Comment = "exchange \(number)"
            let between = try host.reconciler().dataplaneState(host.mesh)
            if between.link != nil {
                let held = Set(between.peers.flatMap { Array($0.allowedIPs) })
                #expect(kept.subtracting(held).isEmpty, label)
            }
            if report?.isConverged == true {
                var other = try host.reconciler()
                #expect(try other.plan(host.mesh, desired: goal, memory: host.memory).plan.isEmpty, label)
            }
            // The next pass, over the same sockets, in which late answers may still stand.
            let next = try host.pass(goal, &struck)
            let story = "exchange \(number): \(report?.summary ?? "no plan"); then \(next.summary)"
            #expect(next.isConverged == true, Comment(rawValue: story))
            var last = try host.reconciler()
            #expect(try last.plan(host.mesh, desired: goal, memory: host.memory).plan.isEmpty, label)
            number += FaultCase.stride
        }
        #expect(number > 2 && number < 200, "something was struck, and there was an end")
    }

    private func prefixes(_ desired: DesiredState?) -> Set<IPPrefix> {
        Set((desired?.state.peers ?? []).flatMap { Array($0.allowedIPs) })
    }

    @Test(arguments: FaultCase.all)
    func convergesOrSaysThatItDidNot(_ fault: FaultCase) throws {
        try TestNamespace.run { () throws in
            shell(
                """
                echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad; \
                ip link add f0 type bridge; ip link set f0 up; ip address add 192.168.7.1/24 dev f0; \
                ip route add 10.44.0.0/16 dev f0 proto 119 metric 5; ip -6 route add fd44::/64 dev f0; \
                ip route add blackhole 10.45.0.0/16 table 700; ip rule add from 192.168.7.0/24 table 700 priority 900
                """)
            shell("nft 'table ip n { chain input { type filter hook input priority 0; policy drop; }; }' 2>/dev/null")
            let snapshot =
                "ip -o link; ip -o address; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all"
            var host = Host()
            // Once before the picture is taken: what a family's first use leaves behind is not ours.
            var reconciler = try host.reconciler()
            _ = try host.pass(host.first, &reconciler)
            _ = try host.pass(nil, &reconciler)
            let before = output(snapshot)
            try strikeEach(&host, fault, from: nil, to: host.first)
            try strikeEach(&host, fault, from: host.first, to: host.second)
            try strikeEach(&host, fault, from: host.second, to: nil)
            reconciler = try host.reconciler()
            #expect(try host.pass(nil, &reconciler).isConverged)
            let after = output(snapshot)
            #expect(after == before)
        }
    }
}

extension PassReport {
    /// What a person needs to know of a pass that went wrong.
    fileprivate var summary: String {
        let failures = zip(plan.operations, outcomes).filter { $0.1.isFailure }.map { "\($0.0.operation): \($0.1)" }
        let left = remaining.map { $0.operations.map { "\($0.operation)" } + $0.obstacles.map(\.description) }
        return "failed \(failures), left \(left ?? ["unknown"]) \(verificationError?.description ?? "")"
    }
}

extension Reconciler<KernelDataplane> {
    /// What is there of a mesh.
    fileprivate func dataplaneState(_ mesh: MeshIdentity) throws(DataplaneError) -> HostState {
        var plane = dataplane
        return try plane.observe(mesh, Interests(sysctls: [])).state
    }
}
