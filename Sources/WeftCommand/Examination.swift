// What `weft doctor` reads out of a plan and an observation. Pure: the probes that touch the network are elsewhere.

internal import WeftModel
internal import WeftPlan
internal import WeftRender
internal import WeftStatus

/// Findings about one mesh on one host.
struct Examination {
    typealias Finding = DoctorDocument.Finding

    var plan: Plan
    var observation: Observation
    var desired: DesiredState
    /// Of nodes, by key.
    var names: [PublicKey: String]
    /// Of the endpoints: those to which the host has no route.
    var unreachable: Set<IPAddress> = []

    /// All that can be said without sending a packet.
    var findings: [Finding] {
        [device] + obstacles + [convergence, killSwitch, forwarding].compactMap(\.self) + hindrances + routes
            + handshakes
    }

    private var device: Finding {
        guard observation.state.link != nil else {
            if plan.foreign.contains(where: { $0.relation == .blocksLink }) {
                return Finding(
                    "device", .error, "the interface \(desired.interface) is there, and not this mesh's",
                    remedy: "see what is in the way")
            }
            return Finding(
                "device", .error, "the interface \(desired.interface) is not there",
                remedy: "`weft apply` makes it")
        }
        let kind = observation.deviceKind == .kernel ? "the kernel's WireGuard" : "a user-space WireGuard"
        guard observation.state.link?.isUp == true else {
            return Finding("device", .error, "\(desired.interface) is down", remedy: "`weft apply` brings it up")
        }
        let port = observation.state.device?.listenPort.map { ", and listens on UDP port \($0)" } ?? ""
        return Finding("device", .ok, "\(desired.interface) is up: \(kind)\(port)")
    }

    private var obstacles: [Finding] {
        plan.obstacles.map {
            Finding("obstacle", .error, "\($0.kind) \($0.description) is in the way", remedy: $0.remedy)
        }
    }

    private var hindrances: [Finding] {
        plan.hindrances.map { Finding("neighbour", .warning, "\($0.kind) \($0.description)", remedy: $0.remedy) }
            + plan.blindSpots.map { Finding("neighbour", .unknown, "\($0.kind) \($0.description)", remedy: $0.remedy) }
    }

    private var convergence: Finding {
        if plan.isStuck {
            return Finding(
                "plan", .error, "the host is not as the topology wants it, and nothing can be done about that",
                remedy: "see what is in the way")
        }
        if plan.isEmpty { return Finding("plan", .ok, "the host is as the topology wants it") }
        let count = plan.operations.count
        return Finding(
            "plan", .error,
            "the host is not as the topology wants it: \(count == 1 ? "1 change is" : "\(count) changes are") open",
            remedy: "`weft plan` shows \(count == 1 ? "it" : "them"), `weft apply` makes \(count == 1 ? "it" : "them")")
    }

    /// Nil where there is a tunnel, or nothing is refused without it.
    private var killSwitch: Finding? {
        let live = observation.state
        let isUp = live.link?.isUp == true
        guard live.firewall?.isShut == true, !isUp || live.peers.isEmpty else { return nil }
        return Finding(
            "kill-switch", .warning,
            "the kill switch is shut: without the tunnel, what goes elsewhere than to `allow` is refused",
            remedy: isUp
                ? "there is no peer: name another exit with `useExit`; `weft down` opens the kill switch"
                : "`weft apply` brings the tunnel up; `weft down` opens the kill switch")
    }

    /// Nil where the host passes nothing on.
    private var forwarding: Finding? {
        let wanted = desired.state.sysctls.filter { $0.path.hasSuffix("forward") || $0.path.hasSuffix("forwarding") }
        if wanted.isEmpty { return nil }
        let live = Dictionary(observation.state.sysctls.map { ($0.path, $0.value) }) { first, _ in first }
        let wrong = wanted.filter { live[$0.path] != $0.value }
        if wrong.isEmpty { return Finding("forwarding", .ok, "this host passes packets on, as the topology wants it") }
        let names = wrong.map { Sysctl.dotted($0.path) }.joined(separator: " and ")
        return Finding(
            "forwarding", .error, "this host passes no packets on: \(names) is off", remedy: "`weft apply` turns it on")
    }

    /// One finding for each endpoint that is dialled and cannot be sent to.
    private var routes: [Finding] {
        let live = Dictionary(observation.state.peers.map { ($0.publicKey, $0.endpoint) }) { first, _ in first }
        let lost = desired.state.peers.compactMap { peer -> (name: String, endpoint: SocketAddress)? in
            guard let endpoint = (live[peer.publicKey] ?? nil) ?? peer.endpoint, unreachable.contains(endpoint.address)
            else { return nil }
            return (name(peer.publicKey), endpoint)
        }
        return lost.prefix(Self.limit).map { name, endpoint in
            let family = endpoint.address.family == .v4 ? "an IPv4" : "an IPv6"
            return Finding(
                "route", .error, "this host has no route to the endpoint of \(name), \(endpoint)",
                remedy: "look at its own network: it needs \(family) address, and a default route or one to "
                    + "\(endpoint.address); `ip route get \(endpoint.address)` says what the kernel does")
        }
    }

    /// How many endpoints without a route are named: most often all have one cause.
    private static let limit = 8

    private func name(_ key: PublicKey) -> String {
        names[key] ?? String(key.base64.prefix(8)) + "…"
    }

    /// What is likely to keep handshakes with a peer from coming about, and can be seen here; nil where nothing can.
    private func cause(_ endpoint: SocketAddress?) -> String? {
        if let endpoint, unreachable.contains(endpoint.address) { return "there is no route to it: see above" }
        guard let chain = plan.hindrances.first(where: \.stopsTunnel) else { return nil }
        return "\(chain.kind) \(chain.description): this is the likely cause. \(chain.remedy)"
    }

    /// One finding for all peers that are up, and one for each other peer that this host dials.
    private var handshakes: [Finding] {
        var up = 0
        var silent = 0
        var findings: [Finding] = []
        let dialled = Dictionary(desired.state.peers.map { ($0.publicKey, $0) }) { first, _ in first }
        for (peer, statistics) in zip(observation.state.peers, observation.statistics) {
            let age = statistics.lastHandshake.map { max(0, observation.time.seconds(since: $0)) }
            let name = name(peer.publicKey)
            let isDialled = dialled[peer.publicKey]?.endpoint != nil
            // A peer that is dialled and kept alive has no reason to be silent; any other may have nothing to say.
            let mustSpeak = isDialled && peer.persistentKeepalive != 0
            switch PeerState(handshakeAge: age) {
            case .up: up += 1
            case .stale where !mustSpeak, .down where !mustSpeak: silent += 1
            case .never where !isDialled: silent += 1
            case .never:
                findings.append(
                    Finding(
                        "handshake", mustSpeak ? .error : .warning,
                        "no handshake with \(name) yet"
                            + (peer.endpoint.map { ", which is dialled at \($0)" } ?? ""),
                        remedy: cause(peer.endpoint)
                            ?? (statistics.receivedBytes == 0 && statistics.sentBytes > 0
                                ? "packets leave and none comes back: look at the far side's key, port and firewall, and "
                                    + "whether \(peer.endpoint.map { "\($0)" } ?? "its endpoint") is the right address"
                                : "send it a packet, and look again")))
            case .stale, .down:
                findings.append(
                    Finding(
                        "handshake", .error, "\(name) was last heard from \(age ?? 0) s ago",
                        remedy: cause(peer.endpoint)
                            ?? "look at the way to \(peer.endpoint.map { "\($0)" } ?? "it") and at the far side: "
                            + "`weft doctor` there"))
            }
        }
        if up > 0 || findings.isEmpty, !observation.state.peers.isEmpty {
            let rest = silent == 0 ? "" : ", \(silent) had nothing to say for a while"
            findings.insert(
                Finding("handshake", .ok, "\(up) of \(observation.state.peers.count) peers are up\(rest)"), at: 0)
        }
        return findings
    }
}
