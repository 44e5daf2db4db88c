// Which node has the network around an address behind it: by the longest prefix, as the kernel decides.

import WeftModel

/// The `allowedIPs` of a topology's active nodes, looked up by address.
struct SiteLookup {
    private var owners: [IPPrefix: Int] = [:]
    private var lengths: [Int] = []

    init(_ topology: Topology, isActive: [Bool]) {
        var lengths: Set<Int> = []
        for index in topology.nodes.indices where isActive[index] {
            for prefix in topology.nodes[index].allowedIPs {
                owners[prefix.value] = index
                lengths.insert(Int(prefix.value.length))
            }
        }
        self.lengths = lengths.sorted(by: >)
    }

    /// The prefixes around an address, the longest first, each with its node's index.
    func holders(of address: IPAddress) -> [(prefix: IPPrefix, node: Int)] {
        lengths.compactMap { length in
            guard length <= address.family.bitWidth else { return nil }
            let prefix = IPPrefix(address, length: length)
            return owners[prefix].map { (prefix, $0) }
        }
    }
}
