// The one diff, against the plainest way to say what it must find.

import Testing
import WeftModel
import WeftPlan

@Suite struct CollectionDiffTests {
    private func route(_ number: Int, altered: Bool = false) throws -> Route {
        let address = try #require(IPAddress("10.0.\(number / 256).\(number % 256)"))
        var route = Route(
            IPPrefix(address, length: 32), table: Route.mainTable, metric: 0, target: .interface, source: nil)
        route.isAltered = altered
        return route
    }

    /// Rows and rows of both sides: some objects are on one side only, some differ, some stand elsewhere.
    @Test(arguments: 0..<400)
    func findsWhatALookUpByKeyFinds(seed: UInt64) throws {
        var random = Numbers(state: seed)
        let count = Int.random(in: 0...12, using: &random)
        let all = Array(0..<count)
        let desired = try all.filter { _ in Int.random(in: 0..<5, using: &random) > 0 }.map { try route($0) }
        var live = try all.filter { _ in Int.random(in: 0..<5, using: &random) > 0 }
            .map { try route($0, altered: Int.random(in: 0..<6, using: &random) == 0) }
        switch seed % 4 {
        case 0: live.shuffle(using: &random)
        // As the kernel tells a range that is read by itself: behind all others.
        case 1: if !live.isEmpty { live.append(live.removeFirst()) }
        case 2: if live.count > 3 { live.swapAt(1, 3) }
        default: break
        }
        let diff = CollectionDiff(desired: desired, live: live)
        let there = Dictionary(uniqueKeysWithValues: live.map { ($0.key, $0) })
        let wanted = Set(desired.map(\.key))
        #expect(Set(diff.added) == Set(desired.filter { there[$0.key] == nil }))
        #expect(diff.added.count == Set(diff.added).count)
        #expect(diff.removed == live.filter { !wanted.contains($0.key) })
        let changed = desired.filter { object in there[object.key].map { !object.isSatisfied(by: $0) } ?? false }
        #expect(Set(diff.changed.map(\.desired.key)) == Set(changed.map(\.key)))
        #expect(diff.changed.allSatisfy { $0.live == there[$0.desired.key] && !$0.desired.isSatisfied(by: $0.live) })
        let inStep = zip(desired, live).prefix { $0.key == $1.key }.count
        #expect(diff.inStep == inStep)
    }

    /// SplitMix64.
    private struct Numbers: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
            return value ^ (value >> 31)
        }
    }
}
