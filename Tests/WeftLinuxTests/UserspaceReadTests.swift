// Reading a user-space device: what its lines mean, and every way in which an answer can be none.

import Glibc
import Testing
import WeftKeys
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite struct UserspaceReadTests {
    // The example of wireguard.com/xplatform, with a zone added.
    private static let example = """
        private_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a
        listen_port=12912
        fwmark=51820
        public_key=b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33
        preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52
        allowed_ip=192.168.4.4/32
        endpoint=[abcd:23::33%2]:51820
        public_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376
        preshared_key=0000000000000000000000000000000000000000000000000000000000000000
        tx_bytes=38333
        rx_bytes=2224
        allowed_ip=192.168.4.6/32
        allowed_ip=10.0.0.0/8
        persistent_keepalive_interval=111
        endpoint=182.122.22.19:3233
        last_handshake_time_sec=1700000000
        last_handshake_time_nsec=5
        some_future_key=whatever
        errno=0


        """

    private func read(_ text: String, piece: Int = .max) throws(DataplaneError) -> DeviceReading {
        let device = FakeUserspaceDevice { _ in .text(text, piece: piece) }
        defer { device.stop() }
        var control = UserspaceControl(interface: "wg0", sockets: [device.path], patience: .seconds(5))
        return try control.read()
    }

    @Test(arguments: [Int.max, 1, 7, 64])
    func readsTheExample(piece: Int) throws {
        let reading = try read(Self.example, piece: piece)
        #expect(reading.device.listenPort == 12912)
        #expect(reading.device.fwMark == 51820)
        #expect(reading.device.publicKey != nil && reading.device.privateKey != nil)
        #expect(reading.peers.count == 2)
        // Sorted by key, whatever the order of the answer.
        let (first, second) = (reading.peers[0], reading.peers[1])
        #expect(first.publicKey.bytes.first == 0x58)
        #expect(first.presharedKey == .none)
        #expect(first.persistentKeepalive == 111)
        #expect(first.allowedIPs.description == "10.0.0.0/8, 192.168.4.6/32")
        #expect(first.endpoint?.description == "182.122.22.19:3233")
        #expect(
            reading.statistics[0]
                == PeerStatistics(
                    lastHandshake: UnixTime(seconds: 1_700_000_000, nanoseconds: 5), receivedBytes: 2224,
                    sentBytes: 38333))
        #expect(second.endpoint?.description == "[abcd:23::33]:51820")
        #expect(second.presharedKey != .none)
        #expect(reading.statistics[1] == PeerStatistics())
    }

    @Test func keysBecomeTheTagsThatFilesHave() throws {
        let reading = try read(Self.example)
        var bytes: [UInt8] = []
        let digits = Array("188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52".utf8)
        for index in stride(from: 0, to: 64, by: 2) {
            let high = try #require(hexDigit(digits[index]))
            let low = try #require(hexDigit(digits[index + 1]))
            bytes.append(high << 4 | low)
        }
        #expect(reading.peers[1].presharedKey == .tag(SecretTagger.tag(bytes.span)))
    }

    @Test func boringtunsOwnWaysAreUnderstood() throws {
        let key = String(repeating: "ab", count: 32)
        let other = String(repeating: "cd", count: 32)
        let reading = try read(
            "own_public_key=\(key)\npublic_key=\(key)\nlast_handshake_time_sec=100\nlast_handshake_time_nsec=7\n"
                + "public_key=\(other)\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=9\nerrno=0\n\n")
        #expect(reading.device.privateKey == nil)
        #expect(reading.device.publicKey == reading.peers[0].publicKey)
        // Ages, where others say a time.
        let now = Int64(time(nil))
        let first = try #require(reading.statistics[0].lastHandshake)
        let second = try #require(reading.statistics[1].lastHandshake)
        #expect(abs(now - 100 - first.seconds) <= 2)
        #expect(abs(now - second.seconds) <= 2)
        // The key that it does not tell is no difference.
        var wanted = reading.device
        wanted.privateKey = SecretTag(1, 2)
        #expect(wanted.isSatisfied(by: reading.device))
        wanted.publicKey = reading.peers[1].publicKey
        #expect(!wanted.isSatisfied(by: reading.device))
    }

    @Test func aDeviceWithoutAnythingIsRead() throws {
        let reading = try read("errno=0\n\n")
        #expect(reading.device == Device(privateKey: nil, publicKey: nil, listenPort: nil))
        #expect(reading.peers.isEmpty)
    }

    @Test func theErrorNumberIsSaid() {
        let refused = #expect(throws: DataplaneError.self) { try read("errno=-1\n\n") }
        #expect(refused?.code == .notPermitted)
        #expect(refused?.operation == "read wg0")
    }

    @Test(arguments: [
        ("", "ended the connection"),
        ("errno=0\n", "ended the connection"),
        ("\n", "no error number"),
        ("listen_port=1\n\n", "no error number"),
        ("nonsense\nerrno=0\n\n", "no \"=\""),
        ("errno=0\nlisten_port=1\n\n", "something follows"),
        ("errno=0\n\nlisten_port=1\n", "something follows"),
        ("errno=\n\n", "a number"),
        ("errno=zero\n\n", "a number"),
        ("listen_port=65536\nerrno=0\n\n", "a number"),
        ("listen_port=-1\nerrno=0\n\n", "a number"),
        ("listen_port= 1\nerrno=0\n\n", "a number"),
        ("fwmark=4294967296\nerrno=0\n\n", "a number"),
        ("allowed_ip=10.0.0.0/8\nerrno=0\n\n", "before any peer"),
        ("tx_bytes=1\nerrno=0\n\n", "before any peer"),
        ("public_key=abc\nerrno=0\n\n", "a public key"),
        ("private_key=abc\nerrno=0\n\n", "the private key"),
    ])
    func anAnswerThatIsNoneIsRefused(text: String, reason: String) {
        let found = #expect(throws: DataplaneError.self) { try read(text) }
        #expect(found?.message.contains(reason) ?? false, "\(String(describing: found))")
    }

    @Test(arguments: [
        "allowed_ip=10.0.0.0", "allowed_ip=10.0.0.0/33", "allowed_ip=", "endpoint=1.2.3.4", "endpoint=:1",
        "endpoint=1.2.3.4:65536", "endpoint=abcd::1:5", "endpoint=[1.2.3.4]:5", "endpoint=[]:5", "endpoint=[::1]5",
        "preshared_key=0", "persistent_keepalive_interval=65536", "last_handshake_time_sec=-1",
        "last_handshake_time_nsec=1000000000", "rx_bytes=18446744073709551616",
    ])
    func aMalformedLineOfAPeerIsRefused(line: String) {
        let key = String(repeating: "ab", count: 32)
        let found = #expect(throws: DataplaneError.self) { try read("public_key=\(key)\n\(line)\nerrno=0\n\n") }
        #expect(found?.message.contains("cannot be read") ?? false)
    }

    @Test func noErrorHoldsAKey() {
        let secret = String(repeating: "ab", count: 31) + "zz"
        for line in [
            "private_key=\(secret)", "public_key=\(String(repeating: "cd", count: 32))\npreshared_key=\(secret)",
        ] {
            let found = #expect(throws: DataplaneError.self) { try read("\(line)\nerrno=0\n\n") }
            #expect(!(found?.description.contains("abab") ?? true))
        }
    }

    @Test func anEndlessLineIsRefused() {
        let found = #expect(throws: DataplaneError.self) { try read(String(repeating: "x", count: 1 << 20)) }
        #expect(found?.message.contains("too long") ?? false)
    }

    @Test func aSilentDeviceIsNotWaitedForForever() {
        let device = FakeUserspaceDevice { _ in .silence }
        defer { device.stop() }
        var control = UserspaceControl(interface: "wg0", sockets: [device.path], patience: .milliseconds(100))
        let start = ContinuousClock.now
        let found = #expect(throws: DataplaneError.self) { _ = try control.read() }
        #expect(ContinuousClock.now - start < .seconds(5))
        #expect(found?.message.contains("has not answered") ?? false)
    }

    @Test func noSocketMeansThatTheProgramHasEnded() {
        var control = UserspaceControl(interface: "wg-none", sockets: ["/nonexistent/a.sock", "/nonexistent/b.sock"])
        let found = #expect(throws: DataplaneError.self) { _ = try control.read() }
        #expect(found?.code == .gone)
        #expect(found?.isRetryable ?? false)
    }

    @Test func theSecondSocketIsTriedWhereTheFirstIsDead() throws {
        let device = FakeUserspaceDevice { _ in .text("listen_port=7\nerrno=0\n\n") }
        defer { device.stop() }
        var control = UserspaceControl(interface: "wg0", sockets: ["/nonexistent/a.sock", device.path])
        #expect(try control.read().device.listenPort == 7)
    }

    @Test func tenThousandPeersAreRead() throws {
        var text = "listen_port=1\n"
        for index in 0..<10_000 {
            let digits = String(index, radix: 16)
            text += "public_key=\(String(repeating: "0", count: 64 - digits.count))\(digits)\n"
            text += "preshared_key=\(String(repeating: "0", count: 60))beef\nprotocol_version=1\n"
            text += "endpoint=192.0.2.1:51820\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=0\n"
            text += "tx_bytes=0\nrx_bytes=0\npersistent_keepalive_interval=0\n"
            text += "allowed_ip=10.\(index >> 16).\(index >> 8 & 255).\(index & 255)/32\n"
        }
        let reading = try read(text + "errno=0\n\n")
        #expect(reading.peers.count == 10_000)
        for (index, peer) in reading.peers.enumerated() {
            #expect(
                peer.allowedIPs.count == 1
                    && peer.allowedIPs[peer.allowedIPs.startIndex].address.v4Bits == 10 << 24 | UInt32(index))
        }
    }
}
