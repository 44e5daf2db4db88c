// Peers: which come, change and go, and how an allowed IP moves from one to another without being at neither.

package import WeftModel

/// A change of a live peer; nil fields are left alone.
package struct PeerChange: Hashable, Sendable {
    package var publicKey: PublicKey
    /// `.none` clears the key, by an explicit zero.
    package var presharedKey: PresharedKey?
    /// Whether the peer has a preshared key now.
    package var hadPresharedKey: Bool
    /// In seconds; 0 clears it.
    package var persistentKeepalive: UInt16?
    package var oldPersistentKeepalive: UInt16
    package var endpoint: SocketAddress?
    package var oldEndpoint: SocketAddress?
    /// To be added here; the kernel takes each from the peer that has it now.
    package var added: [IPPrefix] = []
    /// To be at no peer afterwards.
    package var removed: [IPPrefix] = []
    /// Taken by another peer's `added`: nothing is sent for these.
    package var moved: [Move] = []

    package struct Move: Hashable, Sendable {
        package var prefix: IPPrefix
        package var to: PublicKey

        package init(prefix: IPPrefix, to: PublicKey) {
            self.prefix = prefix
            self.to = to
        }
    }

    package init(of live: Peer) {
        publicKey = live.publicKey
        hadPresharedKey = live.presharedKey != .none
        oldPersistentKeepalive = live.persistentKeepalive
        oldEndpoint = live.endpoint
    }

    /// Whether there is anything to send.
    package var isEmpty: Bool {
        presharedKey == nil && persistentKeepalive == nil && endpoint == nil && added.isEmpty && removed.isEmpty
    }
}

package enum PeerOperation: Hashable, Sendable {
    case add(Peer)
    case change(PeerChange)
    case remove(Peer)

    package var action: Operation.Action {
        switch self {
        case .add: .add
        case .change: .change
        case .remove: .remove
        }
    }

    package var publicKey: PublicKey {
        switch self {
        case .add(let peer), .remove(let peer): peer.publicKey
        case .change(let change): change.publicKey
        }
    }
}

/// What is to be done with peers.
struct PeerPlan {
    /// Additions and changes first, removals last, so that a prefix is always at one peer.
    var operations: [PlannedOperation] = []
    var takeovers: [IPPrefix: Takeover] = [:]
    /// Endpoints to be remembered although nothing is sent for them.
    var toRemember: [PublicKey: AppliedEndpoint]

    /// - Parameter endpoints: decides, per peer that stays, whether its endpoint is to be set.
    init(desired: [Peer], live: HostState, statistics: [PeerStatistics], endpoints: EndpointPolicy) {
        let diff = CollectionDiff(desired: desired, live: live.peers)
        let decisions = endpoints.decide(
            desired: desired, live: live.peers, inStep: diff.inStep, statistics: statistics)
        toRemember = decisions.toRemember
        var changes = changedPeers(diff)
        addEndpoints(decisions.toSet, to: &changes)
        if diff.isEmpty, changes.isEmpty { return }

        // Who takes which prefix: a prefix that a peer loses to another one is moved, not removed.
        var takers: [IPPrefix: PublicKey] = [:]
        for peer in diff.added { for prefix in peer.allowedIPs { takers[prefix] = peer.publicKey } }
        for change in changes { for prefix in change.added { takers[prefix] = change.publicKey } }
        takeovers = findTakeovers(
            by: takers, from: live,
            losers: changes.map { ($0.publicKey, $0.removed) }
                + diff.removed.map { ($0.publicKey, Array($0.allowedIPs)) })

        // Most plans take nothing over: then nothing is looked up.
        let takeovers = takeovers
        func taken(_ gained: some Sequence<IPPrefix>) -> [IPPrefix] {
            takeovers.isEmpty ? [] : gained.filter { takeovers[$0] != nil }
        }

        var owners = Owners(desired)
        for peer in diff.added {
            let taken = taken(peer.allowedIPs)
            let scope = taken.isEmpty ? "" : "if the peer answers, and already serves \(phrase(taken))"
            operations.append(PlannedOperation(.peer(.add(peer)), scope: scope))
        }
        for var change in changes {
            change.moved = change.removed.compactMap { prefix in
                takers[prefix].map { PeerChange.Move(prefix: prefix, to: $0) }
            }
            change.removed.removeAll { takers[$0] != nil }
            if change.isEmpty, change.moved.isEmpty { continue }
            let (cutOff, merged) = owners.fate(ofWhatIsRemovedBy: change)
            let (effect, scope) = sessionEffect(
                of: change, cutOff: cutOff, leaving: change.moved.map(\.prefix) + merged, taken: taken(change.added))
            operations.append(PlannedOperation(.peer(.change(change)), effect: effect, scope: scope))
        }
        operations += diff.removed.map { PlannedOperation(.peer(.remove($0)), effect: .outage) }
    }
}

private func changedPeers(_ diff: CollectionDiff<Peer>) -> [PeerChange] {
    diff.changed.map { pair in
        var change = PeerChange(of: pair.live)
        if pair.desired.presharedKey != .external, pair.desired.presharedKey != pair.live.presharedKey {
            change.presharedKey = pair.desired.presharedKey
        }
        if pair.desired.persistentKeepalive != pair.live.persistentKeepalive {
            change.persistentKeepalive = pair.desired.persistentKeepalive
        }
        change.added = pair.desired.allowedIPs.subtracting(pair.live.allowedIPs)
        change.removed = pair.live.allowedIPs.subtracting(pair.desired.allowedIPs)
        return change
    }
}

private func addEndpoints(_ wanted: [(peer: Peer, endpoint: SocketAddress)], to changes: inout [PeerChange]) {
    if wanted.isEmpty { return }
    var indices: [PublicKey: Int] = [:]
    for (index, change) in changes.enumerated() { indices[change.publicKey] = index }
    for (peer, endpoint) in wanted {
        if let index = indices[peer.publicKey] {
            changes[index].endpoint = endpoint
        } else {
            var change = PeerChange(of: peer)
            change.endpoint = endpoint
            changes.append(change)
        }
    }
}

/// Who has which prefix in the end, known once it is first asked for: most plans remove nothing.
private struct Owners {
    private let peers: [Peer]
    private var byPrefix: [IPPrefix: PublicKey]?

    init(_ peers: [Peer]) { self.peers = peers }

    /// What becomes of the allowed IPs that a change removes: some lead nowhere afterwards, or out at the exit; others lie
    /// inside a prefix of another peer's. Those inside one that the same peer keeps or gets are neither, because that one is
    /// there before they go.
    mutating func fate(ofWhatIsRemovedBy change: PeerChange) -> (cutOff: [IPPrefix], merged: [IPPrefix]) {
        var (cutOff, merged): ([IPPrefix], [IPPrefix]) = ([], [])
        if change.removed.isEmpty { return (cutOff, merged) }
        if byPrefix == nil {
            var owners: [IPPrefix: PublicKey] = [:]
            owners.reserveCapacity(peers.count * 2)
            for peer in peers { for prefix in peer.allowedIPs { owners[prefix] = peer.publicKey } }
            byPrefix = owners
        }
        for prefix in change.removed {
            // The longest prefix around it decides.
            let lengths = stride(from: Int(prefix.length) - 1, through: 1, by: -1)
            let owner = lengths.lazy.compactMap { byPrefix?[IPPrefix(prefix.address, length: $0)] }.first
            let exit = byPrefix?[IPPrefix(prefix.address, length: 0)]
            if owner == nil, exit != change.publicKey { cutOff.append(prefix) }
            if let owner, owner != change.publicKey { merged.append(prefix) }
        }
        return (cutOff, merged)
    }
}

private func sessionEffect(
    of change: PeerChange, cutOff: [IPPrefix], leaving: [IPPrefix], taken: [IPPrefix]
) -> (SessionEffect, String) {
    var conditions: [String] = []
    if change.endpoint != nil, change.oldEndpoint != nil { conditions.append("the peer answers at the new endpoint") }
    if !taken.isEmpty { conditions.append("the peer already serves \(phrase(taken))") }
    switch leaving.count {
    case 0: break
    case 1: conditions.append("the new peer of \(leaving[0]) already serves it")
    case let count: conditions.append("the new peers of \(count) allowed IPs already serve them")
    }
    let condition = conditions.isEmpty ? "" : "if \(conditions.joined(separator: ", and "))"
    // What moves away is said at its new peer too.
    let rest = taken.isEmpty ? "" : "; the rest is hitless \(condition)"

    let ending = "after 3 minutes unless the peer has the same preshared key"
    if !cutOff.isEmpty {
        let which = cutOff.count == 1 ? "\(cutOff[0])" : "\(cutOff.count) removed allowed IPs"
        return (.outage, "\(which) only" + (change.presharedKey == nil ? rest : "; the rest \(ending)"))
    }
    if change.presharedKey != nil { return (.rehandshake, "traffic ends \(ending)\(rest)") }
    return (.hitless, condition)
}

/// `10.1.0.0/16`, `the 3 allowed IPs that it takes over`.
private func phrase(_ taken: [IPPrefix]) -> String {
    taken.count == 1 ? "\(taken[0])" : "the \(taken.count) allowed IPs that it takes over"
}
