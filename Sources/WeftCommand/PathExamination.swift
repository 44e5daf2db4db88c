// What only packets can tell: whether peers answer, and what lies beyond the exit.

internal import Glibc
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftRender
internal import WeftStatus

/// Whether access rules let one address send echo requests to another. Who may not is not asked: its silence would say
/// nothing.
typealias EchoPolicy = (_ source: IPAddress, _ destination: IPAddress) -> Bool

/// Why a packet did not leave this host, and what to do.
func whyUnsent(_ number: Int32, isRoot: Bool = geteuid() == 0) -> (reason: String, remedy: String) {
    if number != EPERM { return ("error \(number)", "") }
    return isRoot
        ? ("a rule of this host refuses it", "see which: the kill switch of another mesh, or another's firewall")
        : ("only root may", "run `weft doctor` as root")
}

/// Whether peers answer, and to which size.
struct PathExamination {
    typealias Finding = DoctorDocument.Finding

    private let desired: DesiredState
    /// Of nodes, by key.
    private let names: [PublicKey: String]
    private let observation: Observation
    private let permits: EchoPolicy
    /// How many peers are asked. More would take minutes, and show the same.
    private static let limit = 16

    init(
        _ desired: DesiredState, _ names: [PublicKey: String], _ observation: Observation,
        permits: @escaping EchoPolicy
    ) {
        self.desired = desired
        self.names = names
        self.observation = observation
        self.permits = permits
    }

    var findings: [Finding] {
        guard let link = observation.state.link, link.isUp else { return [] }
        var findings: [Finding] = []
        var well = 0
        var unasked: [String] = []
        for (peer, statistics) in zip(observation.state.peers, observation.statistics).prefix(Self.limit * 4) {
            let age = statistics.lastHandshake.map { max(0, observation.time.seconds(since: $0)) }
            guard PeerState(handshakeAge: age) == .up, well + findings.count < Self.limit else { continue }
            let ways = peer.allowedIPs.filter { $0.isHost }.compactMap { target in
                observation.state.addresses.first { $0.address.family == target.family }.map {
                    (source: $0.address, target: target.address)
                }
            }
            if ways.isEmpty { continue }
            let name = names[peer.publicKey] ?? String(peer.publicKey.base64.prefix(8)) + "…"
            guard let way = ways.first(where: { permits($0.source, $0.target) }) else {
                unasked.append(name)
                continue
            }
            let probe = EchoProbe(interface: link.name, source: way.source)
            if let finding = examine(name, way.target, probe, mtu: Int(link.mtu)) {
                findings.append(finding)
            } else {
                well += 1
            }
        }
        if let finding = Self.finding(unasked: unasked) { findings.append(finding) }
        if well > 0 {
            findings.insert(
                Finding(
                    "path", .ok, "\(well == 1 ? "1 peer answers" : "\(well) peers answer") packets of \(link.mtu) bytes"
                ),
                at: 0)
        }
        return findings
    }

    /// - Parameter names: of peers that the access rules let this host send no echo requests to.
    static func finding(unasked names: [String]) -> Finding? {
        if names.isEmpty { return nil }
        let more = names.count > 4 ? " and \(names.count - 4) more" : ""
        return Finding(
            "path", .unknown,
            "whether packets of full size get to \(names.prefix(4).joined(separator: ", "))\(more) was not looked at: the "
                + "access rules let this host send no echo requests there",
            remedy: "a rule with `icmp` would")
    }

    /// Nil where packets of full size come back.
    private func examine(_ name: String, _ address: IPAddress, _ probe: EchoProbe, mtu: Int) -> Finding? {
        func answer(_ size: Int) -> EchoProbe.Answer {
            let first = probe.send(to: address, size: size, patience: .milliseconds(800))
            return first == .silence ? probe.send(to: address, size: size, patience: .milliseconds(800)) : first
        }
        switch answer(mtu) {
        case .echoed: return nil
        case .refused(let number):
            let (reason, remedy) = whyUnsent(number)
            return Finding(
                "path", .unknown, "no echo request to \(name) (\(address)) could be sent: \(reason)", remedy: remedy)
        case .silence, .expired, .unreachable: break
        }
        guard answer(EchoProbe.smallest(address.family) + 56) == .echoed else {
            return Finding(
                "path", .warning, "\(name) has a session, and does not answer echo requests at \(address)",
                remedy: "its firewall may refuse them; otherwise look there: `weft doctor`")
        }
        var low = EchoProbe.smallest(address.family) + 56
        var high = mtu
        while high - low > 8 {
            let middle = (low + high) / 2
            if answer(middle) == .echoed { low = middle } else { high = middle }
        }
        return Finding(
            "path", .error, "packets to \(name) get lost when they are longer than \(low) bytes, and the MTU is \(mtu)",
            remedy: Self.remedy(
                fitting: low, hasIPv6: desired.state.addresses.contains { $0.address.family == .v6 }))
    }

    /// - Parameter length: in bytes: packets of this length get through.
    static func remedy(fitting length: Int, hasIPv6: Bool) -> String {
        let mtu = length / 4 * 4
        if hasIPv6, mtu < 1280 {
            return
                "mend the path: something on it drops what tells of the limit. `mtu: \(mtu)` would fit, and would cost "
                + "this node its IPv6 in the mesh, which needs 1280 bytes"
        }
        return
            "set `mtu: \(mtu)` for this node in the topology, or mend the path: something on it drops what tells of the "
            + "limit"
    }
}

/// Whether there is anything beyond the exit of a host that sends everything through one.
struct ExitExamination {
    typealias Finding = DoctorDocument.Finding

    private let desired: DesiredState
    /// Of nodes, by key.
    private let names: [PublicKey: String]
    private let observation: Observation
    private let permits: EchoPolicy
    /// How many routers beyond the exit are asked. Some say nothing.
    private static let depth: Int32 = 5

    /// What came of asking.
    enum Sight: Hashable {
        /// A router beyond the exit was heard of.
        case open
        /// The exit, or a router, refuses what goes on: who says so.
        case refused(IPAddress)
        /// The exit sends packets on, and nobody beyond it answers.
        case blocked
        /// The exit sends nothing on.
        case closed
        /// Nothing was asked: access rules would refuse it.
        case forbidden
        /// Nothing that was asked left this host: the error number.
        case unsent(Int32)
    }

    init(
        _ desired: DesiredState, _ names: [PublicKey: String], _ observation: Observation,
        permits: @escaping EchoPolicy
    ) {
        self.desired = desired
        self.names = names
        self.observation = observation
        self.permits = permits
    }

    /// One for each family that goes out through the exit, while there is a session with it: without, that is told already.
    var findings: [Finding] {
        guard let link = observation.state.link, link.isUp, !desired.state.rules.isEmpty else { return [] }
        return IPAddress.Family.allCases.compactMap { family in
            let leads = desired.state.routes.contains { route in
                route.prefix.isDefault && route.prefix.family == family && route.target == .interface
            }
            guard leads, let exit = exit(family),
                let source = observation.state.addresses.first(where: { $0.address.family == family })
            else { return nil }
            let probe = EchoProbe(interface: link.name, source: source.address)
            let target = Self.target(family)
            let sight = permits(source.address, target) ? Self.look(probe, at: target) : .forbidden
            return Self.finding(sight, exit: exit, family)
        }
    }

    /// The name of the peer that gets all that has no other way, while it is up.
    private func exit(_ family: IPAddress.Family) -> String? {
        for (peer, statistics) in zip(observation.state.peers, observation.statistics)
        where peer.allowedIPs.contains(where: { $0.isDefault && $0.family == family }) {
            let age = statistics.lastHandshake.map { max(0, observation.time.seconds(since: $0)) }
            guard PeerState(handshakeAge: age) == .up else { return nil }
            return names[peer.publicKey] ?? String(peer.publicKey.base64.prefix(8)) + "…"
        }
        return nil
    }

    /// The target is an address of documentation (RFC 5737, RFC 3849): the request is to end on its way, and never to come
    /// to anybody.
    private static func target(_ family: IPAddress.Family) -> IPAddress {
        family == .v4 ? IPAddress(v4: 0xC633_6401) : IPAddress(v6: 0x2001_0DB8_FFFF_FFFF, 1)
    }

    private static func look(_ probe: EchoProbe, at target: IPAddress) -> Sight {
        func ask(_ hops: Int32) -> EchoProbe.Answer {
            probe.send(to: target, hops: hops, patience: .milliseconds(800))
        }
        var exit: IPAddress?
        for _ in 0..<2 where exit == nil {
            switch ask(1) {
            case .expired(let router): exit = router
            case .unreachable(let router): return .refused(router)
            case .refused(let number) where number == EPERM: return .unsent(number)
            case .echoed, .silence, .refused: break
            }
        }
        for hops in 2...1 + depth {
            switch ask(hops) {
            case .expired, .echoed: return .open
            // A router further away that knows no way on is one beyond the exit.
            case .unreachable(let router): return exit == nil || router == exit ? .refused(router) : .open
            case .silence, .refused: break
            }
        }
        return exit == nil ? .closed : .blocked
    }

    static func finding(_ sight: Sight, exit: String, _ family: IPAddress.Family) -> Finding {
        let name = family == .v4 ? "IPv4" : "IPv6"
        let setting = family == .v4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding"
        switch sight {
        case .open: return Finding("exit", .ok, "beyond the exit \(exit), routers answer (\(name))")
        case .refused(let router):
            return Finding(
                "exit", .error,
                "there is a session with the exit \(exit), and \(router) refuses what is to go on "
                    + "(\(name))",
                remedy: "at \(exit): look at its default route, at others' firewalls and at the access rules; "
                    + "`weft doctor` there names them")
        case .blocked:
            return Finding(
                "exit", .warning,
                "there is a session with the exit \(exit), which sends packets on, and nothing comes back from beyond it "
                    + "(\(name))",
                remedy: "at \(exit): a firewall that drops what is forwarded, or no "
                    + "`masquerade`; `weft doctor` there names what it finds. Routers that say nothing look the same")
        case .forbidden:
            return Finding(
                "exit", .unknown,
                "whether anything answers beyond the exit \(exit) was not looked at: the access rules let this host send no "
                    + "echo requests to the internet (\(name))",
                remedy: "a rule with `icmp` would")
        case .unsent(let number):
            let (reason, remedy) = whyUnsent(number)
            return Finding(
                "exit", .unknown,
                "whether anything answers beyond the exit \(exit) was not looked at: no echo request could be sent: "
                    + "\(reason) (\(name))",
                remedy: remedy)
        case .closed:
            return Finding(
                "exit", .error,
                "there is a session with the exit \(exit), and it sends nothing on (\(name))",
                remedy:
                    "at \(exit): `sysctl \(setting)` must be 1, which `weft apply` there sees to; `weft doctor` there "
                    + "names firewalls that drop what is forwarded")
        }
    }
}
