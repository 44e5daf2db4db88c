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

    /// All that can be said without sending a packet.
    var findings: [Finding] {
        [device] + obstacles + [convergence, forwarding].compactMap(\.self) + hindrances + handshakes
    }

    private var device: Finding {
        guard observation.state.link != nil else {
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

    /// Nil where the host passes nothing on.
    private var forwarding: Finding? {
        let wanted = desired.state.sysctls.filter { $0.path.hasSuffix("forward") || $0.path.hasSuffix("forwarding") }
        if wanted.isEmpty { return nil }
        let live = Dictionary(observation.state.sysctls.map { ($0.path, $0.value) }) { first, _ in first }
        let wrong = wanted.filter { live[$0.path] != $0.value }
        if wrong.isEmpty { return Finding("forwarding", .ok, "this host passes packets on, as the topology wants it") }
        let names = wrong.map(\.path).joined(separator: " and ")
        return Finding(
            "forwarding", .error, "this host passes no packets on: \(names) is off", remedy: "`weft apply` turns it on")
    }

    /// One finding for all peers that are up, and one for each other peer that this host dials.
    private var handshakes: [Finding] {
        var up = 0
        var silent = 0
        var findings: [Finding] = []
        let dialled = Dictionary(desired.state.peers.map { ($0.publicKey, $0) }) { first, _ in first }
        for (peer, statistics) in zip(observation.state.peers, observation.statistics) {
            let age = statistics.lastHandshake.map { max(0, observation.time.seconds(since: $0)) }
            let name = desired.peerNames[peer.publicKey] ?? String(peer.publicKey.base64.prefix(8)) + "…"
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
                        remedy: statistics.receivedBytes == 0 && statistics.sentBytes > 0
                            ? "packets leave and none comes back: look at the far side's key, port and firewall, and "
                                + "whether \(peer.endpoint.map { "\($0)" } ?? "its endpoint") is the right address"
                            : "send it a packet, and look again"))
            case .stale, .down:
                findings.append(
                    Finding(
                        "handshake", .error, "\(name) was last heard from \(age ?? 0) s ago",
                        remedy: "look at the way to \(peer.endpoint.map { "\($0)" } ?? "it") and at the far side: "
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
