// Where peers are: what is remembered of that, and what roams.

import Testing
import WeftModel
import WeftPlan
import WeftReconcile
import WeftTestSupport

@Suite struct EndpointTests {
    private let dialled = SocketAddress(IPAddress(v4: 0xC000_0201), port: 51_820)
    private let roamed = SocketAddress(IPAddress(v4: 0xC633_6401), port: 9999)

    private func state(_ endpoint: SocketAddress?, name: String? = nil) -> DesiredState {
        var state = DesiredState(mesh: "corp", interface: "wg0", node: "here", state: HostState())
        state.state.link = Link(name: "wg0", mtu: 1420, alias: "weft:corp")
        state.state.device = Device(privateKey: SecretTag(1, 1), publicKey: key(9), listenPort: nil)
        state.state.peers = [Peer(publicKey: key(1), endpoint: endpoint)]
        if let name { state.endpointNames[key(1)] = name }
        return state
    }

    /// Held against a dictionary, in any order of questions.
    @Test(arguments: 0..<20 as Range<UInt64>) func theMemoryIsADictionary(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var expected: [PublicKey: AppliedEndpoint] = [:]
        var memory = EndpointMemory()
        for round in 0..<30 {
            func any() -> PublicKey { key(UInt64.random(in: 0..<40, using: &random)) }
            var news: [PublicKey: AppliedEndpoint] = [:]
            for _ in 0..<Int.random(in: 0..<6, using: &random) {
                let address = SocketAddress(IPAddress(v4: UInt32(round)), port: 7)
                news[any()] = AppliedEndpoint(written: "name", address: address)
            }
            memory.remember(news)
            expected.merge(news) { $1 }
            if round % 7 == 6 {
                let kept = Set((0..<20).map { _ in any() })
                memory.keep(kept)
                expected = expected.filter { kept.contains($0.key) }
            }
            #expect(memory == EndpointMemory(expected))
            #expect(memory.entries.map(\.key) == expected.keys.sorted())
            for number in 0..<40 as Range<UInt64> { #expect(memory[key(number)] == expected[key(number)]) }
        }
    }

    private func live(_ host: Host) -> SocketAddress? { host.kernel.links["wg0"]?.peers.first?.endpoint }

    @Test func aRoamedPeerIsLeftAlone() throws {
        var host = Host()
        try host.apply(state(dialled))
        host.kernel.links["wg0"]?.peers[0].endpoint = roamed
        #expect(try host.plan(state(dialled)).isEmpty)
        // Even when its session is stale: the topology says nothing new.
        host.shakeHands(secondsAgo: 500)
        #expect(try host.plan(state(dialled)).isEmpty)
    }

    @Test func aNewEndpointInTheTopologyIsSet() throws {
        var host = Host()
        try host.apply(state(dialled))
        host.kernel.links["wg0"]?.peers[0].endpoint = roamed
        let moved = SocketAddress(IPAddress(v4: 0xC000_0209), port: 51_820)
        #expect(try host.apply(state(moved)).isConverged)
        #expect(live(host) == moved)
        #expect(host.memory.endpoints[key(1)]?.address == moved)
    }

    @Test func anEndpointTakenOutIsNoChangeAndPutBackIsOne() throws {
        var host = Host()
        try host.apply(state(dialled))
        #expect(try host.apply(state(nil)).plan.isEmpty)
        host.kernel.links["wg0"]?.peers[0].endpoint = roamed
        host.shakeHands(secondsAgo: 0)
        #expect(try host.plan(state(dialled)).isEmpty, "without memory a fresh session is kept")
        host.kernel.now.seconds += 136
        #expect(try host.apply(state(dialled)).isConverged)
        #expect(live(host) == dialled)
    }

    @Test func withoutMemoryAFreshSessionKeepsItsEndpoint() throws {
        var host = Host()
        try host.apply(state(dialled))
        host.memory = MeshMemory()
        host.kernel.links["wg0"]?.peers[0].endpoint = roamed
        host.shakeHands(secondsAgo: 135)
        #expect(try host.plan(state(dialled)).isEmpty)
        host.shakeHands(secondsAgo: 136)
        #expect(try !host.plan(state(dialled)).isEmpty)
    }

    @Test func aNameThatResolvesAnewWaitsForAStaleSession() throws {
        var host = Host()
        try host.apply(state(dialled, name: "fra.example:51820"))
        host.shakeHands(secondsAgo: 0)
        #expect(try host.plan(state(roamed, name: "fra.example:51820")).isEmpty)
        host.kernel.now.seconds += 136
        #expect(try host.apply(state(roamed, name: "fra.example:51820")).isConverged)
        #expect(live(host) == roamed)
    }
}

extension Host {
    /// Peer 1 shook hands so many seconds ago.
    fileprivate mutating func shakeHands(secondsAgo: Int64) {
        let time = UnixTime(seconds: kernel.now.seconds - secondsAgo)
        kernel.links["wg0"]?.statistics[key(1)] = PeerStatistics(lastHandshake: time)
    }
}
