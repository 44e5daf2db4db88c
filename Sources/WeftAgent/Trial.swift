// A change on trial: it stays only when the host proves that it is still in touch.

package import WeftModel

/// How a change is judged.
package struct ConfirmSettings: Sendable {
    /// How long a change may take to prove itself.
    package var within: Duration
    /// Addresses that must answer, besides the peers that did before the change.
    package var addresses: [IPAddress]
    /// Nothing but a person confirms.
    package var isManual: Bool

    package init(within: Duration, addresses: [IPAddress] = [], isManual: Bool = false) {
        self.within = within
        self.addresses = addresses
        self.isManual = isManual
    }
}

/// A question to the network, whose answer says that the host is in touch.
package struct Probe: Hashable, Sendable {
    /// Asked by an echo request.
    package var address: IPAddress
    /// The interface that it must go out by; nil: as the host's routes say.
    package var interface: String?

    package init(_ address: IPAddress, interface: String? = nil) {
        self.address = address
        self.interface = interface
    }
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
    /// All that are asked; while measuring, those that might answer.
    var probes: Set<Probe>
    /// Which node is asked by a probe, before the change.
    var names: [Probe: String] = [:]
    /// Who answered before it.
    var measure: Set<Probe> = []
    var answered: Set<Probe> = []
    var nextRound: ContinuousClock.Instant
    /// Whether the host was as wanted when the last questions were asked.
    var hasSettled = false

    /// What has not answered yet.
    var missing: [Probe] { probes.subtracting(answered).sorted { "\($0.address)" < "\($1.address)" } }

    /// As many peers are asked.
    static let most = 16
    static let measuring = Duration.seconds(1)
    static let round = Duration.seconds(1)
}
