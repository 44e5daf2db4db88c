// The mesh's own ranges, and public keys: worth something, and each at one node.

import WeftDiagnostics
import WeftModel

extension Validator {
    mutating func checkMesh() {
        let ranges = topology.mesh.addresses
        for range in ranges {
            let prefix = range.value
            let address = prefix.address
            if prefix.isDefault {
                problems.error(
                    "topology.mesh-range", "\(prefix) is every address there is, not the range of a mesh",
                    at: range.place)
            } else if address.isMulticast || address.isLoopback || address.isLinkLocal || address.isUnspecified {
                let kind =
                    address.isMulticast
                    ? "multicast" : address.isLoopback ? "loopback" : address.isLinkLocal ? "link-local" : "unspecified"
                problems.error(
                    "topology.mesh-range", "\(prefix) is \(kind): nodes cannot have addresses from it", at: range.place,
                    notes: [Diagnostic.Note("private ranges: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fd00::/8")])
            }
        }
        let sorted = ranges.filter { !$0.value.isDefault }.sorted { ($0.value, $0.place) < ($1.value, $1.place) }
        var outer = sorted.first
        for range in sorted.dropFirst() {
            guard let last = outer else { break }
            if last.value.contains(range.value) {
                let message =
                    last.value == range.value
                    ? "\(range.value) is given twice" : "\(range.value) lies inside \(last.value)"
                problems.error(
                    "topology.mesh-range", message, at: range.place,
                    notes: [Diagnostic.Note("the other range is here", at: last.place)])
            } else {
                outer = range
            }
        }
    }

    mutating func checkKeys() {
        var keys: [(word: UInt64, node: Int32)] = []
        keys.reserveCapacity(nodes.count)
        for index in nodes.indices {
            let key = topology.nodes[index].publicKey
            if key.value.isZero, draft.incomplete.contains(topology.nodes[index].name) { continue }
            if let reason = weakness(key.value) {
                problems.error(
                    "topology.public-key", "the `publicKey` of \"\(nodes[index].name)\" \(reason)", at: key.place)
                continue
            }
            keys.append((key.value.word0, Int32(index)))
        }
        keys.sort { ($0.word, $0.node) < ($1.word, $1.node) }
        var position = 0
        while position < keys.count {
            var end = position + 1
            while end < keys.count, keys[end].word == keys[position].word { end += 1 }
            if end - position > 1 { reportEqualKeys(keys[position..<end].map { Int($0.node) }) }
            position = end
        }
    }

    /// Reports the equal ones among nodes whose keys begin alike.
    private mutating func reportEqualKeys(_ candidates: [Int]) {
        var firsts: [PublicKey: Int] = [:]
        for index in candidates.sorted(by: { nodes[$0].publicKey.place < nodes[$1].publicKey.place }) {
            let node = nodes[index]
            guard let first = firsts[node.publicKey.value] else {
                firsts[node.publicKey.value] = index
                continue
            }
            problems.error(
                "topology.duplicate-key", "\"\(node.name)\" has the public key of \"\(nodes[first].name)\"",
                at: node.publicKey.place,
                notes: [
                    Diagnostic.Note("the first one is here", at: nodes[first].publicKey.place),
                    Diagnostic.Note(
                        "a key says which host this is: each needs its own. The kernel drops a peer with the host's own key in silence"
                    ),
                ])
        }
    }

    /// Why no host can have a public key; nil for all others.
    private func weakness(_ key: PublicKey) -> String? {
        if key.isZero { return "is all zero" }
        // The key's last byte is the lowest of its last word.
        if key.word3 & 0x80 != 0 {
            return "has its last bit set, which no public key has: a character was mistyped"
        }
        if smallOrderPoints.contains(where: { $0 == key }) {
            return "is a point of small order: anybody could compute the session's keys"
        }
        if key.word3 == 0xFFFF_FFFF_FFFF_FF7F, key.word2 == .max, key.word1 == .max, key.word0 >= 0xEDFF_FFFF_FFFF_FFFF
        {
            return "is not below the field's prime, as each public key is"
        }
        return nil
    }
}

/// The points of Curve25519 whose order is small, besides zero (RFC 7748, section 6.1).
private let smallOrderPoints: [PublicKey] = [
    "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA=",
    "X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc=", "7P///////////////////////////////////////38=",
    "7f///////////////////////////////////////38=", "7v///////////////////////////////////////38=",
].compactMap { PublicKey($0) }
