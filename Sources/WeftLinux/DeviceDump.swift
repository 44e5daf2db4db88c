// Decodes the kernel's description of a WireGuard device: one pass, two arrays that grow, and no secret kept.

import CLinux
import Netlink
import WeftKeys
import WeftModel

/// Takes the answer to WG_CMD_GET_DEVICE. All peers' allowed IPs go into one array, because an array for each of ten
/// thousand peers would cost more than all the rest of reading them.
struct DeviceDump: MessageConsumer {
    private var device = Device(privateKey: nil, publicKey: nil, listenPort: nil)
    private var peers: [Peer] = []
    /// Of the last peer in `peers`, where there is one.
    private var lastKey = PublicKey(bigEndianWords: 0, 0, 0, 0)
    private var statistics: [PeerStatistics] = []
    private var prefixes: [IPPrefix] = []
    /// Where each peer's allowed IPs end in `prefixes`; they begin where those of the peer before end.
    private var ends: [Int] = []
    /// Peers whose allowed IPs the kernel did not list in ascending order.
    private var unsorted: [Int] = []

    /// - Parameter count: how many peers to make room for.
    init(expecting count: Int) {
        peers.reserveCapacity(count)
        statistics.reserveCapacity(count)
        prefixes.reserveCapacity(count * 2)
        ends.reserveCapacity(count)
    }

    mutating func reset() {
        device = Device(privateKey: nil, publicKey: nil, listenPort: nil)
        peers.removeAll(keepingCapacity: true)
        statistics.removeAll(keepingCapacity: true)
        prefixes.removeAll(keepingCapacity: true)
        ends.removeAll(keepingCapacity: true)
        unsorted.removeAll(keepingCapacity: true)
    }

    mutating func take(_ message: Message) -> Bool {
        var attributes = Attributes(message.payload, from: MemoryLayout<genlmsghdr>.size)
        while attributes.next() {
            switch wgdevice_attribute(rawValue: UInt32(attributes.type)) {
            case WGDEVICE_A_PRIVATE_KEY:
                device.privateKey = SecretBytes.tag(ofPrivateKey: attributes.payload)
            case WGDEVICE_A_PUBLIC_KEY:
                device.publicKey = attributes.publicKey()
            case WGDEVICE_A_LISTEN_PORT:
                let port = attributes.uint16()
                device.listenPort = port == 0 ? nil : port
            case WGDEVICE_A_FWMARK:
                device.fwMark = attributes.uint32()
            case WGDEVICE_A_PEERS:
                var list = attributes.nested()
                while list.next() {
                    var told = Told()
                    var peer = list.nested(from: takeCommonHead(&list, &told))
                    take(&peer, &told)
                    list.check(peer)
                }
                attributes.check(list)
            default: break
            }
        }
        return !attributes.isMalformed
    }

    /// What one peer's attributes say, but for its allowed IPs.
    private struct Told {
        var publicKey = PublicKey(bigEndianWords: 0, 0, 0, 0)
        var isNamed = false
        var presharedKey = PresharedKey.none
        var endpoint: SocketAddress?
        var keepalive: UInt16 = 0
        var handshake: UnixTime?
        var received: UInt64 = 0
        var sent: UInt64 = 0
    }

    /// Takes what every peer has, where it is laid out as every kernel up to now does it: first, in this order, without a
    /// gap. A continuation, which has the first of these only, is not.
    ///
    /// - Returns: where the other attributes begin; 0, and nothing is taken, where the layout is another.
    @inline(__always)
    private func takeCommonHead(_ list: inout Attributes, _ told: inout Told) -> Int {
        guard list.count >= 124,
            list.load(at: 0, as: UInt32.self) == header(WGPEER_A_PUBLIC_KEY, 32),
            list.load(at: 36, as: UInt32.self) == header(WGPEER_A_PRESHARED_KEY, 32),
            list.load(at: 72, as: UInt32.self) == header(WGPEER_A_LAST_HANDSHAKE_TIME, 16),
            list.load(at: 92, as: UInt32.self) == header(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, 2),
            list.load(at: 100, as: UInt32.self) == header(WGPEER_A_TX_BYTES, 8),
            list.load(at: 112, as: UInt32.self) == header(WGPEER_A_RX_BYTES, 8)
        else { return 0 }
        told.isNamed = true
        told.publicKey = list.publicKey(at: 4)
        told.presharedKey = presharedKey(&list, at: 40)
        told.handshake = handshake(&list, at: 76)
        told.keepalive = list.load(at: 96, as: UInt16.self)
        told.sent = list.load(at: 104, as: UInt64.self)
        told.received = list.load(at: 116, as: UInt64.self)
        return 124
    }

    /// Takes one peer, or the continuation of the last one, which has its public key and allowed IPs only.
    @inline(__always)
    private mutating func take(_ attributes: inout Attributes, _ told: inout Told) {
        let first = prefixes.count
        var isAscending = true
        while attributes.next() {
            switch wgpeer_attribute(rawValue: UInt32(attributes.type)) {
            case WGPEER_A_PUBLIC_KEY:
                told.publicKey = attributes.publicKey()
                told.isNamed = true
            case WGPEER_A_PRESHARED_KEY:
                told.presharedKey = presharedKey(&attributes)
            case WGPEER_A_ENDPOINT:
                told.endpoint = socketAddress(&attributes)
            case WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL:
                told.keepalive = attributes.uint16()
            case WGPEER_A_LAST_HANDSHAKE_TIME:
                told.handshake = handshake(&attributes)
            case WGPEER_A_RX_BYTES:
                told.received = attributes.uint64()
            case WGPEER_A_TX_BYTES:
                told.sent = attributes.uint64()
            case WGPEER_A_ALLOWEDIPS:
                var list = attributes.nested()
                while list.next() {
                    if takeCommon(&list, from: first, &isAscending) { continue }
                    var entry = list.nested()
                    take(&entry, from: first, &isAscending)
                    list.check(entry)
                }
                attributes.check(list)
            default: break
            }
        }
        guard told.isNamed else { return attributes.reject() }
        let last = peers.count &- 1
        if last >= 0, lastKey == told.publicKey {
            let joint = ends[last]
            let start = last > 0 ? ends[last &- 1] : 0
            if joint > start, joint < prefixes.count, !(prefixes[joint &- 1] < prefixes[joint]) { isAscending = false }
            ends[last] = prefixes.count
            if !isAscending { unsorted.append(last) }
            return
        }
        lastKey = told.publicKey
        peers.append(
            Peer(
                publicKey: told.publicKey, presharedKey: told.presharedKey, persistentKeepalive: told.keepalive,
                allowedIPs: PrefixList(ascending: []), endpoint: told.endpoint))
        statistics.append(
            PeerStatistics(
                lastHandshake: told.handshake, receivedBytes: told.received, sentBytes: told.sent))
        ends.append(prefixes.count)
        if !isAscending { unsorted.append(last &+ 1) }
    }

    /// Takes an allowed IP that is laid out as every kernel up to now does it: length, family, address, without a gap.
    /// There may be a million of them, and this is a quarter of the work.
    ///
    /// - Returns: false, and nothing is taken, where it is not.
    @inline(__always)
    private mutating func takeCommon(_ list: inout Attributes, from first: Int, _ isAscending: inout Bool) -> Bool {
        let isV4 = list.count == 24
        guard isV4 || list.count == 36, list.load(at: 0, as: UInt32.self) == header(WGALLOWEDIP_A_CIDR_MASK, 1),
            list.load(at: 8, as: UInt32.self) == header(WGALLOWEDIP_A_FAMILY, 2)
        else { return false }
        let length = list.load(at: 4, as: UInt8.self)
        let family = list.load(at: 12, as: UInt16.self)
        let address = list.load(at: 16, as: UInt32.self)
        let prefix: IPPrefix
        if isV4 {
            guard family == UInt16(AF_INET), address == header(WGALLOWEDIP_A_IPADDR, 4), length <= 32 else {
                return false
            }
            let bits = UInt32(bigEndian: list.load(at: 20, as: UInt32.self))
            prefix = IPPrefix(canonical: IPAddress(v4: bits), length: length)
        } else {
            guard family == UInt16(AF_INET6), address == header(WGALLOWEDIP_A_IPADDR, 16), length <= 128 else {
                return false
            }
            let high = UInt64(bigEndian: list.load(at: 20, as: UInt64.self))
            let low = UInt64(bigEndian: list.load(at: 28, as: UInt64.self))
            prefix = IPPrefix(canonical: IPAddress(v6: high, low), length: length)
        }
        append(prefix, from: first, &isAscending)
        return true
    }

    @inline(__always)
    private mutating func append(_ prefix: IPPrefix, from first: Int, _ isAscending: inout Bool) {
        let count = prefixes.count
        if count > first, !(prefixes[count &- 1] < prefix) { isAscending = false }
        prefixes.append(prefix)
    }

    /// Takes one allowed IP, however it is laid out.
    @inline(__always)
    private mutating func take(_ attributes: inout Attributes, from first: Int, _ isAscending: inout Bool) {
        var family: IPAddress.Family?
        var address: IPAddress?
        var length: UInt8 = 0
        while attributes.next() {
            switch wgallowedip_attribute(rawValue: UInt32(attributes.type)) {
            case WGALLOWEDIP_A_FAMILY: family = IPAddress.Family(number: attributes.uint16())
            case WGALLOWEDIP_A_IPADDR:
                // Its length tells the family too; a contradiction would be the kernel's.
                address = attributes.address(attributes.count == 4 ? .v4 : .v6)
            case WGALLOWEDIP_A_CIDR_MASK: length = attributes.uint8()
            default: break
            }
        }
        guard let address, address.family == family, Int(length) <= address.family.bitWidth else {
            return attributes.reject()
        }
        append(IPPrefix(canonical: address, length: length), from: first, &isAscending)
    }

    /// What was taken, with each peer's allowed IPs as a slice of all.
    mutating func finish() -> DeviceReading {
        for index in unsorted {
            prefixes[(index > 0 ? ends[index - 1] : 0)..<ends[index]].sort()
        }
        let all = prefixes[...]
        let ends = self.ends
        // Swapped, not copied: ten thousand peers would each be counted anew.
        var peers: [Peer] = []
        swap(&peers, &self.peers)
        var joined = peers.mutableSpan
        var start = 0
        for index in ends.indices {
            let end = ends[index]
            if end != start { joined[index].allowedIPs = PrefixList(ascending: all[start..<end]) }
            start = end
        }
        return DeviceReading(device: device, peers: peers, statistics: statistics)
    }
}

/// An attribute's header as one word, as it is loaded: two halves in host order, the length at the lower address.
@inline(__always)
private func header(_ type: some RawRepresentable<UInt32>, _ size: Int) -> UInt32 {
    let length = UInt32(size + MemoryLayout<nlattr>.size)
    let type = type.rawValue
    return UInt32(1).littleEndian == 1 ? type << 16 | length : length << 16 | type
}

/// The preshared key of 32 bytes at `offset` of the current attribute. The kernel says with zeros that there is none.
@inline(__always)
private func presharedKey(_ attributes: inout Attributes, at offset: Int = 0) -> PresharedKey {
    guard offset &+ 32 <= attributes.count else {
        attributes.reject()
        return .none
    }
    var bits: UInt64 = 0
    for word in 0..<4 { bits |= attributes.load(at: offset &+ word &* 8, as: UInt64.self) }
    return bits == 0 ? .none : .tag(SecretBytes.tag(of: attributes.payload, at: offset))
}

/// The struct __kernel_timespec at `offset` of the current attribute; zero means never.
@inline(__always)
private func handshake(_ attributes: inout Attributes, at offset: Int = 0) -> UnixTime? {
    let seconds = attributes.load(at: offset, as: Int64.self)
    let nanoseconds = attributes.load(at: offset &+ 8, as: Int64.self)
    if seconds | nanoseconds == 0 { return nil }
    return UnixTime(seconds: seconds, nanoseconds: Int32(truncatingIfNeeded: nanoseconds))
}

/// The current attribute as a struct sockaddr_in or sockaddr_in6.
@inline(__always)
private func socketAddress(_ attributes: inout Attributes) -> SocketAddress? {
    let port = UInt16(bigEndian: attributes.load(at: 2, as: UInt16.self))
    switch Int32(attributes.uint16()) {
    case AF_INET:
        return SocketAddress(IPAddress(v4: UInt32(bigEndian: attributes.load(at: 4, as: UInt32.self))), port: port)
    case AF_INET6:
        let high = UInt64(bigEndian: attributes.load(at: 8, as: UInt64.self))
        let low = UInt64(bigEndian: attributes.load(at: 16, as: UInt64.self))
        return SocketAddress(IPAddress(v6: high, low), port: port)
    default:
        return nil
    }
}
