// Access rules as disjoint boxes: which sources may reach which destinations by which ports, and whose count it is.

/// Sources, destinations and ports, each with each: one rule's reach in one family and protocol, or a part of it.
struct AccessBox: Hashable, Sendable {
    var sources: Ranges<UInt128>
    var destinations: Ranges<UInt128>
    var ports: Ranges<UInt16>

    var isEmpty: Bool { sources.isEmpty || destinations.isEmpty || ports.isEmpty }

    func overlaps(_ other: AccessBox) -> Bool {
        ports.overlaps(other.ports) && destinations.overlaps(other.destinations) && sources.overlaps(other.sources)
    }

    /// What is left without `other`, in at most three disjoint boxes.
    ///
    ///     ┌─────────┐      ┌──┬──────┐   other sources
    ///     │  ┌───┐  │  →   │  ├──────┤   the same sources, other destinations
    ///     │  └───┘  │      │  ├──────┤   the same of both, other ports
    ///     └─────────┘      └──┴──────┘
    func subtracting(_ other: AccessBox) -> [AccessBox] {
        guard overlaps(other) else { return [self] }
        let sameSources = sources.intersection(other.sources)
        let sameDestinations = destinations.intersection(other.destinations)
        return [
            AccessBox(sources: sources.subtracting(other.sources), destinations: destinations, ports: ports),
            AccessBox(
                sources: sameSources, destinations: destinations.subtracting(other.destinations), ports: ports),
            AccessBox(
                sources: sameSources, destinations: sameDestinations, ports: ports.subtracting(other.ports)),
        ].filter { !$0.isEmpty }
    }
}

/// The boxes of one family and one protocol. nf_tables takes no two elements that overlap, so what an earlier rule
/// covers is taken out of a later one: the first rule that permits a packet is the one that counts it.
struct AccessBoxes: Sendable {
    private(set) var parts: [(box: AccessBox, counter: String)] = []
    private var covered: [AccessBox] = []

    mutating func insert(_ box: AccessBox, counter: String) {
        if box.isEmpty { return }
        var rest = [box]
        for earlier in covered where earlier.overlaps(box) {
            rest = rest.flatMap { $0.subtracting(earlier) }
            if rest.isEmpty { return }
        }
        covered.append(box)
        parts += rest.map { ($0, counter) }
    }
}
