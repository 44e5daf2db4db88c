// What a host must remember between two runs, and cannot read back from the kernel.

package import WeftModel

/// The endpoint last applied for a peer.
package struct AppliedEndpoint: Hashable, Sendable {
    /// As the topology has it, where that is a name: `fra.example.net:51820`. Nil where it is the address itself: then a
    /// pass over ten thousand peers makes no text, and counts no references to any.
    package let name: String?
    package let address: SocketAddress

    package init(written: String, address: SocketAddress) {
        name = written == address.description ? nil : written
        self.address = address
    }

    /// As the topology has it: `fra.example.net:51820`, `192.0.2.1:51820`.
    package var written: String { name ?? address.description }
    /// Whether `written` is the address itself.
    package var isLiteral: Bool { name == nil }
}

/// The endpoints last applied, in the order of the peers' keys. Desired peers are in that order too: a pass over ten thousand
/// finds each endpoint beside the one before, and hashes no key.
package struct EndpointMemory: Hashable, Sendable {
    package struct Entry: Hashable, Sendable {
        package var key: PublicKey
        package var endpoint: AppliedEndpoint
    }

    /// Ascending, each key once.
    package private(set) var entries: [Entry]

    package init(_ endpoints: [PublicKey: AppliedEndpoint] = [:]) {
        entries = []
        remember(endpoints)
    }

    package subscript(key: PublicKey) -> AppliedEndpoint? {
        var place = 0
        return find(key, near: &place)
    }

    /// Looks a key up.
    ///
    /// - Parameter place: where it may stand; afterwards, where the next greater one may.
    func find(_ key: PublicKey, near place: inout Int) -> AppliedEndpoint? {
        if place >= entries.count || entries[place].key != key { place = position(of: key) }
        guard place < entries.count, entries[place].key == key else { return nil }
        place += 1
        return entries[place - 1].endpoint
    }

    /// Where a key stands, or would.
    private func position(of key: PublicKey) -> Int {
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].key < key { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Remembers these besides, or instead of what there was for their keys.
    package mutating func remember(_ endpoints: [PublicKey: AppliedEndpoint]) {
        if endpoints.isEmpty { return }
        entries.removeAll { endpoints[$0.key] != nil }
        entries += endpoints.map { Entry(key: $0, endpoint: $1) }
        entries.sort { $0.key < $1.key }
    }

    /// Forgets all but the endpoints of these, each given once.
    package mutating func keep(_ keys: some Sequence<PublicKey>) {
        var place = 0
        let kept = keys.compactMap { key in find(key, near: &place).map { Entry(key: key, endpoint: $0) } }
        if kept.count < entries.count { entries = kept.sorted { $0.key < $1.key } }
    }
}

/// What is remembered of one mesh, in one network namespace. Losing it loses no safety but one: a kill switch that was in
/// force then waits for what stands in the way of the rest, as a new one does.
package struct MeshMemory: Hashable, Sendable {
    package var endpoints: EndpointMemory
    /// Whether the mesh has had a kill switch since it was applied last: it stays shut then, whatever else stands in the way.
    package var hasKillSwitch: Bool
    /// Which node the host is that has the kill switch: that is known without its key then.
    package var node: String?
    /// The topology that the host was seen to be as wanted by, after all that was done, and which of its nodes had expired: what
    /// differs from it then was changed from outside. Nil where that was not noted.
    package var reached: String?

    package init(
        endpoints: [PublicKey: AppliedEndpoint] = [:], hasKillSwitch: Bool = false, node: String? = nil,
        reached: String? = nil
    ) {
        self.endpoints = EndpointMemory(endpoints)
        self.hasKillSwitch = hasKillSwitch
        self.node = node
        self.reached = reached
    }
}

/// What is remembered of sysctls, which all meshes of a network namespace share. Void after a reboot.
package struct SysctlMemory: Hashable, Sendable {
    package struct Original: Hashable, Sendable {
        /// The value before the first claim.
        package var value: String
        /// The value that was written then.
        package var written: String
        /// By path: values before of settings that the kernel changes along with this one, where it does not make them the
        /// same again with it (see `ForwardingSwitch`).
        package var companions: [String: String]

        package init(value: String, written: String, companions: [String: String] = [:]) {
            self.value = value
            self.written = written
            self.companions = companions
        }
    }

    /// By path.
    package var originals: [String: Original]
    /// Paths, by interface.
    package var claims: [String: Set<String>]

    /// What an interface's claims call for besides the settings themselves, in order.
    package func companions(ofClaimsBy interface: String) -> [String] {
        (claims[interface] ?? []).flatMap { originals[$0].map { Array($0.companions.keys) } ?? [] }.sorted()
    }

    package init(originals: [String: Original] = [:], claims: [String: Set<String>] = [:]) {
        self.originals = originals
        self.claims = claims
    }
}

/// What must be remembered of a trial, for an agent that is killed, or a host that is started anew, in its midst.
package struct TrialRecord: Hashable, Sendable {
    /// The topology on trial.
    package var id: String
    /// Until when it must have proved itself, by the wall clock.
    package var deadline: UnixTime
    /// Addresses that must answer by the mesh's interface.
    package var wanted: [IPAddress]
    /// Nodes with which there must be a new handshake.
    package var handshakes: [String] = []
    /// Who else must answer, in the words of who put it on trial.
    package var proofs: [String] = []
    /// It failed: it is not tried again until it changes.
    package var isRejected: Bool
    /// Whether whoever put it on trial goes on with it when started again. Where not, it has failed when nobody watches
    /// over it any more.
    package var isResumable = true
    /// Why it failed; empty: nobody could say.
    package var reason = ""
    /// Whether what was before it is in force again.
    package var isUndone = false

    /// - Parameter reason: what did not come about, or `by …`, who took it back.
    package static func thatItFailed(_ id: String, _ reason: String) -> String {
        "topology \(id) was \(takenBack(reason))"
    }

    package static func takenBack(_ reason: String) -> String {
        reason.isEmpty ? "taken back" : reason.hasPrefix("by ") ? "taken back \(reason)" : "taken back: \(reason)"
    }

    package init(id: String, deadline: UnixTime, wanted: [IPAddress], isRejected: Bool) {
        self.id = id
        self.deadline = deadline
        self.wanted = wanted
        self.isRejected = isRejected
    }

    /// Whether what it changed may still be there, and nobody who is started again goes on with it: asked where nobody
    /// watches over it.
    package func isDangling(at now: UnixTime) -> Bool {
        !isUndone && (isRejected || !isResumable || deadline <= now)
    }

    /// Whether the agent that began it still goes on with it: asked where nobody watches over it.
    package func isAwaited(at now: UnixTime) -> Bool { !isUndone && !isDangling(at: now) }
}
