// The networks that a host is connected to, and its own addresses in them.

import Testing
import WeftModel

@testable import WeftLinux

@Suite(.enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct HostNetworksTests {
    private func ip(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

    @Test func eachNetworkOfEachInterfaceStandsOnceWithTheHostsAddresses() throws {
        try TestNamespace.run { () throws in
            for name in ["d0", "d1", "d2", "d3"] { #expect(shell("ip link add \(name) type bridge")) }
            shell("ip link set d0 up; ip link set d1 up; ip link set d3 up")
            shell("ip address add 192.168.1.5/24 dev d0; ip address add 192.168.1.6/24 dev d0")
            shell("ip address add 192.168.1.7/25 dev d0; ip address add fd01::5/64 dev d0 nodad")
            shell("ip address add 192.168.1.8/24 dev d1; ip address add 192.0.2.1/32 dev d1")
            shell("ip address add 10.2.0.1/16 dev d2; ip address add 10.3.0.1/16 dev d3")
            let expected: [HostFacts.ConnectedNetwork] = [
                .init(
                    prefix: prefix("192.168.1.0/24"), interface: "d0",
                    addresses: [try ip("192.168.1.5"), try ip("192.168.1.6")]),
                .init(prefix: prefix("192.168.1.0/25"), interface: "d0", addresses: [try ip("192.168.1.7")]),
                .init(prefix: prefix("192.168.1.0/24"), interface: "d1", addresses: [try ip("192.168.1.8")]),
                .init(prefix: prefix("fd01::/64"), interface: "d0", addresses: [try ip("fd01::5")]),
            ]
            let networks = connectedNetworks { $0 == "d3" }
            #expect(networks.count == expected.count && Set(networks) == Set(expected), "\(networks)")
        }
    }
}
