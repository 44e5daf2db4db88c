// The kernel's WireGuard, read and written; `wg` is the oracle. Runs in the virtual machine, and wherever the module is.

import CLinux
import Glibc
import Netlink
import Testing
import WeftKeys
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite(
    .enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle),
    .enabled(if: TestNamespace.hasKernelWireGuard, "WireGuard in the kernel"))
struct KernelWireGuardTests {
    private func onDevice(_ body: (inout KernelDataplane, KernelFixture) throws -> Void) throws {
        try TestNamespace.run { () throws in
            let fixture = try KernelFixture()
            var plane = fixture.plane
            #expect(plane.perform([.link(.create(KernelFixture.link))], for: fixture.mesh) == [.done])
            #expect(plane.perform([.link(.setUp(interface: "wg0"))], for: fixture.mesh) == [.done])
            try body(&plane, fixture)
        }
    }

    private func perform(
        _ operations: [PeerOperation], _ plane: inout KernelDataplane, _ fixture: KernelFixture
    ) -> [Outcome] {
        plane.perform(operations.map { .peer($0) }, for: fixture.mesh)
    }

    private func peers(_ plane: inout KernelDataplane, _ fixture: KernelFixture) throws -> [Peer] {
        try plane.observe(fixture.mesh, Interests(sysctls: [])).state.peers
    }

    private func change(_ number: Int, _ edit: (inout PeerChange) -> Void) -> PeerOperation {
        var change = PeerChange(of: Peer(publicKey: key(number)))
        edit(&change)
        return .change(change)
    }

    @Test func configuresTheDevice() throws {
        try onDevice { (plane, fixture) throws in
            var operation = DeviceOperation(interface: "wg0")
            // 0xFF… is not clamped: what is read back is, and the tags must agree all the same.
            let given = [UInt8](repeating: 0xFF, count: 32)
            operation.privateKey = fixture.arena.insert(given.span)
            operation.listenPort = 51899
            operation.fwMark = 0x77
            #expect(plane.perform([.device(operation)], for: fixture.mesh) == [.done])
            let device = try plane.observe(fixture.mesh, Interests(sysctls: [])).state.device
            #expect(device?.privateKey == SecretBytes.tag(ofPrivateKey: given.span.bytes))
            #expect(device?.privateKey != operation.privateKey)
            #expect(device?.listenPort == 51899)
            #expect(device?.fwMark == 0x77)
            #expect(
                device?.publicKey?.base64
                    == output("wg show wg0 public-key").split(separator: "\n").first.map(String.init))

            // Only what changes is sent.
            var mark = DeviceOperation(interface: "wg0", oldFwMark: 0x77)
            mark.fwMark = 0
            #expect(plane.perform([.device(mark)], for: fixture.mesh) == [.done])
            var expected = device
            expected?.fwMark = 0
            #expect(try plane.observe(fixture.mesh, Interests(sysctls: [])).state.device == expected)

            var unknown = DeviceOperation(interface: "wg0")
            unknown.privateKey = SecretTag(1, 2)
            #expect(failure(plane.perform([.device(unknown)], for: fixture.mesh).first)?.code == .key)
        }
    }

    @Test func addsChangesAndRemovesPeers() throws {
        try onDevice { (plane, fixture) throws in
            let secret = fixture.secret(7)
            let wanted = [
                Peer(
                    publicKey: key(1), presharedKey: .tag(secret), persistentKeepalive: 25,
                    allowedIPs: [prefix("10.0.0.1/32"), prefix("fd00::/64")],
                    endpoint: SocketAddress(IPAddress(v4: 0xC000_0201), port: 51820)),
                Peer(
                    publicKey: key(2), allowedIPs: [prefix("10.0.0.2/32")],
                    endpoint: IPAddress("2001:db8::7").map { SocketAddress($0, port: 9) }),
                Peer(publicKey: key(3)),
            ]
            #expect(perform(wanted.map { .add($0) }, &plane, fixture) == [.done, .done, .done])
            #expect(try peers(&plane, fixture) == wanted)
            let shown = output("wg show wg0 dump")
            #expect(shown.contains("192.0.2.1:51820\t10.0.0.1/32,fd00::/64\t0\t0\t0\t25\n"))
            #expect(shown.contains("[2001:db8::7]:9\t10.0.0.2/32"))
            #expect(output("wg show wg0 preshared-keys").contains("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="))

            // The preshared key and the keepalive go by explicit zeros; one prefix goes, one moves, one comes.
            let changes = [
                change(2) { $0.added = [prefix("fd00::/64"), prefix("10.0.1.0/24")] },
                change(1) {
                    $0.presharedKey = PresharedKey.none
                    $0.persistentKeepalive = 0
                    $0.removed = [prefix("10.0.0.1/32")]
                },
                .remove(wanted[2]),
            ]
            #expect(perform(changes, &plane, fixture) == [.done, .done, .done])
            let expected = [
                Peer(publicKey: key(1), endpoint: wanted[0].endpoint),
                Peer(
                    publicKey: key(2),
                    allowedIPs: [prefix("10.0.0.2/32"), prefix("10.0.1.0/24"), prefix("fd00::/64")],
                    endpoint: wanted[1].endpoint),
            ]
            #expect(try peers(&plane, fixture) == expected)
            // A peer that is not there is not made by a change, and its removal is no failure.
            #expect(
                perform([change(9) { $0.persistentKeepalive = 9 }, .remove(Peer(publicKey: key(9)))], &plane, fixture)
                    == [.done, .done])
            #expect(try peers(&plane, fixture) == expected)
        }
    }

    @Test(arguments: [1, 1_625, 3_000, 20_000])
    func cutsAllowedIPsAcrossMessages(_ count: Int) throws {
        try onDevice { (plane, fixture) throws in
            let first = Peer(
                publicKey: key(1),
                allowedIPs: PrefixList(
                    (0..<count).map { IPPrefix(host: IPAddress(v4: 0x0A00_0000 + UInt32($0))) }))
            let second = Peer(
                publicKey: key(2), presharedKey: .tag(fixture.secret(1)),
                allowedIPs: PrefixList((0..<count).map { IPPrefix(host: IPAddress(v6: 0xFD00 << 48, UInt64($0))) }))
            let adds = [first, second, Peer(publicKey: key(3))].map { PeerOperation.add($0) }
            #expect(perform(adds, &plane, fixture) == [.done, .done, .done])
            #expect(try peers(&plane, fixture) == [first, second, Peer(publicKey: key(3))])

            // All to one peer; then half of them to nobody, over several messages with a throw-away peer each.
            let moved = change(1) { $0.added = Array(second.allowedIPs) }
            #expect(perform([moved], &plane, fixture) == [.done])
            #expect(try peers(&plane, fixture)[0].allowedIPs.count == 2 * count)
            #expect(try peers(&plane, fixture)[1].allowedIPs.isEmpty)
            let removed = change(1) { $0.removed = Array(first.allowedIPs) }
            #expect(perform([removed], &plane, fixture) == [.done])
            let left = try peers(&plane, fixture)
            #expect(left.map(\.publicKey) == [key(1), key(2), key(3)])
            #expect(left[0].allowedIPs == second.allowedIPs)
        }
    }

    @Test func readsBackManyPeersInTheOrderTheyWereAdded() throws {
        try onDevice { (plane, fixture) throws in
            let secret = PresharedKey.tag(fixture.secret(3))
            let wanted = (1...1_000).map { number in
                Peer(
                    publicKey: key(number), presharedKey: number % 3 == 0 ? secret : .none,
                    persistentKeepalive: UInt16(number % 50),
                    allowedIPs: [IPPrefix(host: IPAddress(v4: UInt32(0x0A00_0000 + number)))],
                    endpoint: number % 2 == 0 ? SocketAddress(IPAddress(v4: 0xC000_0200), port: UInt16(number)) : nil)
            }
            #expect(perform(wanted.map { .add($0) }, &plane, fixture).allSatisfy { $0 == .done })
            #expect(try peers(&plane, fixture) == wanted)
            #expect(perform(wanted.map { .remove($0) }, &plane, fixture).allSatisfy { $0 == .done })
            #expect(try peers(&plane, fixture) == [])
        }
    }

    @Test func aFailureStaysWithItsPeer() throws {
        try onDevice { (plane, fixture) throws in
            let good = Peer(publicKey: key(1), allowedIPs: [prefix("10.0.0.1/32")])
            let keyless = Peer(publicKey: key(2), presharedKey: .tag(SecretTag(5, 5)))
            let old = Peer(publicKey: key(3), allowedIPs: [prefix("10.0.0.3/32")])
            #expect(perform([.add(old)], &plane, fixture) == [.done])
            let outcomes = perform([.add(keyless), .add(good), .remove(old)], &plane, fixture)
            #expect(failure(outcomes[0])?.code == .key)
            #expect(outcomes[1] == .done)
            if case .skipped = outcomes[2] {} else { Issue.record("\(outcomes[2])") }
            #expect(try peers(&plane, fixture) == [old, good])
        }
    }

    @Test func namesWhoHasThePort() throws {
        try TestNamespace.run { () throws in
            let fixture = try KernelFixture()
            var plane = fixture.plane
            #expect(plane.perform([.link(.create(KernelFixture.link))], for: fixture.mesh) == [.done])
            let socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
            defer { close(socket) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = UInt16(51820).bigEndian
            let bound = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            #expect(bound == 0)
            let name = output("cat /proc/\(getpid())/comm").dropLast()
            let owner = "UDP port 51820 belongs to process \"\(name)\" (pid \(getpid()))"
            let holder = plane.holder(ofPort: 51820)
            #expect(holder?.description == "UDP 51820 of process \"\(name)\" (pid \(getpid()))")
            #expect(holder?.relation == .holdsPort && plane.holder(ofPort: 51821) == nil)
            var operation = DeviceOperation(interface: "wg0")
            operation.listenPort = 51820
            #expect(plane.perform([.device(operation)], for: fixture.mesh) == [.done])
            let raised = failure(plane.perform([.link(.setUp(interface: "wg0"))], for: fixture.mesh).first)
            #expect(raised?.code == .portInUse)
            #expect(raised?.message.hasPrefix(owner) == true)

            operation.listenPort = 51821
            #expect(plane.perform([.device(operation)], for: fixture.mesh) == [.done])
            #expect(plane.perform([.link(.setUp(interface: "wg0"))], for: fixture.mesh) == [.done])
            operation.listenPort = 51820
            let configured = failure(plane.perform([.device(operation)], for: fixture.mesh).first)
            #expect(configured?.code == .portInUse)
            #expect(configured?.message.hasPrefix(owner) == true)

            // A port of another WireGuard interface has no process.
            shell("ip link add other type wireguard; wg set other listen-port 777; ip link set other up")
            operation.listenPort = 777
            let kernels = failure(plane.perform([.device(operation)], for: fixture.mesh).first)
            #expect(kernels?.message.contains("another WireGuard interface") == true)
        }
    }

    @Test func leavesWireGuardInterfacesOfOthersAlone() throws {
        try TestNamespace.run { () throws in
            let fixture = try KernelFixture()
            var plane = fixture.plane
            shell("ip link add wg0 type wireguard; wg set wg0 listen-port 1234")
            let observed = try plane.observe(fixture.mesh, Interests(sysctls: []))
            #expect(observed.foreign.first?.remedy.contains("wg-quick down wg0") == true)
            let peer = Operation.peer(.add(Peer(publicKey: key(1))))
            #expect(failure(plane.perform([peer], for: fixture.mesh).first)?.code == .obstructed)
            #expect(output("wg show wg0 peers") == "")
        }
    }

    @Test func removesALinkWithManyPeers() throws {
        try onDevice { (plane, fixture) throws in
            let peers = (1...500).map { PeerOperation.add(Peer(publicKey: key($0))) }
            #expect(perform(peers, &plane, fixture).allSatisfy { $0 == .done })
            #expect(plane.perform([.link(.remove(interface: "wg0"))], for: fixture.mesh) == [.done])
            #expect(try plane.observe(fixture.mesh, Interests(sysctls: [])).state.link == nil)
        }
    }
}
