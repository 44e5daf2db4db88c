// A host's peers: what each may send, where it is dialled, and whether its mappings are kept alive.

import WeftModel

extension Compiler {
    /// The peers by index, in the order of nodes, with the allowed IPs of all in one array and each one's part of it,
    /// ascending.
    func allowedIPs() -> ([IPPrefix], [(peer: Int, range: Range<Int>)]) {
        let nodes = topology.nodes
        var counts = [Int](repeating: 0, count: nodes.count)
        for (target, hop) in hops.enumerated() where hop >= 0 {
            counts[Int(hop)] += nodes[target].addresses.count + nodes[target].allowedIPs.count
        }
        if let tunnel, let exit = tunnel.exit { counts[exit] += tunnel.families.count }
        var starts = [Int](repeating: 0, count: nodes.count)
        var total = 0
        var ranges: [(peer: Int, range: Range<Int>)] = []
        ranges.reserveCapacity(nodes.count)
        for peer in nodes.indices where hops[peer] == Int32(peer) {
            starts[peer] = total
            ranges.append((peer, total..<total + counts[peer]))
            total += counts[peer]
        }
        let filler = IPPrefix(host: IPAddress(v4: 0))
        var prefixes = [IPPrefix](repeating: filler, count: total)
        for (target, hop) in hops.enumerated() where hop >= 0 {
            var position = starts[Int(hop)]
            for address in nodes[target].addresses {
                prefixes[position] = IPPrefix(host: address.value)
                position += 1
            }
            for prefix in nodes[target].allowedIPs {
                prefixes[position] = prefix.value
                position += 1
            }
            starts[Int(hop)] = position
        }
        if let tunnel, let exit = tunnel.exit {
            for (offset, family) in tunnel.families.enumerated() {
                prefixes[starts[exit] + offset] = .everything(family)
            }
        }
        for (_, range) in ranges where !PrefixList.isAscending(prefixes[range]) {
            prefixes[range].sort()
        }
        return (prefixes, ranges)
    }

    /// Peers in the order of their keys. Small pairs are sorted, not peers, which are made in the order of nodes before: it
    /// is memory that a large mesh waits for.
    static func byKey(_ peers: [Peer]) -> [Peer] {
        var order = peers.indices.map { (word: peers[$0].publicKey.word0, peer: $0) }
        order.sort { left, right in
            left.word == right.word
                ? peers[left.peer].publicKey < peers[right.peer].publicKey : left.word < right.word
        }
        return order.map { peers[$0.peer] }
    }

    /// The address to dial, and the text that it stands for where that is a name.
    mutating func endpoint(of peer: Int) -> (SocketAddress?, String?) {
        guard let endpoint = graph.endpoint(of: peer, from: index) else { return (nil, nil) }
        let port = endpoint.port ?? topology.listenPort(of: peer) ?? Topology.defaultPort
        switch endpoint.host {
        case .address(let address):
            return (SocketAddress(address, port: port), nil)
        case .name(let name):
            let written = Endpoint(host: endpoint.host, port: port).description
            guard let address = facts.resolvedNames[name]?.first(where: { network(around: $0, of: peer) == nil }) else {
                return (nil, written)
            }
            return (SocketAddress(address, port: port), written)
        }
    }

    /// Which of the networks that are reached through the tunnel to a peer, or through the mesh, holds an address. As an
    /// endpoint written down it is an error; a name may lead there where it means the mesh's own address of a node.
    func network(around address: IPAddress, of peer: Int) -> IPPrefix? {
        topology.mesh.addresses.map(\.value).first { $0.contains(address) }
            ?? topology.nodes[peer].allowedIPs.map(\.value).first { $0.contains(address) }
    }

    func presharedKey(with peer: Int) -> PresharedKey {
        switch topology.mesh.presharedKeys {
        case .none, .sealed: .none
        case .external: .external
        case .directory: facts.presharedKeys[topology.nodes[peer].name].map { .tag($0) } ?? .none
        }
    }

    /// A host that nobody can dial keeps its mappings alive.
    func persistentKeepalive(to peer: Int) -> UInt16 {
        if let written = graph.facts(index, peer)?.persistentKeepalive ?? node.persistentKeepalive { return written }
        let canBeDialled = graph.endpoint(of: index, from: peer) != nil
        return canBeDialled ? 0 : 25
    }
}

extension PrefixList {
    /// Takes a sorted slice; copies it only where a prefix stands twice.
    static func distinct(_ sorted: ArraySlice<IPPrefix>) -> PrefixList {
        isAscending(sorted) ? PrefixList(ascending: sorted) : PrefixList(Array(sorted))
    }
}
