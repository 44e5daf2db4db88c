// Plans made by hand: every kind of operation once, and hosts of ten thousand.

import WeftModel
import WeftPlan

@testable import WeftRender

extension Samples {
    static func plan(_ operations: [PlannedOperation], foreign: [ForeignObject] = []) -> Plan {
        var plan = Plan(mesh: mesh, desired: nil, observed: Observation(time: now), memory: MeshMemory())
        plan.operations = operations
        plan.foreign = foreign
        plan.takesDown = operations.contains { if case .link(.remove) = $0.operation { true } else { false } }
        return plan
    }

    static var labels: PlanLabels {
        PlanLabels(
            node: "fra",
            peers: [
                key(2): "ams", key(3): "ana-laptop", key(4): "bob", key(5): "carl", key(6): "dora",
                key(8): "eve-new-phone",
            ],
            endpoints: [key(4): "bob.example.net:51820"])
    }

    /// Every operation that there is, in the order of a plan, and every kind of foreign object.
    static var everything: Plan {
        var operations = [
            PlannedOperation(.link(.removeHalfMade(name: mesh.reservedName))),
            PlannedOperation(
                .device(device), effect: .outage, scope: "every peer, until it has this host's new public key"),
            PlannedOperation(.link(.setAlias(interface: "wg0", from: "", to: mesh.alias))),
            PlannedOperation(.link(.setMTU(interface: "wg0", from: 1420, to: 1380))),
            PlannedOperation(
                .address(.add(InterfaceAddress(host: address("fd80::1")), interface: "wg0"))),
            PlannedOperation(.address(replacement(of: "10.80.0.1", .lifetime))),
            PlannedOperation(
                .address(replacement(of: "fd80::2", .attributes(peer: address("fd80::9")))), effect: .outage,
                scope: "for a moment, what comes from fd80::2"),
        ]
        operations += peerOperations
        operations += tunnelOperations
        var altered = route("10.80.0.8/32")
        altered.isAltered = true
        operations += [
            PlannedOperation(.link(.setUp(interface: "wg0"))),
            PlannedOperation(.route(.add(route("10.99.0.0/16"), interface: "wg0"))),
            PlannedOperation(.route(.add(route("10.98.0.0/16", source: nil, table: 100), interface: "wg0"))),
            PlannedOperation(.route(.add(unreachable("fd80::/48"), interface: "wg0"))),
            PlannedOperation(
                .route(
                    .replace(
                        old: route("10.80.0.7/32", source: "10.80.0.9"), new: route("10.80.0.7/32"), interface: "wg0"))),
            PlannedOperation(.route(.replace(old: altered, new: route("10.80.0.8/32"), interface: "wg0"))),
            PlannedOperation(.route(.remove(route("10.1.0.0/16"), interface: "wg0"))),
            PlannedOperation(
                .address(.remove(InterfaceAddress(host: address("10.80.0.9")), interface: "wg0")), effect: .outage,
                scope: "connections of 10.80.0.9 only"),
            PlannedOperation(
                .sysctl(
                    .release(
                        path: "net/ipv6/conf/all/forwarding", from: "1", restore: "0",
                        companions: [Sysctl("net/ipv6/conf/br0/forwarding", "1")])), effect: .outage,
                scope: "all IPv6 that this host forwards"),
            PlannedOperation(.sysctl(.release(path: "net/ipv4/conf/eth0.7/rp_filter", from: "2", restore: nil))),
            PlannedOperation(.sysctl(.claim(Sysctl("net/ipv4/ip_forward", "1"), from: "0"))),
            PlannedOperation(.sysctl(.hold(Sysctl("net/ipv4/conf/all/src_valid_mark", "1")))),
        ]
        var result = plan(
            operations,
            foreign: [
                ForeignObject(kind: "address", description: "10.7.7.7/24 dev wg0 proto static"),
                ForeignObject(
                    kind: "route", description: "10.97.0.0/16 via 192.0.2.1 dev eth0 proto static",
                    relation: .blocksRoute(route("10.97.0.0/16").key),
                    remedy: "remove it with `ip route del 10.97.0.0/16`, or take 10.97.0.0/16 out of carl's allowedIPs"),
            ])
        result.takeovers = [
            prefix("10.80.1.9/32"): Takeover(from: key(7), within: prefix("10.80.1.9/32")),
            prefix("10.2.0.0/16"): Takeover(from: key(3), within: prefix("10.2.0.0/16")),
            prefix("10.3.0.0/16"): Takeover(from: key(4), within: prefix("10.0.0.0/12")),
        ]
        return result
    }

    private static func replacement(
        of text: String, _ alteration: InterfaceAddress.Alteration
    ) -> AddressOperation {
        let new = InterfaceAddress(host: address(text))
        var old = new
        old.alteration = alteration
        return .replace(old: old, new: new, interface: "wg0")
    }

    private static func bytes(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

    private static func name(_ text: String) -> [UInt8] {
        Array(text.utf8) + [UInt8](repeating: 0, count: 16 - text.utf8.count)
    }

    private static func flows(_ count: UInt32) -> FirewallSet {
        let elements = (0..<count).map { index in
            var key = FirewallKey()
            key.append(IPAddress(v4: 0x0A50_0001 + index))
            key.append(address("192.168.3.0"))
            key.append(transport: 6)
            key.append(port: 22)
            var last = FirewallKey()
            last.append(IPAddress(v4: 0x0A50_0001 + index))
            last.append(address("192.168.3.255"))
            last.append(transport: 6)
            last.append(port: 25)
            return FirewallSet.Element(key, last, counter: "access-0badcafe")
        }
        return FirewallSet("ports4", [.address4, .address4, .transport, .port], hasCounters: true, elements: elements)
    }

    private static var masquerade: FirewallChain {
        FirewallChain(
            "postrouting", base: .init(.nat, .postrouting, priority: 100),
            rules: [
                FirewallRule([
                    .meta(.outputInterface), .compare(.notEqual, name("wg0")), .meta(.family), .compare(.equal, [2]),
                    .payload(.network, offset: 12, length: 4), .lookup(set: "sources4"), .counter, .masquerade,
                ])
            ])
    }

    private static var access: FirewallChain {
        FirewallChain(
            "access",
            rules: [
                FirewallRule(
                    [
                        .meta(.family), .compare(.equal, [2]), .meta(.transport), .compare(.equal, [6]),
                        .tuple(.original, .source4), .tuple(.reply, .source4, into: 1),
                        .meta(.transport, into: 2), .tuple(.reply, .sourcePort, into: 3),
                        .countByMap(set: "ports4"), .verdict(.accept),
                    ], comment: "permitted flows"),
                FirewallRule([.countBy("access-refused"), .reject(.prohibited)]),
            ])
    }

    private static func input(_ port: UInt8) -> FirewallChain {
        FirewallChain(
            "input", base: .init(.filter, .input, priority: 0),
            rules: [
                FirewallRule([
                    .meta(.transport), .compare(.equal, [17]), .payload(.transport, offset: 2, length: 2),
                    .compare(.equal, [0xCA, port]), .verdict(.accept),
                ]),
                FirewallRule([.meta(.inputInterface), .compare(.equal, name("wg0")), .verdict(.jump("access"))]),
            ])
    }

    static var oldFirewall: Firewall {
        let killSwitch = FirewallChain(
            "output", base: .init(.filter, .output, priority: 0, dropsByDefault: true),
            rules: [
                FirewallRule([
                    .meta(.mark), .compare(.notEqual, bytes(0xCA6C)), .addressType(.destination),
                    .compare(.notEqual, bytes(2)), .unknown("limit"), .counter, .reject(.prohibited),
                ])
            ])
        return Firewall(
            chains: [input(0x6C), killSwitch, masquerade], sets: [flows(3)],
            counters: [FirewallCounter("access-0badcafe", comment: "ops → fra: tcp/22")],
            strangers: ["flowtable fast"])
    }

    static var newFirewall: Firewall {
        Firewall(
            chains: [access, input(0x6D), masquerade], sets: [flows(20)],
            counters: [
                FirewallCounter("access-0badcafe", comment: "ops → fra: tcp/22"), FirewallCounter("access-refused"),
            ])
    }

    private static var tunnelOperations: [PlannedOperation] {
        let suppress = PolicyRule(.v4, priority: 10_000, .lookupMainWithoutDefault)
        let tunnel = PolicyRule(.v4, priority: 10_001, .lookupUnlessMarked(mark: 0x7712_3456, table: 0x7712_3456))
        let setting = ResolverSetting(interface: "wg0", servers: [address("10.80.0.1")], domains: ["corp.internal"])
        return [
            PlannedOperation(
                .firewall(.change(FirewallChange(desired: newFirewall, live: oldFirewall), table: "weft-wg0"))),
            PlannedOperation(.rule(.add(suppress))),
            PlannedOperation(.rule(.remove(tunnel)), effect: .outage, scope: "connections by the default route"),
            PlannedOperation(.resolver(.set(setting, old: nil))),
        ]
    }

    private static var device: DeviceOperation {
        var device = DeviceOperation(interface: "wg0", oldFwMark: 0)
        device.privateKey = SecretTag(9, 9)
        device.oldPublicKey = key(9)
        device.newPublicKey = key(1)
        device.oldListenPort = 51820
        device.listenPort = 51821
        device.fwMark = 0xCA6C
        return device
    }

    private static var peerOperations: [PlannedOperation] {
        var settings = PeerChange(
            of: peer(4, [], endpoint: "192.0.2.44", keepalive: 25, presharedKey: .tag(SecretTag(5, 5))))
        settings.endpoint = SocketAddress(address("192.0.2.45"), port: 51821)
        settings.persistentKeepalive = 0
        settings.presharedKey = PresharedKey.none
        var rekeyed = PeerChange(of: peer(6, [], presharedKey: .tag(SecretTag(5, 5))))
        rekeyed.presharedKey = .tag(SecretTag(6, 6))
        var keyed = PeerChange(of: peer(5, []))
        keyed.presharedKey = .tag(SecretTag(7, 7))
        keyed.persistentKeepalive = 15
        keyed.endpoint = SocketAddress(address("2001:db8::5"), port: 51820)
        keyed.added = [prefix("10.2.0.0/16"), prefix("10.3.0.0/16")]
        var loser = PeerChange(of: peer(3, ["10.1.0.0/16", "10.2.0.0/16"]))
        loser.removed = [prefix("10.1.0.0/16")]
        loser.moved = [PeerChange.Move(prefix: prefix("10.2.0.0/16"), to: key(5))]
        let scope = "traffic ends after 3 minutes unless the peer has the same preshared key"
        return [
            PlannedOperation(
                .peer(
                    .add(
                        peer(2, ["10.80.0.2", "fd80::2"], endpoint: "2001:db8::7", presharedKey: .tag(SecretTag(3, 4))))
                )),
            PlannedOperation(.peer(.add(peer(8, ["10.80.1.9", "fd80::9"], keepalive: 25, presharedKey: .external)))),
            PlannedOperation(.peer(.change(loser)), effect: .outage, scope: "10.1.0.0/16 only"),
            PlannedOperation(.peer(.change(settings)), effect: .rehandshake, scope: scope),
            PlannedOperation(.peer(.change(keyed)), effect: .rehandshake, scope: scope),
            PlannedOperation(.peer(.change(rekeyed)), effect: .rehandshake, scope: scope),
            PlannedOperation(.peer(.remove(peer(7, ["10.80.1.9", "10.80.1.10"]))), effect: .outage),
        ]
    }

    /// A host that meets `count` peers for the first time. The first one has 3,000 networks behind it.
    static func large(_ count: Int) -> (plan: Plan, labels: PlanLabels) {
        var desired = desired
        desired.state.peers = (0..<count).map { index in
            let bits = UInt64(index)
            var prefixes = [
                IPPrefix(host: IPAddress(v4: 0x0A50_0000 + UInt32(index + 2))),
                IPPrefix(host: IPAddress(v6: 0xFD80_0000_0000_0000, bits + 2)),
            ]
            if index == 0 {
                prefixes += (0..<3000).map { IPPrefix(IPAddress(v4: 0x0B00_0000 + UInt32($0) << 8), length: 24) }
            }
            return Peer(
                publicKey: PublicKey(bigEndianWords: bits << 32 | 0x1234_5678, bits, 7, 0xFF00),
                allowedIPs: PrefixList(prefixes))
        }
        desired.peerNames = Dictionary(
            uniqueKeysWithValues: desired.state.peers.enumerated().map { index, peer in
                let digits = String(index)
                return (peer.publicKey, "node-" + String(repeating: "0", count: 5 - digits.count) + digits)
            })
        desired.endpointNames = [:]
        desired.state.routes = desired.state.peers.flatMap(\.allowedIPs).map {
            route($0.description, source: $0.family == .v4 ? "10.80.0.1" : "fd80::1")
        }
        desired.state.routes.sort { $0.key < $1.key }
        var before = desired.state
        before.peers = []
        before.routes = []
        before.sysctls = sysctlsBefore
        return (plan(desired, from: Observation(state: before, time: now)), PlanLabels(desired))
    }
}
