// Access rules as one host enforces them: maps from flows to counters, for the chains that look into them.

import WeftDiagnostics
package import WeftModel

/// Turns a topology's rules into one host's policy.
struct AccessCompiler {
    let topology: Topology
    let host: Int
    let isActive: [Bool]
    /// Whether the host passes others' packets on: it holds all rules then, and else those of its own addresses.
    let forwards: Bool

    private typealias Addresses = Ranges<UInt128>
    private let groups: [String: Int]

    init(topology: Topology, host: Int, isActive: [Bool], forwards: Bool) {
        self.topology = topology
        self.host = host
        self.isActive = isActive
        self.forwards = forwards
        groups = Dictionary(topology.groups.enumerated().map { ($1.name.value, $0) }) { first, _ in first }
    }

    /// Nil where the topology has no access rules: all may reach all.
    func compile() -> AccessPolicy? {
        guard let rules = topology.access else { return nil }
        let names = counterNames(rules)
        var sets: [FirewallSet] = []
        var lookups: [AccessPolicy.Lookup] = []
        var used: Set<String> = []
        var unmanaged: [IPAddress.Family: String] = [:]
        for family in [IPAddress.Family.v4, .v6] {
            let number = family == .v4 ? "4" : "6"
            let address: FirewallSet.Field = family == .v4 ? .address4 : .address6
            func add(_ name: String, _ fields: [FirewallSet.Field], _ elements: [FirewallSet.Element]) {
                if elements.isEmpty { return }
                used.formUnion(elements.map(\.counter))
                sets.append(
                    FirewallSet(
                        name + number, fields, hasCounters: true, elements: elements.sorted { $0.key < $1.key }))
            }
            func add(
                _ boxes: Boxes, _ prefix: String, from: AccessPolicy.Lookup.Source, _ fields: [FirewallSet.Field]
            ) {
                for kind in AccessPolicy.MapKind.allCases {
                    let boxes = boxes.filter { kind == .init($0.transport) }
                    let elements = boxes.flatMap { transport, boxes in
                        boxes.parts.flatMap {
                            Self.elements(
                                of: $0.box, family, isNode: from == .node,
                                transport: kind == .ports ? transport?.rawValue : nil, counter: $0.counter)
                        }
                    }
                    add(prefix + kind.rawValue, fields + (kind == .ports ? [.transport, .port] : []), elements)
                    var transports = boxes.map(\.transport)
                    // For errors: their flow is found by its own protocol and ports.
                    if kind == .ports, !boxes.isEmpty { transports.append(family == .v4 ? .icmp : .icmpv6) }
                    lookups += transports.map {
                        .init(kind, of: prefix + kind.rawValue + number, family, from: from, transport: $0)
                    }
                }
            }
            let named = rules.map { $0.keeping { $0 != .internet } }
            let internet = rules.map { $0.keeping { $0 == .internet } }
            add(boxes(of: named, names, family), "", from: .address, [address, address])
            add(boxes(of: internet, names, family), "internet-", from: .internetUser, [address, address])
            add(nodeBoxes(of: rules, names, family), "node-", from: .node, [address])
            let receivers = unmanagedAddresses(family)
            if !receivers.isEmpty {
                let name = "unmanaged\(number)"
                unmanaged[family] = name
                sets.append(
                    FirewallSet(name, [address], elements: receivers.list.map { FirewallSet.Element($0, family) }))
            }
        }
        var counters = zip(names, rules).filter { used.contains($0.0) }.map {
            FirewallCounter($0, comment: Self.comment($1.text))
        }
        counters.append(FirewallCounter(AccessPolicy.refusedCounter, comment: "refused by access rules"))
        // Two rules of the same words have one counter.
        var seen: Set<String> = []
        counters = counters.filter { seen.insert($0.name).inserted }
        return AccessPolicy(lookups: lookups, sets: sets, counters: counters, unmanaged: unmanaged)
    }

    /// Whether a rule lets an address send echo requests to another. It counts for whoever enforces the rules on the way.
    func permitsEcho(from source: IPAddress, to destination: IPAddress) -> Bool {
        guard let rules = topology.access else { return true }
        let family = source.family
        let internet = topology.internet(family)
        func holds(_ subjects: [Located<AccessSubject>], _ address: IPAddress) -> Bool {
            addresses(subjects, family, internet).overlaps(Addresses(address.number...address.number))
        }
        return rules.contains { rule in
            (rule.ports.isEmpty || rule.ports.contains { $0.value == .icmp })
                && holds(rule.from, source) && holds(rule.to, destination)
        }
    }

    // MARK: Boxes

    /// Boxes of each protocol, and of all: nil.
    private typealias Boxes = [(transport: RulePart.Transport?, boxes: AccessBoxes)]

    private func boxes(of rules: [AccessRule], _ names: [String], _ family: IPAddress.Family) -> Boxes {
        let own = ownAddresses(family)
        return boxes(of: rules, names, family) { sources, destinations in
            // A host that passes nothing on sees only what comes to it and what it sends.
            forwards
                ? [(sources, destinations)]
                : [(sources, destinations.intersection(own)), (sources.intersection(own), destinations)]
        }
    }

    /// What this node itself may reach elsewhere. Its exit's users that have no controller take any source from it, and
    /// ask nobody: whoever passes for this node does not get there.
    private func nodeBoxes(of rules: [AccessRule], _ names: [String], _ family: IPAddress.Family) -> Boxes {
        let own = ownAddresses(family)
        let barred = Addresses(
            own.list
                + topology.nodes.filter { $0.isUnmanaged && $0.useExit?.value == topology.nodes[host].name }.flatMap {
                    $0.ranges(family)
                })
        let anywhere = Addresses(0...0)
        return boxes(of: rules, names, family) { sources, destinations in
            sources.overlaps(own) ? [(anywhere, destinations.subtracting(barred))] : []
        }
    }

    private func boxes(
        of rules: [AccessRule], _ names: [String], _ family: IPAddress.Family,
        reaches: (Addresses, Addresses) -> [(Addresses, Addresses)]
    ) -> Boxes {
        var byTransport: [RulePart.Transport?: AccessBoxes] = [:]
        let internet = topology.internet(family)
        for (rule, name) in zip(rules, names) {
            let reaches = reaches(addresses(rule.from, family, internet), addresses(rule.to, family, internet))
            for (sources, destinations) in reaches where !sources.isEmpty && !destinations.isEmpty {
                for (transport, ports) in Self.ports(rule.ports, family) {
                    byTransport[transport, default: AccessBoxes()].insert(
                        AccessBox(sources: sources, destinations: destinations, ports: ports), counter: name)
                }
            }
        }
        return byTransport.filter { !$0.value.parts.isEmpty }
            .sorted { $0.key?.rawValue ?? .max < $1.key?.rawValue ?? .max }.map { ($0.key, $0.value) }
    }

    /// The ports of each protocol; nil: of all. ICMP has none: what stands where TCP has them is of no account.
    private static func ports(
        _ ports: [Located<AccessPort>], _ family: IPAddress.Family
    ) -> [(RulePart.Transport?, Ranges<UInt16>)] {
        let any = Ranges(UInt16.min...UInt16.max)
        if ports.isEmpty { return [(nil, any)] }
        var tcp: [ClosedRange<UInt16>] = []
        var udp: [ClosedRange<UInt16>] = []
        var hasICMP = false
        for port in ports {
            switch port.value {
            case .tcp(let range): tcp.append(range)
            case .udp(let range): udp.append(range)
            case .icmp: hasICMP = true
            }
        }
        var result: [(RulePart.Transport?, Ranges<UInt16>)] = []
        if hasICMP { result.append((family == .v4 ? .icmp : .icmpv6, any)) }
        if !tcp.isEmpty { result.append((.tcp, Ranges(tcp))) }
        if !udp.isEmpty { result.append((.udp, Ranges(udp))) }
        return result
    }

    // MARK: Addresses

    private func addresses(
        _ subjects: [Located<AccessSubject>], _ family: IPAddress.Family, _ internet: Addresses
    ) -> Addresses {
        var ranges: [ClosedRange<UInt128>] = []
        var seen: Set<Int> = []
        var queue: [String] = []
        for subject in subjects {
            switch subject.value {
            case .internet: ranges += internet.list
            case .named(let name): queue.append(name)
            case .prefix(let prefix): if prefix.family == family { ranges.append(prefix.range) }
            }
        }
        while let name = queue.popLast() {
            if let index = topology.index(ofNode: name) {
                // Who is disabled or expired may reach nothing, and is nowhere to be reached.
                guard isActive[index] else { continue }
                for address in topology.nodes[index].addresses where address.value.family == family {
                    ranges.append(address.value.number...address.value.number)
                }
            } else if let group = groups[name], seen.insert(group).inserted {
                queue += topology.groups[group].members.map(\.value)
            }
        }
        return Addresses(ranges)
    }

    private func ownAddresses(_ family: IPAddress.Family) -> Addresses {
        Addresses(
            topology.nodes[host].addresses.filter { $0.value.family == family }.map {
                $0.value.number...$0.value.number
            })
    }

    private func unmanagedAddresses(_ family: IPAddress.Family) -> Addresses {
        var ranges: [ClosedRange<UInt128>] = []
        for (index, node) in topology.nodes.enumerated() where node.isUnmanaged && index != host && isActive[index] {
            ranges += node.ranges(family)
        }
        return Addresses(ranges)
    }

    // MARK: Elements

    private static func elements(
        of box: AccessBox, _ family: IPAddress.Family, isNode: Bool, transport: UInt8?, counter: String
    ) -> [FirewallSet.Element] {
        var elements: [FirewallSet.Element] = []
        for source in box.sources.list {
            for destination in box.destinations.list {
                var lower = FirewallKey()
                var upper = FirewallKey()
                if !isNode {
                    lower.append(IPAddress(source.lowerBound, family))
                    upper.append(IPAddress(source.upperBound, family))
                }
                lower.append(IPAddress(destination.lowerBound, family))
                upper.append(IPAddress(destination.upperBound, family))
                guard let transport else {
                    elements.append(FirewallSet.Element(lower, upper, counter: counter))
                    continue
                }
                lower.append(transport: transport)
                upper.append(transport: transport)
                for ports in box.ports.list {
                    var (first, last) = (lower, upper)
                    first.append(port: ports.lowerBound)
                    last.append(port: ports.upperBound)
                    elements.append(FirewallSet.Element(first, last, counter: counter))
                }
            }
        }
        return elements
    }

    // MARK: Counters

    /// A counter's name for each rule, by the rule's words, so that it keeps its counts wherever the rule stands.
    private func counterNames(_ rules: [AccessRule]) -> [String] {
        var taken: [String: String] = [:]
        return rules.map { rule in
            let text = rule.text
            var salted = text
            while true {
                let digits = String(MeshIdentity.hash(salted), radix: 16)
                let name = "access-" + String(repeating: "0", count: 8 - digits.count) + digits
                if taken[name, default: text] == text {
                    taken[name] = text
                    return name
                }
                salted += "\u{0}"
            }
        }
    }

    /// At most 120 bytes, of which nft shows all.
    private static func comment(_ text: String) -> String {
        guard text.utf8.count > 120 else { return text }
        var result = ""
        for character in text {
            if result.utf8.count + String(character).utf8.count > 117 { break }
            result.append(character)
        }
        return result + "…"
    }
}

extension Topology {
    /// Whether the access rules let an address send echo requests to another of its family at a moment. Without rules all
    /// may.
    package func permitsEcho(from source: IPAddress, to destination: IPAddress, at time: UnixTime) -> Bool {
        AccessCompiler(topology: self, host: 0, isActive: nodes.map { $0.isActive(at: time) }, forwards: true)
            .permitsEcho(from: source, to: destination)
    }
}

extension Node {
    /// Its addresses, and the networks behind it.
    func ranges(_ family: IPAddress.Family) -> [ClosedRange<UInt128>] {
        addresses.filter { $0.value.family == family }.map { $0.value.number...$0.value.number }
            + allowedIPs.filter { $0.value.family == family }.map(\.value.range)
    }
}

extension AccessRule {
    /// With some of its destinations.
    fileprivate func keeping(_ isKept: (AccessSubject) -> Bool) -> Self {
        var result = self
        result.to.removeAll { !isKept($0.value) }
        return result
    }

    /// `ops → fra, 192.168.3.0/24: tcp/22, icmp`.
    package var text: String {
        let ends = [from, to].map { $0.map(\.value.text).joined(separator: ", ") }.joined(separator: " → ")
        return ports.isEmpty ? ends : ends + ": " + ports.map(\.value.text).joined(separator: ", ")
    }
}

extension AccessSubject {
    /// As a topology has it.
    package var text: String {
        switch self {
        case .named(let name): name
        case .prefix(let prefix): prefix.description
        case .internet: "internet"
        }
    }
}

extension AccessPort {
    /// `tcp/22`, `udp/1000-2000`, `icmp`.
    package var text: String {
        func numbers(_ range: ClosedRange<UInt16>) -> String {
            range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
        }
        return switch self {
        case .tcp(let range): "tcp/\(numbers(range))"
        case .udp(let range): "udp/\(numbers(range))"
        case .icmp: "icmp"
        }
    }
}
