// Addresses and prefixes: inside the mesh, and each at one node only. One sorted sweep finds all conflicts.

import WeftDiagnostics
import WeftModel

extension Validator {
    /// A prefix of an active node: one of its addresses, or of its `allowedIPs`.
    private struct Entry {
        var prefix: IPPrefix
        var node: Int32
        /// Index into `addresses`; for `allowedIPs`, the index's complement.
        var slot: Int32

        var isAddress: Bool { slot >= 0 }
    }

    mutating func checkPrefixes() {
        let ranges = MeshRanges(topology.mesh.addresses.map(\.value))
        var four: [Entry] = []
        var six: [Entry] = []
        four.reserveCapacity(nodes.count)
        six.reserveCapacity(nodes.count)
        for index in nodes.indices {
            for (slot, address) in topology.nodes[index].addresses.enumerated() {
                let range = ranges.range(holding: address.value)
                if range == nil || range?.isHost == false { checkAddress(address, of: index, in: range) }
                guard isActive[index] else { continue }
                let entry = Entry(prefix: IPPrefix(host: address.value), node: Int32(index), slot: Int32(slot))
                if address.value.family == .v4 { four.append(entry) } else { six.append(entry) }
            }
            if topology.nodes[index].allowedIPs.isEmpty { continue }
            let refused = checkAllowedIPs(of: index)
            guard isActive[index] else { continue }
            for (slot, prefix) in topology.nodes[index].allowedIPs.enumerated() where !refused.contains(slot) {
                let entry = Entry(prefix: prefix.value, node: Int32(index), slot: ~Int32(slot))
                if prefix.value.family == .v4 { four.append(entry) } else { six.append(entry) }
            }
        }
        sweep(&four)
        sweep(&six)
    }

    // MARK: One node

    private mutating func checkAddress(_ address: Located<IPAddress>, of node: Int, in range: IPPrefix?) {
        let value = address.value
        let name = nodes[node].name
        if value.isUnspecified || value.isMulticast || value.isLoopback || value.isLinkLocal {
            problems.error("topology.address", "\(value) cannot be the address of a node", at: address.place)
            return
        }
        guard let range else {
            // Without a range, or with one that could not be read, there is an error already.
            guard !topology.mesh.addresses.isEmpty, !draft.lacksRange else { return }
            let ranges = topology.mesh.addresses.prefix(4).map(\.value.description).joined(separator: ", ")
            problems.error(
                "topology.address-outside",
                "\(value), an address of \"\(name)\", is outside the mesh's ranges (\(ranges))",
                at: address.place,
                notes: [
                    Diagnostic.Note("the ranges are given here", at: topology.mesh.addresses[0].place),
                    Diagnostic.Note("a network behind the node belongs under `allowedIPs`"),
                ])
            return
        }
        let width = value.family.bitWidth
        guard Int(range.length) < width - 1 else { return }
        if value == range.address {
            let what = value.family == .v4 ? "network address" : "subnet-router anycast address"
            problems.error(
                "topology.address", "\(value) is the \(what) of \(range), not one of a node", at: address.place)
        } else if value.family == .v4, value.v4Bits | (UInt32.max << UInt32(32 - range.length)) == .max {
            problems.error(
                "topology.address", "\(value) is the broadcast address of \(range), not one of a node",
                at: address.place)
        }
    }

    /// Checks a node's own list. Returns the entries that are wrong whatever others hold.
    private mutating func checkAllowedIPs(of index: Int) -> Set<Int> {
        let node = nodes[index]
        var covered: Set<IPAddress.Family> = []
        let isOne = node.allowedIPs.count == 1 && node.allowedIPs[0].value.length > 0
        for family in IPAddress.Family.allCases where !isOne {
            let list = node.allowedIPs.filter { $0.value.family == family }
            guard let first = list.first(where: { $0.value.length <= 1 }) ?? list.first, coversAll(list.map(\.value))
            else {
                continue
            }
            covered.insert(family)
            let all = family == .v4 ? "0.0.0.0/0" : "::/0"
            let what = first.value.isDefault ? "\(all) in `allowedIPs`" : "`allowedIPs` that together cover \(all)"
            if isNew(first.place) {
                problems.error(
                    "topology.default-route", "\(what): a way to everywhere is an exit, not a network behind a node",
                    at: first.place,
                    notes: [
                        Diagnostic.Note(
                            "write `exit: true` here, and `useExit: \(node.name)` at the nodes whose default route goes through it"
                        )
                    ])
            }
        }
        var refused: Set<Int> = []
        for (slot, prefix) in node.allowedIPs.enumerated()
        where covered.contains(prefix.value.family) || !checkAllowedIP(prefix) {
            refused.insert(slot)
        }
        return refused
    }

    private mutating func checkAllowedIP(_ prefix: Located<IPPrefix>) -> Bool {
        for range in topology.mesh.addresses where prefix.value.contains(range.value) {
            guard isNew(prefix.place) else { return false }
            let what =
                prefix.value == range.value ? "is the mesh's own range" : "holds the mesh's own range \(range.value)"
            problems.error(
                "topology.allowed-mesh-range", "\(prefix.value) \(what): it cannot lie behind one node",
                at: prefix.place,
                notes: [
                    Diagnostic.Note("the range is given here", at: range.place),
                    Diagnostic.Note(
                        "a node that relays for others is a `hub: true`, and needs no `allowedIPs` for that"),
                ])
            return false
        }
        let zero = IPPrefix(IPAddress(v4: 0), length: 8)
        if prefix.value.overlaps(zero), isNew(prefix.place) {
            problems.note(
                "topology.zero-net", "\(prefix.value) holds addresses of 0.0.0.0/8: Apple's clients refuse such a list",
                at: prefix.place)
        }
        if prefix.value.address.isLoopback, isNew(prefix.place) {
            problems.warning(
                "topology.loopback", "\(prefix.value) is loopback: no packet for it ever leaves a host",
                at: prefix.place)
        }
        let address = prefix.value.address
        if address.isMulticast || address.isLinkLocal, isNew(prefix.place) {
            problems.warning(
                "topology.one-link",
                "\(prefix.value) is \(address.isMulticast ? "multicast" : "link-local"): it means something else on each "
                    + "link, and is not routed as other networks are", at: prefix.place)
        }
        return true
    }

    /// Whether prefixes of one family cover all of it.
    func coversAll(_ prefixes: [IPPrefix]) -> Bool {
        if prefixes.contains(where: \.isDefault) { return true }
        // What starts with a 0 bit and with a 1 bit, each wholly: twice as many prefixes as bits are needed at least.
        guard prefixes.contains(where: { $0.length == 1 }) || prefixes.count > 2 else { return false }
        let sorted = prefixes.sorted()
        var expected: (high: UInt64, low: UInt64) = (0, 0)
        for prefix in sorted {
            let address = prefix.address
            let start = prefix.family == .v4 ? (0, address.low << 32) : (address.high, address.low)
            if start > expected { return false }
            let length = Int(prefix.length)
            // The first address after the prefix; zero where the prefix ends the family.
            var end = start
            let bits = prefix.family == .v4 ? length + 64 : length
            if bits <= 64 {
                let (sum, overflow) = end.0.addingReportingOverflow(bits == 0 ? 0 : 1 << UInt64(64 - bits))
                if prefix.family == .v6, overflow || bits == 0 { return true }
                end.0 = sum
            } else {
                let (sum, overflow) = end.1.addingReportingOverflow(1 << UInt64(128 - bits))
                if overflow {
                    if prefix.family == .v4 || end.0 == .max { return true }
                    end.0 += 1
                }
                end.1 = sum
            }
            if end > expected { expected = end }
        }
        return false
    }

    // MARK: All nodes

    private mutating func sweep(_ entries: inout [Entry]) {
        entries.sort { $0.prefix == $1.prefix ? $0.node < $1.node : $0.prefix < $1.prefix }
        var open: [Int] = []
        var inner: [Int: (count: Int, first: Int)] = [:]
        var position = 0
        while position < entries.count {
            var end = position + 1
            while end < entries.count, entries[end].prefix == entries[position].prefix { end += 1 }
            if end - position > 1 { reportEqual(entries[position..<end]) }
            let entry = entries[position]
            while let last = open.last, !entries[last].prefix.contains(entry.prefix) { open.removeLast() }
            if let outer = open.last, entries[outer].node != entry.node {
                let known = inner[outer]
                inner[outer] = ((known?.count ?? 0) + 1, known?.first ?? position)
            }
            if !entry.prefix.isHost { open.append(position) }
            position = end
        }
        for (outer, found) in inner.sorted(by: { $0.key < $1.key }) {
            noteInner(entries[outer], first: entries[found.first], count: found.count)
        }
    }

    private func place(_ entry: Entry) -> SourceRange {
        let node = nodes[Int(entry.node)]
        return entry.isAddress ? node.addresses[Int(entry.slot)].place : node.allowedIPs[Int(~entry.slot)].place
    }

    private func name(_ entry: Entry) -> String { nodes[Int(entry.node)].name }

    private mutating func reportEqual(_ equal: ArraySlice<Entry>) {
        let sorted = equal.sorted { (place($0), $0.node) < (place($1), $1.node) }
        guard let first = sorted.first else { return }
        for other in sorted.dropFirst() {
            let here = place(other)
            var notes = [Diagnostic.Note("it is given to \"\(name(first))\" here", at: place(first))]
            if first.node == other.node {
                if first.isAddress != other.isAddress {
                    problems.warning(
                        "topology.needless-prefix", "\(other.prefix) is an address of \"\(name(other))\" already",
                        at: here,
                        notes: [Diagnostic.Note("it is here", at: place(first))])
                } else if isNew(here) {
                    problems.error(
                        "topology.duplicate-prefix", "\(text(other)) is given twice", at: here,
                        notes: [Diagnostic.Note("the first one is here", at: place(first))])
                }
                continue
            }
            if here == place(first) {
                guard isNew(here) else { continue }
                problems.error(
                    "topology.duplicate-prefix",
                    "\(text(other)) in `defaults` is given to \"\(name(first))\", \"\(name(other))\" and every other node",
                    at: here,
                    notes: [
                        Diagnostic.Note(
                            "WireGuard sends a prefix to one peer only: give it to the node that it lies behind")
                    ])
                continue
            }
            switch (first.isAddress, other.isAddress) {
            case (true, true):
                problems.error(
                    "topology.duplicate-address",
                    "\(text(other)) is the address of both \"\(name(first))\" and \"\(name(other))\"", at: here,
                    notes: notes)
            case (false, false):
                notes.append(
                    Diagnostic.Note(
                        "the kernel would give it to the last peer in silence; each prefix lies behind one node"))
                problems.error(
                    "topology.duplicate-prefix",
                    "\(text(other)) lies behind both \"\(name(first))\" and \"\(name(other))\"", at: here, notes: notes)
            default:
                let (owner, lister) = first.isAddress ? (first, other) : (other, first)
                notes[0].message = first.isAddress ? "it is the address here" : "it is listed here"
                problems.error(
                    "topology.duplicate-prefix",
                    "\(other.prefix.address) is the address of \"\(name(owner))\", and in the `allowedIPs` of \"\(name(lister))\"",
                    at: here, notes: notes)
            }
        }
    }

    /// An address without its length, a network with it.
    private func text(_ entry: Entry) -> String {
        entry.isAddress ? entry.prefix.address.description : entry.prefix.description
    }

    private mutating func noteInner(_ outer: Entry, first: Entry, count: Int) {
        let more = count > 1 ? " and \(grouped(count - 1)) more" : ""
        problems.note(
            "topology.nested-prefix",
            "\(text(first)) of \"\(name(first))\"\(more) \(count > 1 ? "lie" : "lies") inside \(outer.prefix) of \"\(name(outer))\": the longer prefix wins",
            at: place(outer), notes: [Diagnostic.Note("it is given here", at: place(first))])
    }
}

/// The mesh's ranges, for finding the one that holds an address.
struct MeshRanges {
    private let sorted: [IPPrefix]
    private let areDisjoint: Bool

    init(_ ranges: [IPPrefix]) {
        sorted = ranges.sorted()
        areDisjoint = !zip(sorted, sorted.dropFirst()).contains { $0.overlaps($1) }
    }

    func range(holding address: IPAddress) -> IPPrefix? {
        guard areDisjoint, sorted.count > 4 else { return sorted.first { $0.contains(address) } }
        var low = 0
        var high = sorted.count
        while low < high {
            let middle = (low + high) / 2
            if address < sorted[middle].address { high = middle } else { low = middle + 1 }
        }
        return low > 0 && sorted[low - 1].contains(address) ? sorted[low - 1] : nil
    }
}
