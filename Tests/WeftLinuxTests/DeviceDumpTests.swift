// The decoder of WireGuard devices against messages written by hand: split peers, odd layouts, nonsense.

import CLinux
import Glibc
import Netlink
import Testing
import WeftKeys
import WeftModel
import WeftPlan

@testable import WeftLinux

/// Answers one dump with what a test encoded, and keeps what was sent.
final class OneDump: Transport {
    let port: UInt32 = 7
    private let messages: [(inout Encoder) -> Void]
    private var next = 0
    private(set) var sent: [[UInt8]] = []

    init(_ messages: [(inout Encoder) -> Void]) { self.messages = messages }

    func send(_ bytes: RawSpan) throws(Errno) { sent.append(bytes.withUnsafeBytes { Array($0) }) }

    func receive(into buffer: inout MutableRawSpan) throws(Errno) -> Int {
        var encoder = Encoder(capacity: 60_000)
        let isLast = next == messages.count
        encoder.begin(isLast ? UInt16(NLMSG_DONE) : 30, flags: 0)
        if isLast {
            encoder.put(Int32(0))
        } else {
            encoder.putGenericHeader(command: 0, version: 1)
            messages[next](&encoder)
        }
        encoder.end()
        next += 1
        do throws(NetlinkError) {
            let bytes = try encoder.finish().withUnsafeBytes { Array($0) }
            for (index, byte) in bytes.enumerated() {
                buffer.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
            }
            // Sequence and port, which `begin` leaves open.
            buffer.storeBytes(of: 1, toByteOffset: 8, as: UInt32.self)
            buffer.storeBytes(of: port, toByteOffset: 12, as: UInt32.self)
            return bytes.count
        } catch {
            throw Errno(EIO)
        }
    }
}

struct DeviceDumpTests {
    private func read(_ messages: [(inout Encoder) -> Void]) throws(DataplaneError) -> DeviceReading {
        var control = KernelWireGuard(
            channel: Channel(OneDump(messages)), family: 30, interface: 3, name: "wg0",
            secrets: { () throws(DataplaneError) in SecretArena(capacity: 1) })
        return try control.read()
    }

    private func peers(_ body: @escaping (inout Encoder) -> Void) -> (inout Encoder) -> Void {
        { encoder in encoder.nest(UInt16(WGDEVICE_A_PEERS), body) }
    }

    private func put(_ number: Int, _ prefixes: [String], _ encoder: inout Encoder, isOdd: Bool = false) {
        encoder.nest(0) { peer in
            peer.attribute(UInt16(WGPEER_A_PUBLIC_KEY), key(number))
            peer.nest(UInt16(WGPEER_A_ALLOWEDIPS)) { list in
                for text in prefixes {
                    list.nest(0) { entry in
                        let value = prefix(text)
                        if isOdd { entry.attribute(99, UInt64(1)) }
                        // As the kernel has it: the length first; or as its documentation has it.
                        if !isOdd { entry.attribute(UInt16(WGALLOWEDIP_A_CIDR_MASK), value.length) }
                        entry.attribute(UInt16(WGALLOWEDIP_A_FAMILY), UInt16(value.family.number))
                        entry.attribute(UInt16(WGALLOWEDIP_A_IPADDR), value.address)
                        if isOdd { entry.attribute(UInt16(WGALLOWEDIP_A_CIDR_MASK), value.length) }
                    }
                }
            }
        }
    }

    @Test(arguments: [false, true])
    func joinsSplitPeersAndSortsThem(_ isOdd: Bool) throws {
        let reading = try read([
            peers {
                put(1, ["10.0.0.1/32", "10.0.0.3/32"], &$0, isOdd: isOdd)
                put(2, ["10.0.0.9/32"], &$0, isOdd: isOdd)
            },
            peers {
                put(2, ["10.0.0.2/32", "fd00::/64"], &$0, isOdd: isOdd)
                put(3, [], &$0)
            },
            peers { put(3, ["fd00::1/128", "0.0.0.0/0", "::/0"], &$0, isOdd: isOdd) },
            peers { put(3, ["10.9.0.0/16"], &$0, isOdd: isOdd) },
        ])
        #expect(reading.peers.map(\.publicKey) == [key(1), key(2), key(3)])
        #expect(reading.statistics.count == 3)
        let texts = reading.peers.map { $0.allowedIPs.map(\.description) }
        #expect(
            texts == [
                ["10.0.0.1/32", "10.0.0.3/32"], ["10.0.0.2/32", "10.0.0.9/32", "fd00::/64"],
                ["0.0.0.0/0", "10.9.0.0/16", "::/0", "fd00::1/128"],
            ])
    }

    @Test func knowsSecretsByTheirTagsOnly() throws {
        let clamped = [UInt8](repeating: 0x48, count: 32)
        var given = clamped
        given[0] |= 7
        given[31] |= 0x80
        let reading = try read([
            { encoder in
                encoder.attribute(UInt16(WGDEVICE_A_PRIVATE_KEY), secret: given.span)
                encoder.attribute(UInt16(WGDEVICE_A_LISTEN_PORT), UInt16(0))
                encoder.attribute(UInt16(WGDEVICE_A_FWMARK), UInt32(9))
                encoder.nest(UInt16(WGDEVICE_A_PEERS)) { list in
                    for byte: UInt8 in [0, 5] {
                        list.nest(0) { peer in
                            let secret = [UInt8](repeating: byte, count: 32)
                            peer.attribute(UInt16(WGPEER_A_PUBLIC_KEY), key(Int(byte)))
                            peer.attribute(UInt16(WGPEER_A_PRESHARED_KEY), secret: secret.span)
                        }
                    }
                }
            }
        ])
        #expect(reading.device.privateKey == SecretTagger.tag(clamped.span))
        #expect(reading.device.listenPort == nil)
        #expect(reading.device.fwMark == 9)
        let five = [UInt8](repeating: 5, count: 32)
        #expect(reading.peers.map(\.presharedKey) == [.none, .tag(SecretTagger.tag(five.span))])
    }

    @Test func readsEndpointsAndStatistics() throws {
        let endpoints = [
            SocketAddress(IPAddress(v4: 0xC000_0201), port: 51_820),
            SocketAddress(IPAddress(v6: 0x2001_0DB8 << 32, 7), port: 9),
        ]
        let reading = try read([
            peers { list in
                for (number, endpoint) in endpoints.enumerated() {
                    list.nest(0) { peer in
                        peer.attribute(UInt16(WGPEER_A_PUBLIC_KEY), key(number))
                        peer.attribute(UInt16(WGPEER_A_ENDPOINT), endpoint)
                        peer.attribute(UInt16(WGPEER_A_LAST_HANDSHAKE_TIME), pair: UInt64(number * 100), 7)
                        peer.attribute(UInt16(WGPEER_A_RX_BYTES), UInt64(1))
                        peer.attribute(UInt16(WGPEER_A_TX_BYTES), UInt64(2))
                        peer.attribute(UInt16(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL), UInt16(25))
                    }
                }
            }
        ])
        #expect(reading.peers.map(\.endpoint) == endpoints)
        #expect(reading.peers.map(\.persistentKeepalive) == [25, 25])
        let expected = PeerStatistics(
            lastHandshake: UnixTime(seconds: 100, nanoseconds: 7), receivedBytes: 1, sentBytes: 2)
        #expect(reading.statistics.last == expected)
    }

    @Test func refusesNonsense() {
        let nonsense: [(inout Encoder) -> Void] = [
            // A peer without a key; a key that is too short; a prefix that is too long; families that disagree.
            peers { $0.nest(0) { $0.attribute(UInt16(WGPEER_A_TX_BYTES), UInt64(2)) } },
            peers { $0.nest(0) { $0.attribute(UInt16(WGPEER_A_PUBLIC_KEY), UInt64(2)) } },
            peers { list in
                list.nest(0) { peer in
                    peer.attribute(UInt16(WGPEER_A_PUBLIC_KEY), key(1))
                    peer.nest(UInt16(WGPEER_A_ALLOWEDIPS)) { allowed in
                        allowed.nest(0) { entry in
                            entry.attribute(UInt16(WGALLOWEDIP_A_CIDR_MASK), UInt8(33))
                            entry.attribute(UInt16(WGALLOWEDIP_A_FAMILY), UInt16(AF_INET))
                            entry.attribute(UInt16(WGALLOWEDIP_A_IPADDR), UInt32(1))
                        }
                    }
                }
            },
            peers { list in
                list.nest(0) { peer in
                    peer.attribute(UInt16(WGPEER_A_PUBLIC_KEY), key(1))
                    peer.nest(UInt16(WGPEER_A_ALLOWEDIPS)) { allowed in
                        allowed.nest(0) { entry in
                            entry.attribute(UInt16(WGALLOWEDIP_A_CIDR_MASK), UInt8(3))
                            entry.attribute(UInt16(WGALLOWEDIP_A_FAMILY), UInt16(AF_INET6))
                            entry.attribute(UInt16(WGALLOWEDIP_A_IPADDR), UInt32(1))
                        }
                    }
                }
            },
        ]
        for message in nonsense {
            do throws(DataplaneError) {
                _ = try read([message])
                Issue.record("nonsense was taken")
            } catch {
                #expect(error.code == .unsupported)
            }
        }
    }
}
