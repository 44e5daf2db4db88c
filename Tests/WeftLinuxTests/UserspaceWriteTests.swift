// Changing a user-space device: the lines that are sent, and what comes of a refusal.

import Glibc
import Testing
import WeftKeys
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite struct UserspaceWriteTests {
    private let alice = PublicKey(bigEndianWords: 1, 2, 3, 4)
    private let bob = PublicKey(bigEndianWords: 5, 6, 7, 8)
    private let aliceHex = "0000000000000001000000000000000200000000000000030000000000000004"
    private let bobHex = "0000000000000005000000000000000600000000000000070000000000000008"
    private let zeros = String(repeating: "0", count: 64)

    private func control(_ device: FakeUserspaceDevice, _ arena: SecretArena? = nil) -> UserspaceControl {
        UserspaceControl(
            interface: "wg0", sockets: [device.path],
            secrets: { () throws(DataplaneError) in
                guard let arena else { throw DataplaneError(.key, "no keys") }
                return arena
            }, patience: .seconds(5))
    }

    private func accepting() -> FakeUserspaceDevice { FakeUserspaceDevice { _ in .text("errno=0\n\n") } }

    private func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

    @Test func onlyWhatChangedOfTheDeviceIsSent() throws {
        let arena = SecretArena(capacity: 1)
        let tag = arena.insert([UInt8](repeating: 0xa5, count: 32).span)
        let device = accepting()
        defer { device.stop() }
        var control = control(device, arena)
        var operation = DeviceOperation(interface: "wg0")
        operation.listenPort = 51820
        #expect(control.perform(operation) == .done)
        operation.listenPort = nil
        operation.fwMark = 0
        operation.privateKey = tag
        #expect(control.perform(operation) == .done)
        let key = String(repeating: "a5", count: 32)
        #expect(
            device.requests == [
                "set=1\nlisten_port=51820\n\n", "set=1\nprivate_key=\(key)\nfwmark=0\n\n",
            ])
    }

    @Test func allPeersAreRemovedAtOnce() throws {
        let device = accepting()
        defer { device.stop() }
        var control = control(device)
        try control.removeAllPeers()
        #expect(device.requests == ["set=1\nreplace_peers=true\n\n"])
    }

    @Test func additionsComeFirstAndRemovalsLast() throws {
        let arena = SecretArena(capacity: 1)
        let tag = arena.insert([UInt8](repeating: 0x0f, count: 32).span)
        let device = accepting()
        defer { device.stop() }
        var change = PeerChange(of: Peer(publicKey: bob, presharedKey: .tag(tag), persistentKeepalive: 25))
        change.presharedKey = PresharedKey.none
        change.persistentKeepalive = 0
        change.added = [try prefix("fd00::/64")]
        change.removed = [try prefix("10.2.0.0/16"), try prefix("10.3.0.0/16")]
        let endpoint = SocketAddress(try #require(IPAddress("2001:db8::1")), port: 7)
        let new = Peer(
            publicKey: alice, presharedKey: .tag(tag), persistentKeepalive: 5,
            allowedIPs: [try prefix("10.0.0.1/32"), try prefix("::/0")], endpoint: endpoint)
        var control = control(device, arena)
        #expect(
            control.perform([.remove(Peer(publicKey: bob)), .add(new), .change(change)]) == [.done, .done, .done])
        let request = try #require(device.requests.first)
        let lines = request.split(separator: "\n").map(String.init)
        let nobody = try #require(lines.dropFirst(12).first)
        #expect(nobody.hasPrefix("public_key=") && nobody.count == 75)
        #expect(
            lines == [
                "set=1", "public_key=\(aliceHex)", "preshared_key=\(String(repeating: "0f", count: 32))",
                "endpoint=[2001:db8::1]:7", "persistent_keepalive_interval=5", "allowed_ip=10.0.0.1/32",
                "allowed_ip=::/0", "public_key=\(bobHex)", "update_only=true", "preshared_key=\(zeros)",
                "persistent_keepalive_interval=0", "allowed_ip=fd00::/64", nobody, "allowed_ip=10.2.0.0/16",
                "allowed_ip=10.3.0.0/16", nobody, "remove=true", "public_key=\(bobHex)", "remove=true",
            ])
    }

    @Test func whatIsExternalOrOnlyMovedIsNotSent() throws {
        let device = accepting()
        defer { device.stop() }
        var control = control(device)
        var moved = PeerChange(of: Peer(publicKey: bob))
        moved.moved = [PeerChange.Move(prefix: try prefix("10.0.0.0/8"), to: alice)]
        let peer = Peer(publicKey: alice, presharedKey: .external)
        #expect(control.perform([.add(peer), .change(moved)]) == [.done, .done])
        #expect(device.requests == ["set=1\npublic_key=\(aliceHex)\n\n"])
    }

    @Test func nothingToDoSendsNothing() {
        let device = accepting()
        defer { device.stop() }
        var control = control(device)
        #expect(control.perform([PeerOperation]()) == [])
        #expect(device.requests.isEmpty)
    }

    @Test func aRefusalIsTracedToItsOperationAndNoPeerIsRemovedAfterIt() {
        let aliceHex = aliceHex
        let device = FakeUserspaceDevice { $0.contains(aliceHex) ? .text("errno=-22\n\n") : .text("errno=0\n\n") }
        defer { device.stop() }
        var control = control(device)
        let outcomes = control.perform([
            .add(Peer(publicKey: bob)), .add(Peer(publicKey: alice)), .add(Peer(publicKey: bob)),
            .remove(Peer(publicKey: bob)),
        ])
        #expect(outcomes.count == 4)
        #expect(outcomes[0] == .done && outcomes[2] == .done)
        guard case .failed(let error) = outcomes[1], case .skipped = outcomes[3] else {
            Issue.record("\(outcomes)")
            return
        }
        #expect(error.code == .invalid && error.errno == EINVAL)
        #expect(error.operation == "add peer \(alice.short) of wg0")
    }

    @Test(arguments: [
        (98, DataplaneError.Code.portInUse), (1, .notPermitted), (12, .noMemory), (22, .invalid), (71, .invalid),
        (19, .gone), (55, .invalid), (5, .invalid),
    ])
    func eachErrorNumberHasItsMeaning(number: Int, code: DataplaneError.Code) {
        for sign in ["", "-"] {
            let device = FakeUserspaceDevice { _ in .text("errno=\(sign)\(number)\n\n") }
            defer { device.stop() }
            var control = control(device)
            var operation = DeviceOperation(interface: "wg0")
            operation.listenPort = 53
            guard case .failed(let error) = control.perform(operation) else {
                Issue.record("no failure")
                continue
            }
            #expect(error.code == code && error.errno == Int32(number))
            if code == .portInUse { #expect(error.message.contains("UDP port 53")) }
        }
    }

    @Test func aKeyThatIsNotThereIsNeverSentAsAnother() {
        let device = accepting()
        defer { device.stop() }
        let missing = SecretTagger.tag([UInt8](repeating: 9, count: 32).span)
        var control = control(device, SecretArena(capacity: 1))
        let outcomes = control.perform([
            .add(Peer(publicKey: alice, presharedKey: .tag(missing))), .add(Peer(publicKey: bob)),
        ])
        guard case .failed(let error) = outcomes[0] else {
            Issue.record("\(outcomes)")
            return
        }
        #expect(error.code == .key)
        #expect(outcomes[1] == .done)
        #expect(!device.requests.contains { $0.contains("preshared_key") || $0.contains(aliceHex) })
    }

    @Test func aDeviceThatEndsIsNoSignalAndNoHang() {
        let device = FakeUserspaceDevice { _ in .text("") }
        defer { device.stop() }
        var control = control(device)
        let outcomes = control.perform([.add(Peer(publicKey: alice)), .remove(Peer(publicKey: bob))])
        #expect(outcomes.allSatisfy { if case .failed(let error) = $0 { error.code == .gone } else { false } })
        // Not repeated one by one.
        #expect(device.requests.count == 1)
    }

    @Test func aRefusalInTheMiddleOfALongRequestIsRead() throws {
        let device = FakeUserspaceDevice { _ in .early("errno=-22\n\n", after: 1000) }
        defer { device.stop() }
        var control = control(device)
        let prefixes = (0..<40_000 as Range<UInt32>).map { IPPrefix(host: IPAddress(v4: 10 << 24 | $0)) }
        let outcomes = control.perform([.add(Peer(publicKey: alice, allowedIPs: PrefixList(prefixes)))])
        guard case .failed(let error) = outcomes[0] else {
            Issue.record("no failure")
            return
        }
        #expect(error.errno == EINVAL, "\(error)")
    }

    @Test func aLongRequestArrivesWhole() throws {
        let device = accepting()
        defer { device.stop() }
        var control = control(device)
        let prefixes = (0..<20_000 as Range<UInt32>).map { IPPrefix(host: IPAddress(v4: 10 << 24 | $0)) }
        #expect(control.perform([.add(Peer(publicKey: alice, allowedIPs: PrefixList(prefixes)))]) == [.done])
        let lines = try #require(device.requests.first).split(separator: "\n")
        #expect(lines.count == 20_002)
        #expect(lines[20_001] == "allowed_ip=10.0.78.31/32")
    }

    @Test func boringtunsPeersAreReplacedOneByOne() throws {
        let arena = SecretArena(capacity: 1)
        let tag = arena.insert([UInt8](repeating: 0x0f, count: 32).span)
        let preshared = String(repeating: "0f", count: 32)
        let live = "public_key=\(bobHex)\npreshared_key=\(preshared)\npersistent_keepalive_interval=25\n"
        let dump =
            "own_public_key=\(aliceHex)\n\(live)endpoint=192.0.2.1:7\nallowed_ip=10.0.0.0/8\nallowed_ip=10.1.0.0/16\n"
            + "allowed_ip=10.2.0.0/16\nerrno=0\n\n"
        let device = FakeUserspaceDevice { .text($0.hasPrefix("get") ? dump : "errno=0\n\n") }
        defer { device.stop() }
        var control = UserspaceControl(
            interface: "wg0", sockets: [device.path], secrets: { () throws(DataplaneError) in arena },
            programName: { "boringtun-cli" })
        var change = PeerChange(of: Peer(publicKey: bob))
        change.persistentKeepalive = 0
        change.removed = [try prefix("10.1.0.0/16")]
        change.moved = [PeerChange.Move(prefix: try prefix("10.2.0.0/16"), to: alice)]
        change.added = [try prefix("10.3.0.0/16")]
        let new = Peer(publicKey: alice, allowedIPs: [try prefix("10.2.0.0/16")])
        var missing = PeerChange(of: Peer(publicKey: alice))
        missing.persistentKeepalive = 1
        #expect(
            control.perform([.change(missing), .add(new), .change(change), .remove(Peer(publicKey: bob))])
                == [.done, .done, .done, .done])
        #expect(
            device.requests == [
                "get=1\n\n",
                "set=1\npublic_key=\(aliceHex)\nallowed_ip=10.2.0.0/16\n\n",
                "set=1\npublic_key=\(bobHex)\nremove=true\n\n",
                "set=1\npublic_key=\(bobHex)\npreshared_key=\(preshared)\nendpoint=192.0.2.1:7\n"
                    + "allowed_ip=10.0.0.0/8\nallowed_ip=10.3.0.0/16\n\n",
                "set=1\npublic_key=\(bobHex)\nremove=true\n\n",
            ])
        // A peer whose key is not to be had is not taken away.
        change.presharedKey = .tag(SecretTagger.tag([UInt8](repeating: 9, count: 32).span))
        guard case .failed(let error) = control.perform([.change(change)])[0] else {
            Issue.record("no failure")
            return
        }
        #expect(error.code == .key && tag != SecretTag(0, 0))
        #expect(device.requests.count == 6)
    }
}
