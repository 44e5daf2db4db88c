// Hosts to make plans from: small ones that a person can read, and one of every kind of operation.

import WeftModel
import WeftPlan

@testable import WeftRender

enum Samples {
    static let mesh = MeshIdentity(mesh: "corp", interface: "wg0")

    /// A key made of one byte, so that goldens stay readable: keys are told apart by their first characters.
    static func key(_ seed: UInt8) -> PublicKey {
        var state = UInt64(seed) &* 0x9E37_79B9_7F4A_7C15 &+ 1
        func next() -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state
        }
        return PublicKey(bigEndianWords: next(), next(), next(), next() & ~0xFF)
    }

    static func address(_ text: String) -> IPAddress {
        IPAddress(text) ?? IPAddress(v4: 0)
    }

    static func prefix(_ text: String) -> IPPrefix {
        IPPrefix(text) ?? IPPrefix(host: address(text))
    }

    static func route(_ text: String, source: String? = "10.80.0.1", table: UInt32 = Route.mainTable) -> Route {
        let prefix = prefix(text)
        return Route(
            prefix, table: table, metric: Route.defaultMetric(prefix.family), target: .interface,
            source: source.map(address))
    }

    static func unreachable(_ text: String) -> Route {
        Route(
            prefix(text), table: Route.mainTable, metric: mesh.unreachableMetric, target: .unreachable, source: nil)
    }

    static func peer(
        _ seed: UInt8, _ allowedIPs: [String], endpoint: String? = nil, keepalive: UInt16 = 0,
        presharedKey: PresharedKey = .none
    ) -> Peer {
        Peer(
            publicKey: key(seed), presharedKey: presharedKey, persistentKeepalive: keepalive,
            allowedIPs: PrefixList(allowedIPs.map(prefix)),
            endpoint: endpoint.map { SocketAddress(address($0), port: 51820) })
    }

    /// The node fra of the mesh corp with its peers ams, ana-laptop and bob.
    static var desired: DesiredState {
        var state = HostState(
            link: Link(name: "wg0", mtu: 1420, alias: "weft:corp"),
            device: Device(privateKey: SecretTag(1, 2), publicKey: key(1), listenPort: 51820),
            addresses: [
                InterfaceAddress(host: address("10.80.0.1")), InterfaceAddress(host: address("fd80::1")),
            ],
            peers: [
                peer(
                    2, ["10.80.0.2", "fd80::2", "192.168.3.0/24"], endpoint: "2001:db8::7",
                    presharedKey: .tag(SecretTag(3, 4))),
                peer(3, ["10.80.1.7"], keepalive: 25),
                peer(4, ["10.80.1.8"], endpoint: "192.0.2.44"),
            ],
            rules: [
                PolicyRule(.v4, priority: 10_000, .lookupMainWithoutDefault),
                PolicyRule(.v4, priority: 10_001, .lookupUnlessMarked(mark: 0x7712_3456, table: 0x7712_3456)),
            ],
            sysctls: [Sysctl("net/ipv4/ip_forward", "1"), Sysctl("net/ipv4/conf/eth0.7/forwarding", "1")],
            firewall: newFirewall,
            resolver: ResolverSetting(
                interface: "wg0", servers: [address("10.80.0.1"), address("fd80::1")], domains: ["corp.internal"]))
        state.peers.sort { $0.key < $1.key }
        state.routes =
            state.peers.flatMap(\.allowedIPs).map {
                route($0.description, source: $0.family == .v4 ? "10.80.0.1" : "fd80::1")
            } + [unreachable("10.80.0.0/16"), unreachable("fd80::/48")]
        state.routes.sort { $0.key < $1.key }
        return DesiredState(
            mesh: "corp", interface: "wg0", node: "fra", state: state,
            peerNames: [key(2): "ams", key(3): "ana-laptop", key(4): "bob"],
            endpointNames: [key(4): "bob.example.net:51820"])
    }

    static let now = UnixTime(seconds: 1_798_761_600)

    static var sysctlsBefore: [Sysctl] {
        [Sysctl("net/ipv4/ip_forward", "0"), Sysctl("net/ipv4/conf/eth0.7/forwarding", "1")]
    }

    static func plan(_ desired: DesiredState?, from observed: Observation, memory: MeshMemory = MeshMemory()) -> Plan {
        Plan(mesh: mesh, desired: desired, observed: observed, memory: memory)
    }
}
