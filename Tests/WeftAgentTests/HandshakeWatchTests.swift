// Peers that come up and go down, whatever order the kernel tells them in.

import Testing
import WeftModel
import WeftPlan

@testable import WeftAgent

@Suite struct HandshakeWatchTests {
    private let time = UnixTime(seconds: 1_800_000_000)

    private func key(_ number: Int) -> PublicKey {
        PublicKey(bigEndianWords: UInt64(number), 2, 3, 4)
    }

    /// - Parameter ages: seconds since each peer's last handshake; nil: it never had one.
    private func seen(_ ages: [(Int, Int64?)]) -> Observation {
        var observation = Observation(time: time)
        observation.state.peers = ages.map { Peer(publicKey: key($0.0)) }
        observation.statistics = ages.map { _, age in
            var statistics = PeerStatistics()
            statistics.lastHandshake = age.map { UnixTime(seconds: time.seconds - $0) }
            return statistics
        }
        return observation
    }

    @Test func tellsOfEachOnceInAnyOrder() {
        var watch = HandshakeWatch()
        #expect(watch.changes(in: seen([(1, 10), (2, nil), (3, 10)])).isEmpty)
        #expect(watch.silent == [key(2)])
        #expect(watch.changes(in: seen([(3, 10), (1, 10), (2, nil)])).isEmpty)
        #expect(
            watch.changes(in: seen([(2, 5), (3, 10), (1, 500)]))
                == [.init(key: key(2), isUp: true), .init(key: key(1), isUp: false)])
        #expect(watch.changes(in: seen([(1, 500), (2, 5), (3, 10)])).isEmpty)
        #expect(watch.silent == [key(1)])
    }

    @Test func aStalePeerIsUpUntilItsTimeIsOver() {
        var watch = HandshakeWatch()
        _ = watch.changes(in: seen([(1, 10)]))
        #expect(watch.changes(in: seen([(1, 150)])).isEmpty)
        #expect(watch.silent == [key(1)])
        #expect(watch.changes(in: seen([(1, 200)])) == [.init(key: key(1), isUp: false)])
    }

    @Test func whoComesAndGoesDoesNotHideTheOthers() {
        var watch = HandshakeWatch()
        _ = watch.changes(in: seen([(1, 10), (2, 10), (3, nil)]))
        #expect(watch.changes(in: seen([(2, 10), (3, 1), (4, nil)])) == [.init(key: key(3), isUp: true)])
        #expect(watch.changes(in: seen([(2, 10), (3, 1), (4, nil), (1, nil)])).isEmpty)
    }
}
