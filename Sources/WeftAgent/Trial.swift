// A change on trial: it stays only when the host proves that it is still in touch.

package import WeftModel
package import WeftPlan

/// How a change is judged.
package struct ConfirmSettings: Sendable {
    /// How long a change may take to prove itself.
    package var within: Duration
    /// Addresses that must answer, besides the peers that did before the change.
    package var addresses: [IPAddress]
    /// Nothing but a person confirms.
    package var isManual: Bool
    /// What else must answer.
    package var needs: Set<Probe> = []
    /// What else must answer where it did before the change.
    package var measures: Set<Probe> = []

    package init(within: Duration, addresses: [IPAddress] = [], isManual: Bool = false) {
        self.within = within
        self.addresses = addresses
        self.isManual = isManual
    }

    /// For a change that nobody asked to be put on trial, and that would cut what must not be cut.
    package static var automatic: Self { Self(within: .seconds(60)) }

    /// What would be cut must prove that it was not.
    package mutating func add(_ cuts: [Cut]) {
        for guarded in cuts.map(\.guarded) {
            switch guarded.kind {
            case .session:
                guard let local = guarded.local else { continue }
                let connection = TCPConnection(local: local, remote: guarded.remote)
                needs.remove(.session(connection, strict: false))
                needs.insert(.session(connection, strict: true))
            case .git: measures.insert(.connection(guarded.remote))
            case .resolver: measures.insert(.resolver(guarded.remote.address))
            }
        }
    }
}

/// A question to the network, whose answer says that the host is in touch.
package enum Probe: Hashable, Sendable {
    /// An echo request. The interface that it must go out by; nil: as the host's routes say.
    case echo(IPAddress, interface: String?)
    /// Whether WireGuard has heard from a node since the change, or, where the session of before outlives that, has had a new
    /// handshake with it; an echo request to its address makes it try.
    case peer(name: String, IPAddress)
    /// Whether what was sent to the other end of a connection since the change was received there; where that is not
    /// `strict`, also that nothing was sent.
    case session(TCPConnection, strict: Bool)
    /// Whether the repository that is followed can be read.
    case git
    /// Whether a TCP port takes connections.
    case connection(SocketAddress)
    /// Whether a name server says anything.
    case resolver(IPAddress)

    package init(_ address: IPAddress, interface: String? = nil) { self = .echo(address, interface: interface) }

    /// The address of an echo request.
    package var echoed: IPAddress? {
        if case .echo(let address, _) = self { address } else { nil }
    }

    var isPeer: Bool {
        if case .peer = self { true } else { false }
    }

    /// Who is to answer.
    var words: String {
        switch self {
        case .echo(let address, _): "\(address)"
        case .peer(let name, _): "\(name) (by a handshake)"
        case .session(let connection, _): "the session from \(connection.remote.address)"
        case .git: "the git remote"
        case .connection(let address): "\(address)"
        case .resolver(let address): "the name server \(address)"
        }
    }
}

/// What came of a trial.
package enum Verdict: Hashable, Sendable {
    /// It stays; by what.
    case confirmed(String)
    /// What was before is in force again; why.
    case takenBack(String)
    /// There was nobody to prove it.
    case untried
}

/// A trial under way.
struct Trial {
    enum Phase: Equatable {
        /// Who answers before the change is the measure for after it.
        case measuring(until: ContinuousClock.Instant)
        /// It has been applied, and must prove itself.
        case judging(until: ContinuousClock.Instant)
    }

    var phase: Phase
    var settings: ConfirmSettings
    /// All that are asked; while measuring, those that might answer.
    var probes: Set<Probe>
    /// Which node is asked by a probe, before the change.
    var names: [Probe: String] = [:]
    /// Who answered before it.
    var measure: Set<Probe> = []
    var answered: Set<Probe> = []
    var nextRound: ContinuousClock.Instant
    /// Changes on top of a change begin its time anew, but not for longer than this.
    var limit: ContinuousClock.Instant?
    /// Whether it has been put off for a handshake.
    var isExtended = false
    /// While nobody answers, it is not begun before this; nil: it does not wait.
    var patience: ContinuousClock.Instant?
    var isWaiting = false
    /// Whether the host was as wanted when the last questions were asked.
    var hasSettled = false
    /// Peers whose session of before outlives the change: only a new handshake proves anything of them.
    var rekeyed: Set<PublicKey> = []
    /// What WireGuard knew of nodes when the change was made.
    var baselines: [String: PeerStatistics] = [:]

    /// What has not answered yet.
    var missing: [Probe] { probes.subtracting(answered).sorted { $0.words < $1.words } }

    /// As many peers are asked.
    static let most = 16
    /// Three rounds: an echo may be lost.
    static let measuring = Duration.seconds(3)
    static let measuringByGit = Duration.seconds(5)
    /// At a start, the network is waited for as long at least.
    static let longestStart = Duration.seconds(120)
    static let round = Duration.seconds(1)
}

extension Observation {
    /// What WireGuard knows of a peer; nil where it has none of this key.
    func statistics(of key: PublicKey) -> PeerStatistics? {
        guard let index = state.peers.firstIndex(where: { $0.publicKey == key }), index < statistics.count else {
            return nil
        }
        return statistics[index]
    }
}
