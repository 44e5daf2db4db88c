// The work that Weft and the floor's programs share: the same peers and routes, by the same numbers.

import WeftKeys
import WeftModel

/// So many peers with an endpoint and one IPv4 allowed IP, and a route for each (see ../floor/apply.c).
struct Work {
    var peers: Int
    /// An IPv6 allowed IP for each peer as well, without a route.
    var hasIPv6 = false
    /// A preshared key for each peer.
    var hasPresharedKeys = false
    /// A table of nf_tables besides.
    var ruleset: Ruleset?
    var variant: UInt32 = 0

    static func mesh(_ interface: String) -> MeshIdentity { MeshIdentity(mesh: "bench", interface: interface) }

    /// - Parameters:
    ///   - changed: how many peers, spread evenly, have another allowed IP and its route besides.
    func desired(_ interface: String, _ arena: SecretArena, changed: Int = 0) -> DesiredState {
        let mesh = Self.mesh(interface)
        let step = changed > 0 ? peers / changed : peers + 1
        var state = HostState(link: Link(name: interface, mtu: 1420, alias: mesh.alias))
        var publicKeyOfDevice: PublicKey?
        var privateKey = Self.words(UInt64.max / 8)
        privateKey[0] &= 0xF8
        privateKey[31] = privateKey[31] & 0x7F | 0x40
        publicKeyOfDevice = nil
        state.device = Device(
            privateKey: arena.insert(privateKey.span), publicKey: publicKeyOfDevice, listenPort: nil)
        for number in 0..<peers {
            var prefixes = [IPPrefix(host: IPAddress(v4: 0x0A00_0000 + UInt32(number)))]
            if number % step == 0, changed > 0, number / step < changed {
                prefixes.append(IPPrefix(host: IPAddress(v4: 0x0B00_0000 + UInt32(number))))
            }
            for prefix in prefixes {
                state.routes.append(
                    Route(prefix, table: Route.mainTable, metric: 0, target: .interface, source: nil))
            }
            if hasIPv6 { prefixes.append(IPPrefix(host: IPAddress(v6: 0xFD00 << 48, UInt64(number)))) }
            var bytes = Self.words(UInt64(number))
            bytes[31] &= 0x7F
            guard let key = PublicKey(bytes: bytes.span) else { continue }
            var secret = PresharedKey.none
            if hasPresharedKeys { secret = .tag(arena.insert(Self.words(UInt64(number) + 1 << 32).span)) }
            let endpoint = SocketAddress(
                IPAddress(v4: 0xCB00_7100 + UInt32(number % 250) + 1), port: UInt16(20_000 + number % 40_000))
            state.peers.append(
                Peer(
                    publicKey: key, presharedKey: secret, allowedIPs: PrefixList(prefixes), endpoint: endpoint))
        }
        state.firewall = ruleset?.firewall(variant: variant)
        state.peers.sort { $0.publicKey < $1.publicKey }
        state.routes.sort { $0.key < $1.key }
        return DesiredState(mesh: mesh.mesh, interface: interface, node: "here", state: state)
    }

    /// 32 bytes that are the same for the same number, and look like nothing (SplitMix64).
    private static func words(_ number: UInt64) -> [UInt8] {
        var result: [UInt8] = []
        for word: UInt64 in 0..<4 {
            var mix = (number &* 4 &+ word &+ 1) &* 0x9E37_79B9_7F4A_7C15
            mix = (mix ^ (mix >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mix = (mix ^ (mix >> 27)) &* 0x94D0_49BB_1331_11EB
            mix ^= mix >> 31
            for shift: UInt64 in 0..<8 { result.append(UInt8(truncatingIfNeeded: mix >> (shift * 8))) }
        }
        return result
    }
}
