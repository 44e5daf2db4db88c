// The states of a peer at the protocol's own thresholds.

import Testing
import WeftStatus

@Suite struct PeerStateTests {
    @Test(arguments: [
        (nil, PeerState.never), (-5, .up), (0, .up), (135, .up), (136, .stale), (180, .stale), (181, .down),
        (Int64.max, .down),
    ])
    func followsTheHandshakesAge(age: Int64?, state: PeerState) {
        #expect(PeerState(handshakeAge: age) == state)
    }
}
