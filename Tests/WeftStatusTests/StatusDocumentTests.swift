// The status document: what is made of an observation.

import Testing
import WeftModel
import WeftStatus

@Suite struct StatusDocumentTests {
    private static let now = UnixTime(seconds: 1_798_761_600, nanoseconds: 500_000_000)
    private static let mesh = MeshIdentity(mesh: "corp", interface: "wg0")

    private static func key(_ index: UInt64) -> PublicKey {
        PublicKey(bigEndianWords: index << 56, 0, 0, 0)
    }

    private static func live(_ peers: [Peer]) -> HostState {
        HostState(
            link: Link(name: "wg0", mtu: 1420, alias: "weft:corp"),
            device: Device(privateKey: nil, publicKey: key(9), listenPort: 51820), peers: peers)
    }

    private static func document(handshake: UnixTime?) throws -> StatusDocument.Peer {
        let document = StatusDocument(
            mesh: mesh, live: live([Peer(publicKey: key(1))]), deviceKind: .userspace,
            statistics: [PeerStatistics(lastHandshake: handshake, receivedBytes: 1, sentBytes: 2)], desired: nil,
            now: now)
        return try #require(document.peers.first)
    }

    @Test(
        arguments: [(135, PeerState.up), (136, .stale), (180, .stale), (181, .down), (0, .up)] as [(Int64, PeerState)])
    func countsWholeSecondsFromTheHandshake(age: Int64, state: PeerState) throws {
        // A handshake at the same fraction of a second, and one a little later: not yet a whole second more.
        for nanoseconds in [500_000_000, 499_999_999] as [Int32] {
            let peer = try Self.document(
                handshake: UnixTime(seconds: Self.now.seconds - age, nanoseconds: nanoseconds))
            #expect(peer.lastHandshakeSecondsAgo == age)
            #expect(peer.state == state)
        }
        let later = try Self.document(
            handshake: UnixTime(seconds: Self.now.seconds - age - 1, nanoseconds: 500_000_001))
        #expect(later.lastHandshakeSecondsAgo == age)
        #expect(later.state == state)
    }

    @Test func aClockThatWasSetBackIsNoDowntime() throws {
        let peer = try Self.document(handshake: UnixTime(seconds: Self.now.seconds + 3600))
        #expect(peer.lastHandshakeSecondsAgo == 0)
        #expect(peer.state == .up)
        #expect(peer.lastHandshake == "2027-01-01T01:00:00Z")
    }

    @Test func neverIsNotLongAgo() throws {
        let peer = try Self.document(handshake: nil)
        #expect(peer.state == .never)
        #expect(peer.lastHandshake == nil && peer.lastHandshakeSecondsAgo == nil)
    }

    @Test func namesPeersAndTellsWhoIsMissingOrUnknown() {
        var state = Self.live([Peer(publicKey: Self.key(1)), Peer(publicKey: Self.key(2))])
        state.peers.append(Peer(publicKey: Self.key(3)))
        let wanted = HostState(
            link: state.link,
            peers: [Peer(publicKey: Self.key(1)), Peer(publicKey: Self.key(2)), Peer(publicKey: Self.key(4))])
        let desired = DesiredState(
            mesh: "corp", interface: "wg0", node: "fra", state: wanted,
            peerNames: [Self.key(1): "zoe", Self.key(2): "ams", Self.key(4): "bob"])
        let document = StatusDocument(
            mesh: Self.mesh, live: state, deviceKind: .kernel, statistics: [], desired: desired, now: Self.now)
        #expect(document.peers.map(\.name) == ["ams", "zoe", nil])
        #expect(document.peers.map(\.inTopology) == [true, true, false])
        #expect(document.missing == [.init(name: "bob", publicKey: Self.key(4).base64)])
        #expect(document.summary == StatusDocument.Summary(never: 3, missing: 1))
        #expect(document.deviceKind == "kernel" && document.node == "fra")
    }

    @Test func aPeerThatIsNotWantedAnyMoreKeepsItsName() {
        let wanted = DesiredState(
            mesh: "corp", interface: "wg0", node: "fra", state: Self.live([Peer(publicKey: Self.key(1))]),
            peerNames: [Self.key(1): "zoe"])
        let document = StatusDocument(
            mesh: Self.mesh, live: Self.live([Peer(publicKey: Self.key(1)), Peer(publicKey: Self.key(2))]),
            deviceKind: .kernel, statistics: [], desired: wanted, names: [Self.key(1): "zoe", Self.key(2): "gone"],
            now: Self.now)
        #expect(document.peers.map(\.name) == ["gone", "zoe"])
        #expect(document.peers.map(\.inTopology) == [false, true])
    }

    @Test func anAbsentInterfaceMissesEveryPeer() {
        let desired = DesiredState(
            mesh: "corp", interface: "wg0", node: "fra", state: Self.live([Peer(publicKey: Self.key(1))]))
        let document = StatusDocument(
            mesh: Self.mesh, live: HostState(), deviceKind: nil, statistics: [], desired: desired, now: Self.now)
        #expect(!document.present && !document.up)
        #expect(document.mtu == nil && document.publicKey == nil && document.deviceKind == nil)
        #expect(document.missing.count == 1)
    }

    @Test func countersStandInTheOrderOfTheRules() {
        let counts = [("a", "ops → fra"), ("b", "all → fra"), ("c", "gone → fra"), ("d", "also gone")].map {
            FirewallCount(name: $0.0, comment: $0.1, packets: 0, bytes: 0)
        }
        func names(_ desired: DesiredState?) -> [String] {
            StatusDocument(
                mesh: Self.mesh, live: HostState(), deviceKind: nil, statistics: [], counts: counts, desired: desired,
                now: Self.now
            ).counters.map(\.name)
        }
        var desired = DesiredState(mesh: "corp", interface: "wg0", node: "fra", state: HostState())
        desired.counterNames = ["b", "not yet there", "a"]
        #expect(names(desired) == ["b", "a", "d", "c"])
        #expect(names(nil) == ["b", "d", "c", "a"])
    }

    /// What the device has of them is not the topology's to show.
    @Test func keysThatAnotherProgramSetsAreExternal() {
        let tag = SecretTag(1, 2)
        let live = Self.live([
            Peer(publicKey: Self.key(1), presharedKey: .tag(tag)), Peer(publicKey: Self.key(2)),
            Peer(publicKey: Self.key(3), presharedKey: .tag(tag)),
            Peer(publicKey: Self.key(4), presharedKey: .tag(tag)),
        ])
        let wanted = Self.live([
            Peer(publicKey: Self.key(1), presharedKey: .external),
            Peer(publicKey: Self.key(2), presharedKey: .external),
            Peer(publicKey: Self.key(3), presharedKey: .tag(tag)),
        ])
        let document = StatusDocument(
            mesh: Self.mesh, live: live, deviceKind: .kernel, statistics: [],
            desired: DesiredState(mesh: "corp", interface: "wg0", node: "fra", state: wanted), now: Self.now)
        #expect(document.peers.map(\.presharedKey) == [.external, .external, .set, .set])
    }

    @Test func secretsAreWords() {
        let tag = SecretTag(0x1234_5678_9ABC_DEF0, 0x0FED_CBA9_8765_4321)
        let peers = [
            Peer(publicKey: Self.key(1), presharedKey: .tag(tag)),
            Peer(publicKey: Self.key(2), presharedKey: .external),
            Peer(publicKey: Self.key(3)),
        ]
        let document = StatusDocument(
            mesh: Self.mesh, live: Self.live(peers), deviceKind: .kernel, statistics: [], desired: nil, now: Self.now)
        #expect(document.peers.map(\.presharedKey) == [.set, .external, .none])
        #expect(document.peers.allSatisfy { $0.name == nil && $0.inTopology == nil })
    }
}
