// From what was observed to the status document: names added, states decided, nothing looked up.

package import WeftModel

extension StatusDocument {
    /// The current version of the format.
    package static let currentVersion = 1
    /// The name of the format.
    package static let formatName = "weft.status"

    /// Makes the document.
    ///
    /// - Parameters:
    ///   - live: what is there and the mesh's own; without a link, the interface is absent.
    ///   - isHalfMade: whether an interrupted run has left its link behind.
    ///   - wasInForce: whether the mesh is known to have been applied here, to its end.
    ///   - statistics: of `live.peers`, index by index.
    ///   - counts: of the mesh's named counters.
    ///   - desired: what the topology wants; nil where it could not be read.
    ///   - firewallDiffers: whether the live table is not as it is wanted; nil where nothing says how.
    ///   - names: of nodes, also of those that are no peers here any more; nil: those of the peers that are wanted.
    ///   - now: the time at which `live` was read.
    package init(
        mesh: MeshIdentity,
        live: HostState,
        isHalfMade: Bool = false,
        wasInForce: Bool = false,
        deviceKind: DeviceKind?,
        statistics: [PeerStatistics],
        counts: [FirewallCount] = [],
        firewallDiffers: Bool? = nil,
        foreign: [ForeignObject] = [],
        desired: DesiredState?,
        names: [PublicKey: String]? = nil,
        now: UnixTime
    ) {
        format = Self.formatName
        version = Self.currentVersion
        time = now.description
        self.mesh = mesh.mesh
        interface = mesh.interface
        node = desired?.node
        present = live.link != nil
        if !present {
            let isTaken = foreign.contains { $0.kind == "interface" }
            absence = isTaken ? .taken : isHalfMade ? .halfMade : wasInForce ? .gone : .notMade
        }
        wanted = desired.map { $0.state.link != nil }
        up = live.link?.isUp ?? false
        self.deviceKind = deviceKind?.description
        publicKey = live.device?.publicKey?.base64
        listenPort = live.device?.listenPort
        fwMark = live.device?.fwMark ?? 0
        mtu = live.link?.mtu
        addresses = live.addresses.map(\.key).sorted().map { "\($0.address)/\($0.length)" }
        rules = live.rules.map { Rule(family: $0.key.family.name, priority: $0.key.priority, rule: $0.words) }
        firewall = live.firewall.map { live in
            Firewall(
                table: mesh.firewallTable, chains: live.chains.map(\.name), killSwitch: live.isShut,
                differs: firewallDiffers)
        }
        if live.link != nil {
            let there = Set((live.firewall?.chains ?? []).lazy.filter { !$0.rules.isEmpty }.map(\.name))
            let lost = (desired?.state.firewall?.chains ?? []).filter { !$0.rules.isEmpty && !there.contains($0.name) }
            if !lost.isEmpty { missingChains = lost.map(\.name) }
        }
        resolver = live.resolver.map {
            Resolver(servers: $0.servers.map(\.description), domains: $0.domains, allNames: $0.isForAllNames)
        }
        let places = Dictionary((desired?.counterNames ?? []).enumerated().map { ($1, $0) }) { first, _ in first }
        counters = counts.sorted { left, right in
            (places[left.name] ?? .max, left.comment, left.name) < (
                places[right.name] ?? .max, right.comment, right.name
            )
        }
        self.foreign = foreign
        summary = Summary()

        let wanted = desired.map { Set($0.state.peers.map(\.publicKey)) }
        let leftToOthers = Set(
            (desired?.state.peers ?? []).lazy.filter { $0.presharedKey == .external }.map(\.publicKey))
        let names = names ?? desired?.peerNames ?? [:]
        peers = []
        peers.reserveCapacity(live.peers.count)
        for (index, var peer) in live.peers.enumerated() {
            if leftToOthers.contains(peer.publicKey) { peer.presharedKey = .external }
            let figures = index < statistics.count ? statistics[index] : PeerStatistics()
            peers.append(
                Peer(peer, figures, name: names[peer.publicKey], inTopology: wanted?.contains(peer.publicKey), now: now)
            )
        }
        peers.sort { PeerOrder(name: $0.name, key: $0.publicKey) < PeerOrder(name: $1.name, key: $1.publicKey) }

        let there = Set(live.peers.map(\.publicKey))
        missing = (desired?.state.peers ?? []).filter { !there.contains($0.publicKey) }.map {
            MissingPeer(name: names[$0.publicKey], publicKey: $0.publicKey.base64)
        }
        missing.sort { PeerOrder(name: $0.name, key: $0.publicKey) < PeerOrder(name: $1.name, key: $1.publicKey) }
        for peer in peers {
            switch peer.state {
            case .up: summary.up += 1
            case .stale: summary.stale += 1
            case .down: summary.down += 1
            case .never: summary.never += 1
            }
        }
        summary.missing = missing.count
    }
}

extension StatusDocument.Peer {
    fileprivate init(
        _ peer: WeftModel.Peer, _ statistics: PeerStatistics, name: String?, inTopology: Bool?, now: UnixTime
    ) {
        let age = statistics.lastHandshake.map { max(0, now.seconds(since: $0)) }
        let presharedKey: StatusDocument.PresharedKeyState =
            switch peer.presharedKey {
            case .none: .none
            case .tag: .set
            case .external: .external
            }
        self.init(
            name: name, publicKey: peer.publicKey.base64, inTopology: inTopology, state: PeerState(handshakeAge: age),
            endpoint: peer.endpoint?.description, lastHandshake: statistics.lastHandshake?.description,
            lastHandshakeSecondsAgo: age, receivedBytes: statistics.receivedBytes, sentBytes: statistics.sentBytes,
            allowedIPs: peer.allowedIPs.map(\.description), persistentKeepalive: peer.persistentKeepalive,
            presharedKey: presharedKey)
    }
}
