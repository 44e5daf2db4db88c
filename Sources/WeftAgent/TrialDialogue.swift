// What a trial asks, who has answered, and how it stands.

import WeftModel
import WeftPlan

extension MeshController {
    /// Questions to ask now.
    package func takeProbes() -> [Probe] {
        defer { due = [] }
        return due
    }

    /// Somebody answered.
    package func note(answerTo probe: Probe) {
        // Peers prove themselves by what WireGuard saw of them: see `ask`.
        if !probe.isPeer, trial?.trial.probes.contains(probe) == true { trial?.trial.answered.insert(probe) }
    }

    /// The topology on trial, for the status document.
    package var onTrial: String? {
        guard let trial, case .judging = trial.trial.phase else { return nil }
        return trial.candidate.revision.id
    }

    /// Whether it is being found out who answers before a change.
    package var isMeasuring: Bool {
        if case .measuring = trial?.trial.phase { true } else { false }
    }

    /// Whether that goes on until the network is there.
    package var isWaitingForAnswers: Bool { isMeasuring && trial?.trial.isWaiting == true }

    /// When the time of the change on trial is over.
    package var trialEnds: ContinuousClock.Instant? {
        guard case .judging(let until) = trial?.trial.phase else { return nil }
        return until
    }

    /// Who has not answered yet, in words; empty where nobody must.
    package var missing: String { words(trial?.trial.missing ?? []) }

    func words(_ probes: [Probe]) -> String {
        let names = probes.map { probe -> String in
            guard let address = probe.echoed else { return probe.words }
            let peer = force?.desired.state.peers.first {
                $0.allowedIPs.contains { $0.isHost && $0.address == address }
            }
            let name = peer.flatMap { force?.desired.peerNames[$0.publicKey] }
            return name.map { "\($0) (\(address))" } ?? "\(address)"
        }.sorted()
        return names.count > 4
            ? names.prefix(4).joined(separator: ", ") + " and \(names.count - 4) more" : names.joined(separator: ", ")
    }
}
