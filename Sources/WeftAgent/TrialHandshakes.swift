// Changes that live sessions outlive: what a peer answers by the session of before proves nothing about them.

import WeftModel
import WeftPlan
import WeftReconcile
import WeftTopology

extension Trial {
    /// WireGuard uses no session for longer (REJECT_AFTER_TIME): who still sends has begun a new handshake by then.
    static let sessionLife = Duration.seconds(180)
    /// As long a handshake may take: it is tried again every 5 s.
    static let handshake = Duration.seconds(20)
    /// The most that a trial may be prolonged to.
    static let longest = sessionLife + handshake
}

extension MeshController {
    /// Peers that go on answering by a session which was agreed upon with other keys: with another preshared key, or as
    /// another node.
    func rekeyed(by candidate: Force) -> Set<PublicKey> {
        guard let live = observation?.state else { return [] }
        let isAnotherNode = live.device?.publicKey != candidate.desired.state.device?.publicKey
        var keys: [PublicKey: PresharedKey] = [:]
        for peer in live.peers { keys[peer.publicKey] = peer.presharedKey }
        let peers = candidate.desired.state.peers.filter { peer in
            guard let old = keys[peer.publicKey] else { return false }
            return isAnotherNode || peer.presharedKey != .external && peer.presharedKey != old
        }
        return Set(peers.map(\.publicKey))
    }

    /// Of a preshared key nothing is kept but its file: where that was overwritten, what it held before is gone.
    func tellWhatIsNotRestored(_ trial: Trial, _ candidate: Force, _ previous: Force) {
        guard !trial.rekeyed.isEmpty, let now = try? host.compile(previous.revision, names: names) else { return }
        var keys: [PublicKey: PresharedKey] = [:]
        for peer in now.desired.state.peers { keys[peer.publicKey] = peer.presharedKey }
        let changed = candidate.desired.state.peers.filter { peer in
            trial.rekeyed.contains(peer.publicKey) && peer.presharedKey != .none
                && keys[peer.publicKey] == peer.presharedKey
        }
        if changed.isEmpty { return }
        let nodes = changed.prefix(4).map { candidate.desired.peerNames[$0.publicKey] ?? $0.publicKey.base64 }
        say(
            .error, .confirm,
            "the preshared key with \(nodes.sorted().joined(separator: ", "))"
                + "\(changed.count > 4 ? " and \(changed.count - 4) more" : "") stays the new one: its file was overwritten; put the "
                + "key of before back there, or the new one at the other end too")
    }

    /// Reads the host, where that is to be compared with what comes after.
    private func look() {
        guard let force, let seen = try? reconciler?.plan(force.mesh, desired: force.desired, memory: memory) else {
            return
        }
        observation = seen.observation
    }

    /// Those that must prove themselves by a handshake have this one so far, and all the time that the next one may take.
    func prepareHandshakes(_ trial: inout Trial, _ candidate: Force) {
        if trial.rekeyed.isEmpty { return }
        look()
        guard let observation else { return }
        var longest = Duration.zero
        var names: [String] = []
        for probe in trial.probes {
            guard case .peer(let name, _) = probe, let key = candidate.key(of: name), trial.rekeyed.contains(key) else {
                continue
            }
            let statistics = observation.statistics(of: key) ?? PeerStatistics()
            trial.baselines[name] = statistics
            let age = statistics.lastHandshake.map { Duration.seconds(max(0, observation.time.seconds(since: $0))) }
            longest = max(longest, max(.zero, Trial.sessionLife - (age ?? Trial.sessionLife)) + Trial.handshake)
            names.append(name)
        }
        if names.isEmpty || trial.settings.isManual { return }
        trial.settings.within = max(trial.settings.within, longest)
        let some = names.count > 4 ? "\(names.count) peers" : names.sorted().joined(separator: ", ")
        say(
            .notice, .confirm,
            "the session with \(some) outlives the change of its key: only its next handshake tells, which comes within "
                + "\(longest.components.seconds) s")
    }
}

extension MeshController.Force {
    /// The key of a peer of this name.
    func key(of name: String) -> PublicKey? { desired.peerNames.first { $0.value == name }?.key }
}

extension PeerStatistics {
    /// Whether there was a handshake after `old`.
    func hasHandshake(since old: PeerStatistics) -> Bool {
        guard let last = lastHandshake else { return false }
        return old.lastHandshake.map { last != $0 } ?? true
    }

    /// Whether something came from the peer after `old`.
    func isHeard(since old: PeerStatistics) -> Bool {
        receivedBytes > old.receivedBytes || hasHandshake(since: old)
    }
}
