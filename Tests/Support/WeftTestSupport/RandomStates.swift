// Random desired states, from a seed, so that a failing case can be run again.

package import WeftModel

/// A small generator with a seed (SplitMix64).
package struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }

    package mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self) < percent }
}

/// A random state of one mesh: few keys and prefixes, so that two of them overlap, move and swap.
package func randomDesiredState(_ random: inout SeededGenerator, mesh: MeshIdentity) -> DesiredState {
    let own = IPAddress(v4: 0x0A50_0001 + UInt32.random(in: 0..<3, using: &random))
    var addresses = [InterfaceAddress(host: own)]
    let mtu: UInt32 = random.chance(20) ? 1380 : 1420
    let six = IPAddress(v6: 0xFD80_0000_0000_0000, 1)
    if random.chance(50) { addresses.append(InterfaceAddress(host: six)) }
    var pool = (0..<24).map {
        IPPrefix(IPAddress(v4: 0x0A51_0000 + UInt32($0) << 8), length: random.chance(50) ? 24 : 32)
    }
    pool += (0..<6).map { IPPrefix(IPAddress(v6: 0xFD81_0000_0000_0000 + UInt64($0) << 32, 0), length: 96) }
    pool.shuffle(using: &random)
    var peers: [Peer] = []
    for number in 1...8 where random.chance(60) {
        let count = min(pool.count, Int.random(in: 0...5, using: &random))
        let prefixes = pool.suffix(count)
        pool.removeLast(count)
        peers.append(
            Peer(
                publicKey: PublicKey(bigEndianWords: UInt64(number) << 40, 7, 7, 7),
                presharedKey: random.chance(30) ? .tag(SecretTag(UInt64(number), random.next() % 2)) : .none,
                persistentKeepalive: random.chance(50) ? 25 : 0,
                allowedIPs: PrefixList(prefixes),
                endpoint: random.chance(60)
                    ? SocketAddress(
                        IPAddress(v4: 0xC000_0200 + UInt32(number)), port: 51_820 + UInt16(random.next() % 2))
                    : nil))
    }
    var routes: [Route] = []
    let table: UInt32 = random.chance(20) ? 1000 : Route.mainTable
    let hasSix = addresses.count > 1
    for peer in peers {
        for prefix in peer.allowedIPs where prefix.family == .v4 || hasSix {
            routes.append(
                Route(
                    prefix, table: table, metric: Route.defaultMetric(prefix.family), target: .interface,
                    source: prefix.family == .v4 ? own : six))
        }
    }
    routes.append(
        Route(
            IPPrefix(IPAddress(v4: 0x0A50_0000), length: 16), table: table, metric: mesh.unreachableMetric,
            target: .unreachable, source: nil))
    return DesiredState(
        mesh: mesh.mesh, interface: mesh.interface, node: "here",
        state: HostState(
            link: Link(name: mesh.interface, mtu: mtu, alias: mesh.alias),
            device: Device(
                privateKey: SecretTag(1, 1), publicKey: PublicKey(bigEndianWords: 9, 9, 9, 9),
                listenPort: random.chance(70) ? 51_820 : nil, fwMark: random.chance(20) ? 0x77 : 0),
            addresses: addresses.sorted { $0.key < $1.key },
            peers: peers,
            routes: routes.sorted { $0.key < $1.key },
            sysctls: random.chance(40) ? [Sysctl("net/ipv4/ip_forward", "1")] : []))
}
