// Reads what a user-space device answers to `get=1`: lines of `key=value` become a device and its peers.

internal import WeftKeys
internal import WeftModel

/// Why an answer is not one of the cross-platform user-space protocol (wireguard.com/xplatform).
struct UserspaceFormatError: Error, Hashable {
    /// In a few words, without anything of the line itself: it could be a key.
    var reason: String
}

/// Takes the lines of an answer one by one. Keys that are not known are left out: the protocol grows by them.
struct UserspaceDump {
    /// Set by the last line of an answer.
    private(set) var errorNumber: Int32?

    private let secrets = SecretScratch()
    private var device = Device(privateKey: nil, publicKey: nil, listenPort: nil)
    private var peers: [Peer] = []
    private var statistics: [PeerStatistics] = []
    // Of all peers, one after the other; `starts` has the index of each peer's first.
    private var prefixes: [IPPrefix] = []
    private var starts: [Int] = []

    init() {}

    /// Takes one line without its end.
    mutating func take(_ line: Span<UInt8>) throws(UserspaceFormatError) {
        guard errorNumber == nil else { throw UserspaceFormatError(reason: "something follows its end") }
        var end = 0
        while end < line.count, line[end] != UInt8(ascii: "=") { end += 1 }
        guard end < line.count else { throw UserspaceFormatError(reason: "a line has no \"=\"") }
        let key = line.extracting(first: end)
        let value = line.extracting(droppingFirst: end + 1)
        // The lengths of the keys tell most of them apart.
        switch end {
        case 10 where key.equals("allowed_ip"): try takeAllowedIP(value)
        case 10 where key.equals("public_key"): try takePublicKey(value)
        case 8 where key.equals("endpoint"): try takeEndpoint(value)
        case 8 where key.equals("tx_bytes"): statistics[try lastPeer()].sentBytes = try value.number()
        case 8 where key.equals("rx_bytes"): statistics[try lastPeer()].receivedBytes = try value.number()
        case 13 where key.equals("preshared_key"): try takePresharedKey(value)
        case 23 where key.equals("last_handshake_time_sec"): try takeHandshake(seconds: value)
        case 24 where key.equals("last_handshake_time_nsec"): try takeHandshake(nanoseconds: value)
        case 29 where key.equals("persistent_keepalive_interval"): try takeKeepalive(value)
        case 11 where key.equals("private_key"): try takePrivateKey(value)
        // boringtun's, which keeps the private key to itself.
        case 14 where key.equals("own_public_key"): device.publicKey = try takeKey(value)
        case 11 where key.equals("listen_port"): device.listenPort = try value.number()
        case 6 where key.equals("fwmark"): device.fwMark = try value.number()
        case 5 where key.equals("errno"): errorNumber = try value.errorNumber()
        default: break
        }
    }

    /// What the lines said. Peers are sorted by key: wireguard-go lists them in another order each time, and a plan must
    /// not depend on that. Handshakes before 2001 are ages, as boringtun writes them: no peer is that old.
    ///
    /// - Parameter now: the time by the wall clock.
    consuming func finish(at now: UnixTime) -> DeviceReading {
        for index in statistics.indices {
            guard let age = statistics[index].lastHandshake, age.seconds < 1_000_000_000 else { continue }
            statistics[index].lastHandshake = UnixTime(seconds: now.seconds - age.seconds)
        }
        starts.append(prefixes.count)
        for index in peers.indices {
            let own = prefixes[starts[index]..<starts[index + 1]]
            peers[index].allowedIPs = PrefixList.isAscending(own) ? PrefixList(ascending: own) : PrefixList(own)
        }
        let order = peers.indices.sorted { peers[$0].publicKey < peers[$1].publicKey }
        return DeviceReading(device: device, peers: order.map { peers[$0] }, statistics: order.map { statistics[$0] })
    }

    private mutating func takePublicKey(_ value: Span<UInt8>) throws(UserspaceFormatError) {
        peers.append(Peer(publicKey: try takeKey(value)))
        statistics.append(PeerStatistics())
        starts.append(prefixes.count)
    }

    private func takeKey(_ value: Span<UInt8>) throws(UserspaceFormatError) -> PublicKey {
        guard let key = value.publicKey() else { throw UserspaceFormatError(reason: "a public key is malformed") }
        return key
    }

    private mutating func takePrivateKey(_ value: Span<UInt8>) throws(UserspaceFormatError) {
        do throws(SecretScratch.Malformed) {
            let own = try secrets.readPrivateKey(hexadecimal: value)
            device.privateKey = own?.tag
            device.publicKey = own?.publicKey
        } catch {
            throw UserspaceFormatError(reason: "the private key is malformed")
        }
    }

    private mutating func takePresharedKey(_ value: Span<UInt8>) throws(UserspaceFormatError) {
        let last = try lastPeer()
        do throws(SecretScratch.Malformed) {
            let tag = try secrets.readPresharedKey(hexadecimal: value)
            peers[last].presharedKey = tag.map { .tag($0) } ?? .none
        } catch {
            throw UserspaceFormatError(reason: "a preshared key is malformed")
        }
    }

    private mutating func takeAllowedIP(_ value: Span<UInt8>) throws(UserspaceFormatError) {
        _ = try lastPeer()
        guard let written = IPPrefix.parse(value), written.length != nil else {
            throw UserspaceFormatError(reason: "an allowed IP is malformed")
        }
        prefixes.append(written.prefix)
    }

    private mutating func takeEndpoint(_ value: Span<UInt8>) throws(UserspaceFormatError) {
        let last = try lastPeer()
        guard let endpoint = value.endpoint() else { throw UserspaceFormatError(reason: "an endpoint is malformed") }
        peers[last].endpoint = endpoint
    }

    private mutating func takeKeepalive(_ value: Span<UInt8>) throws(UserspaceFormatError) {
        let last = try lastPeer()
        peers[last].persistentKeepalive = try value.number()
    }

    private mutating func takeHandshake(seconds value: Span<UInt8>) throws(UserspaceFormatError) {
        let seconds: Int64 = try value.number()
        let last = try lastPeer()
        if seconds > 0 {
            let nanoseconds = statistics[last].lastHandshake?.nanoseconds ?? 0
            statistics[last].lastHandshake = UnixTime(seconds: seconds, nanoseconds: nanoseconds)
        }
    }

    private mutating func takeHandshake(nanoseconds value: Span<UInt8>) throws(UserspaceFormatError) {
        let nanoseconds: Int32 = try value.number()
        let last = try lastPeer()
        guard nanoseconds < 1_000_000_000 else { throw UserspaceFormatError(reason: "a time is malformed") }
        if nanoseconds > 0 {
            let seconds = statistics[last].lastHandshake?.seconds ?? 0
            statistics[last].lastHandshake = UnixTime(seconds: seconds, nanoseconds: nanoseconds)
        }
    }

    private func lastPeer() throws(UserspaceFormatError) -> Int {
        guard let last = peers.indices.last else {
            throw UserspaceFormatError(reason: "a peer's line comes before any peer")
        }
        return last
    }
}

/// Values of the protocol.
extension Span<UInt8> {
    func equals(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount else { return false }
        for index in 0..<count where unsafe self[index] != text.utf8Start[index] { return false }
        return true
    }

    /// A decimal number without a sign.
    func number<Value: FixedWidthInteger>() throws(UserspaceFormatError) -> Value {
        var value: Value = 0
        var isValid = count > 0
        for index in indices {
            guard let digit = decimalDigit(self[index]) else {
                isValid = false
                break
            }
            let (shifted, tooLong) = value.multipliedReportingOverflow(by: 10)
            let (sum, tooLarge) = shifted.addingReportingOverflow(Value(digit))
            value = sum
            if tooLong || tooLarge { isValid = false }
        }
        guard isValid else { throw UserspaceFormatError(reason: "a number is malformed") }
        return value
    }

    /// `0`, or an error number, which programs write with a minus sign or without.
    func errorNumber() throws(UserspaceFormatError) -> Int32 {
        if count > 0, self[0] == UInt8(ascii: "-") { return try extracting(droppingFirst: 1).number() }
        return try number()
    }

    /// 64 hexadecimal digits.
    func publicKey() -> PublicKey? {
        guard count == 64 else { return nil }
        func word(_ part: Int) -> UInt64? {
            var value: UInt64 = 0
            for index in part * 16..<part * 16 + 16 {
                guard let digit = hexDigit(self[index]) else { return nil }
                value = value << 4 | UInt64(digit)
            }
            return value
        }
        guard let first = word(0), let second = word(1), let third = word(2), let fourth = word(3) else { return nil }
        return PublicKey(bigEndianWords: first, second, third, fourth)
    }

    /// `192.0.2.1:51820` or `[2001:db8::1%eth0]:51820`; the zone is dropped.
    func endpoint() -> SocketAddress? {
        var colon = count - 1
        while colon >= 0, self[colon] != UInt8(ascii: ":") { colon -= 1 }
        guard colon > 0, let port: UInt16 = try? extracting(droppingFirst: colon + 1).number() else { return nil }
        let host = extracting(first: colon)
        guard host[0] == UInt8(ascii: "[") else {
            guard let address = IPAddress(host), address.family == .v4 else { return nil }
            return SocketAddress(address, port: port)
        }
        guard host.count > 2, host[host.count - 1] == UInt8(ascii: "]") else { return nil }
        var end = 1
        while end < host.count - 1, host[end] != UInt8(ascii: "%") { end += 1 }
        guard let address = IPAddress(host.extracting(1..<end)), address.family == .v6 else { return nil }
        return SocketAddress(address, port: port)
    }
}
