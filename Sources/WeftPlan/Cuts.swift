// What a change would cut off that this host must stay in touch with: found before it is made, from both states.

package import WeftModel

/// Something outside the mesh's own traffic that must not be cut.
package struct Guarded: Hashable, Sendable {
    package enum Kind: String, Hashable, Sendable, CaseIterable {
        /// A person is logged in from there.
        case session
        /// The topology is fetched from there.
        case git
        /// Names are looked up there.
        case resolver
    }

    package var kind: Kind
    /// The other end.
    package var remote: SocketAddress
    /// Our end; of sessions, which live by it.
    package var local: SocketAddress?
    /// How the host reaches it without the mesh; nil where that is not known, or it does not.
    package var beside: Way?

    /// A route that is not the mesh's.
    package struct Way: Hashable, Sendable {
        package var interface: String
        /// Of its prefix, in bits.
        package var length: UInt8
        package var table: UInt32

        package init(interface: String, length: UInt8, table: UInt32) {
            self.interface = interface
            self.length = length
            self.table = table
        }
    }

    package init(_ kind: Kind, _ remote: SocketAddress, local: SocketAddress? = nil, beside: Way? = nil) {
        self.kind = kind
        self.remote = remote
        self.local = local
        self.beside = beside
    }

    /// `this session from 203.0.113.9`.
    package var words: String {
        switch kind {
        case .session: "the session from \(remote.address)"
        case .git: "the git remote \(remote.address)"
        case .resolver: "the name server \(remote.address)"
        }
    }
}

/// One of them that a change would cut.
package struct Cut: Hashable, Sendable {
    package var guarded: Guarded
    /// What carries it today: `eth0`, `the tunnel to fra`.
    package var today: String
    /// What becomes of it: `its answers would go into the tunnel to fra, by 0.0.0.0/0`.
    package var then: String
    /// What a person can do about it.
    package var remedy: String

    package init(guarded: Guarded, today: String, then: String, remedy: String) {
        self.guarded = guarded
        self.today = today
        self.then = then
        self.remedy = remedy
    }
}

extension Cut {
    /// Compares the ways of all in two states. What does not get through today cannot be cut.
    ///
    /// - Parameter names: of peers.
    package static func all(
        _ guarded: [Guarded], from live: HostState, to desired: HostState, of mesh: MeshIdentity,
        names: [PublicKey: String]
    ) -> [Cut] {
        guarded.compactMap { one in
            let old = Reach(live, mesh.interface, names).fate(of: one)
            let new = Reach(desired, mesh.interface, names).fate(of: one)
            guard old.getsThrough, let then = new.harm(to: one, after: old) else { return nil }
            return Cut(guarded: one, today: old.words, then: then.text, remedy: then.remedy)
        }
    }
}

/// How packets go in one state of a mesh.
private struct Reach {
    let state: HostState
    let interface: String
    let names: [PublicKey: String]

    init(_ state: HostState, _ interface: String, _ names: [PublicKey: String]) {
        self.state = state
        self.interface = interface
        self.names = names
    }

    enum Way: Hashable {
        case beside(String)
        /// By which of the mesh's routes, and to whom.
        case tunnel(IPPrefix, peer: String?)
        /// A route of the mesh's refuses it.
        case unreachable(IPPrefix)
        case none
    }

    struct Fate {
        var way: Way
        /// The comment of the rule that stops its packets.
        var refusal: String?
        /// Whether our end's address is there; of sessions.
        var hasLocal = true
        /// Whether there is a kill switch, with networks that it allows.
        var hasKillSwitch = false

        /// Whether anything comes of its packets.
        var getsThrough: Bool {
            switch way {
            case .beside, .tunnel(_, .some): refusal == nil
            case .tunnel(_, nil), .unreachable, .none: false
            }
        }

        var words: String {
            switch way {
            case .beside(let interface): interface
            case .tunnel(_, let peer): peer.map { "the tunnel to \($0)" } ?? "the tunnel"
            case .unreachable, .none: "nothing"
            }
        }
    }

    func fate(of guarded: Guarded) -> Fate {
        let way = way(to: guarded)
        let mine = state.addresses.map(\.address)
        var fate = Fate(way: way, hasKillSwitch: state.firewall?.hasKillSwitch == true)
        let output =
            switch way {
            case .beside(let interface): interface
            case .tunnel: interface
            case .unreachable, .none: ""
            }
        // Of an address of the mesh's, the state says whether it is there; of others, nothing changes.
        if let local = guarded.local?.address, case .tunnel = way { fate.hasLocal = mine.contains(local) }
        guard !output.isEmpty, let firewall = state.firewall else { return fate }
        let transport: UInt8 = guarded.kind == .resolver ? 17 : 6
        // The source that the kernel would take is of no account to Weft's rules but in the mesh.
        let source =
            guarded.local
            ?? SocketAddress(
                mine.first { $0.family == guarded.remote.address.family && output == interface }
                    ?? guarded.remote.address, port: 40_000)
        var out = FirewallPacket(
            from: source.address, to: guarded.remote.address, transport: transport, sourcePort: source.port,
            destinationPort: guarded.remote.port, output: output)
        var back = FirewallPacket(
            from: guarded.remote.address, to: source.address, transport: transport, sourcePort: guarded.remote.port,
            destinationPort: source.port, input: output)
        // Who is logged in began the flow; of the others, this host does.
        let isSession = guarded.kind == .session
        (out.isReply, out.isEstablished) = (isSession, isSession)
        (back.isReply, back.isEstablished) = (!isSession, true)
        fate.refusal =
            firewall.refusal(of: out, at: .output) ?? firewall.refusal(of: back, at: .prerouting)
            ?? firewall.refusal(of: back, at: .input)
        return fate
    }

    private func way(to guarded: Guarded) -> Way {
        let address = guarded.remote.address
        // Rules of others that lead into tables of theirs stand before all of the mesh's that are known here.
        if let beside = guarded.beside, beside.table != Route.mainTable { return .beside(beside.interface) }
        let ours = longest(address, table: Route.mainTable)
        let specific = [ours?.prefix.length ?? 0, guarded.beside?.length ?? 0].max() ?? 0
        if specific > 0 {
            // Of two alike, the other's was there first.
            if let beside = guarded.beside, beside.length >= (ours?.prefix.length ?? 0) {
                return .beside(beside.interface)
            }
            if let ours { return way(by: ours, to: address) }
        }
        for rule in state.rules where rule.key.family == address.family {
            switch rule.key.action {
            // Of the mesh's routes in the main table, none leads there.
            case .lookupMainWithoutDefault, .lookupMainIfMarked: break
            case .lookupMain(let prefix):
                if prefix.contains(address), let beside = guarded.beside { return .beside(beside.interface) }
            case .lookupUnlessMarked(_, let table):
                if let route = longest(address, table: table) { return way(by: route, to: address) }
            }
        }
        return guarded.beside.map { .beside($0.interface) } ?? .none
    }

    private func way(by route: Route, to address: IPAddress) -> Way {
        if route.target == .unreachable { return .unreachable(route.prefix) }
        var best: (length: UInt8, key: PublicKey)?
        for peer in state.peers {
            for prefix in peer.allowedIPs where prefix.contains(address) && prefix.length >= (best?.length ?? 0) {
                best = (prefix.length, peer.publicKey)
            }
        }
        return .tunnel(route.prefix, peer: best.map { names[$0.key] ?? "\($0.key.base64.prefix(8))…" })
    }

    private func longest(_ address: IPAddress, table: UInt32) -> Route? {
        var best: Route?
        for route in state.routes where route.table == table && route.prefix.contains(address) {
            guard let old = best else {
                best = route
                continue
            }
            let (new, length) = (route.prefix.length, old.prefix.length)
            if new > length || (new == length && route.metric < old.metric) { best = route }
        }
        return best
    }
}

extension Reach.Fate {
    /// What is bad about this way for one that went another way before; nil where it gets through.
    fileprivate func harm(to guarded: Guarded, after old: Self) -> (text: String, remedy: String)? {
        if let refusal {
            return refusal == "kill switch"
                ? (
                    "the kill switch would refuse it",
                    "put \(guarded.remote.address) or its network into `killSwitch: {allow: […]}`"
                )
                : (
                    "the mesh's own rules would refuse it (\(refusal)): "
                        + (guarded.local.map { "TCP port \($0.port)" } ?? "port \(guarded.remote.port)"),
                    "permit it under `access`"
                )
        }
        switch way {
        case .unreachable(let prefix):
            return ("no node would have it any more: \(prefix) is unreachable", "see which node went, or lost it")
        case .none:
            return ("it would have no route", "see which node went, or lost it")
        case .beside:
            guard guarded.kind == .session, case .tunnel = old.way else { return nil }
            return (
                "its answers would leave the tunnel, by \(words)", "log in by another way than the tunnel that goes"
            )
        case .tunnel(let prefix, let peer):
            guard let peer else { return ("no peer would have it", "see which node went, or lost it") }
            if case .tunnel = old.way {
                return hasLocal || !old.hasLocal
                    ? nil
                    : ("the address \(guarded.local?.address.description ?? "") would go", "log in by another way")
            }
            let to = "into the tunnel to \(peer), by \(prefix)"
            if guarded.kind == .session {
                return (
                    "its answers would go \(to)",
                    "log in over the mesh, from a network that this host is connected to, or at its console"
                        + (hasKillSwitch ? ", or put its network into `killSwitch: {allow: […]}`" : "")
                )
            }
            // What goes out through an exit is meant to; a private address means another host there.
            if prefix.isDefault, !guarded.remote.address.isPrivate { return nil }
            return (
                "it would be looked for \(to)", "see that it can be reached there, or give \(peer) a smaller network"
            )
        }
    }
}
