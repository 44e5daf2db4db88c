// A large firewall: sets of ranges and of flows to ports with counters, and rules that look into them.

import Glibc
import WeftModel

/// So many elements and rules; two variants have none of their ranges, rules and counters' comments in common.
struct Ruleset {
    var elements: Int
    var rules: Int

    func firewall(variant: UInt32) -> Firewall {
        let counters = (0..<100).map {
            FirewallCounter("access-\(10_000_000 + $0)", comment: "node-\($0) to everything")
        }
        let half = UInt32(elements / 2)
        let base = 0x0A00_0000 + variant << 20
        var ranges = FirewallSet("allow4", [.address4])
        var flows = FirewallSet("ports4", [.address4, .address4, .transport, .port], hasCounters: true)
        for number in 0..<half {
            var (lower, upper) = (FirewallKey(), FirewallKey())
            lower.append(base + number * 16)
            upper.append(base + number * 16 + number % 15)
            ranges.elements.append(.init(lower, upper))
            flows.elements.append(
                .init(
                    flow(base + number, number, port: 80), flow(base + number, number, port: 90),
                    counter: counters[Int(number) % counters.count].name))
        }
        let chains = ["clamp", "input", "forward", "output"].map { name in
            FirewallChain(
                name, base: .init(.filter, .forward, priority: 0),
                rules: (0..<rules / 4).map { rule($0, variant: variant) })
        }
        return Firewall(chains: chains, sets: [ranges, flows], counters: counters)
    }

    private func flow(_ address: UInt32, _ number: UInt32, port: UInt16) -> FirewallKey {
        var key = FirewallKey()
        key.append(address)
        key.append(0x0B00_0000 + number % 50)
        key.append(transport: UInt8(IPPROTO_TCP))
        key.append(port: port)
        return key
    }

    private func rule(_ number: Int, variant: UInt32) -> FirewallRule {
        let name = Array("wg\(number)".utf8)
        return FirewallRule(
            [
                .meta(.outputInterface), .compare(.equal, name + [UInt8](repeating: 0, count: 16 - name.count)),
                .meta(.family), .compare(.equal, [UInt8(AF_INET)]), .payload(.network, offset: 16, length: 4),
                .lookup(set: "allow4"), .counter, .verdict(.accept),
            ], comment: "rule \(number) of variant \(variant)")
    }
}
