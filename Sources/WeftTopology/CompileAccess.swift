// Access rules as one host enforces them: maps from flows to counters, and the chain that looks into them.

import WeftDiagnostics
import WeftModel

/// What access rules become in a host's table. Packets come into `chain` from the host's own base chains.
struct AccessPolicy {
    var chain: FirewallChain
    var sets: [FirewallSet]
    /// In the order of the rules.
    var counters: [FirewallCounter]
    /// Sets of the addresses of hosts that enforce nothing themselves, by family: whoever sends to them asks the policy.
    var unmanaged: [IPAddress.Family: String]

    static let chainName = "access"
    static let refusedCounter = "access-refused"
}

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
        var sets: [FirewallSet] = []
        var chainRules = [
            FirewallRule(
                [
                    .conntrack(.state), .bitwise(mask: Self.bytes(Self.relatedState)),
                    .compare(.notEqual, Self.bytes(0)), .meta(.transport), .compare(.equal, [Self.icmp]),
                    .verdict(.accept),
                ], comment: "errors about permitted flows"),
            FirewallRule(
                [
                    .conntrack(.state), .bitwise(mask: Self.bytes(Self.relatedState)),
                    .compare(.notEqual, Self.bytes(0)), .meta(.transport), .compare(.equal, [Self.icmpv6]),
                    .verdict(.accept),
                ], comment: "errors about permitted flows"),
        ]
        let names = counterNames(rules)
        var used: Set<String> = []
        var unmanaged: [IPAddress.Family: String] = [:]
        for family in [IPAddress.Family.v4, .v6] {
            let boxes = boxes(of: rules, names, family)
            let number = family == .v4 ? "4" : "6"
            let address: FirewallSet.Field = family == .v4 ? .address4 : .address6
            if !boxes.ports.isEmpty {
                let name = "ports\(number)"
                let elements = boxes.ports.flatMap { transport, boxes in
                    boxes.parts.flatMap { part in
                        Self.elements(of: part.box, family, transport: transport, counter: part.counter)
                    }
                }
                used.formUnion(elements.map(\.counter))
                sets.append(
                    FirewallSet(
                        name, [address, address, .transport, .port], hasCounters: true,
                        elements: elements.sorted { $0.key < $1.key }))
                chainRules.append(Self.lookup(family, map: name, isReply: false, byPort: true))
                chainRules.append(Self.lookup(family, map: name, isReply: true, byPort: true))
            }
            if !boxes.pairs.parts.isEmpty {
                let name = "pairs\(number)"
                let elements = boxes.pairs.parts.flatMap { part in
                    Self.elements(of: part.box, family, transport: nil, counter: part.counter)
                }
                used.formUnion(elements.map(\.counter))
                sets.append(
                    FirewallSet(
                        name, [address, address], hasCounters: true, elements: elements.sorted { $0.key < $1.key }))
                chainRules.append(Self.lookup(family, map: name, isReply: false, byPort: false))
                chainRules.append(Self.lookup(family, map: name, isReply: true, byPort: false))
            }
            let receivers = unmanagedAddresses(family)
            if !receivers.isEmpty {
                let name = "unmanaged\(number)"
                unmanaged[family] = name
                sets.append(
                    FirewallSet(name, [address], elements: receivers.list.map { FirewallSet.Element($0, family) }))
            }
        }
        chainRules.append(
            FirewallRule([.countBy(AccessPolicy.refusedCounter), .reject(.prohibited)], comment: "all else is refused"))
        var counters = zip(names, rules).filter { used.contains($0.0) }.map {
            FirewallCounter($0, comment: Self.comment($1.text))
        }
        counters.append(FirewallCounter(AccessPolicy.refusedCounter, comment: "refused by access rules"))
        // Two rules of the same words have one counter.
        var seen: Set<String> = []
        counters = counters.filter { seen.insert($0.name).inserted }
        return AccessPolicy(
            chain: FirewallChain(AccessPolicy.chainName, rules: chainRules), sets: sets, counters: counters,
            unmanaged: unmanaged)
    }

    // MARK: Boxes

    private typealias Boxes = (ports: [(UInt8, AccessBoxes)], pairs: AccessBoxes)

    private func boxes(of rules: [AccessRule], _ names: [String], _ family: IPAddress.Family) -> Boxes {
        var byTransport: [UInt8: AccessBoxes] = [:]
        var pairs = AccessBoxes()
        let anyPort = Ranges(UInt16.min...UInt16.max)
        let own = ownAddresses(family)
        let internet = internet(family)
        for (rule, name) in zip(rules, names) {
            let sources = addresses(rule.from, family, internet)
            let destinations = addresses(rule.to, family, internet)
            // A host that passes nothing on sees only what comes to it and what it sends.
            let reaches =
                forwards
                ? [(sources, destinations)]
                : [(sources, destinations.intersection(own)), (sources.intersection(own), destinations)]
            for (sources, destinations) in reaches where !sources.isEmpty && !destinations.isEmpty {
                if rule.ports.isEmpty {
                    pairs.insert(
                        AccessBox(sources: sources, destinations: destinations, ports: anyPort), counter: name)
                }
                for (transport, ports) in Self.ports(rule.ports, family) {
                    byTransport[transport, default: AccessBoxes()].insert(
                        AccessBox(sources: sources, destinations: destinations, ports: ports), counter: name)
                }
            }
        }
        return (byTransport.filter { !$0.value.parts.isEmpty }.sorted { $0.key < $1.key }, pairs)
    }

    /// The ports of each protocol, by its number. ICMP has none: what stands where TCP has them is of no account.
    private static func ports(_ ports: [Located<AccessPort>], _ family: IPAddress.Family) -> [(UInt8, Ranges<UInt16>)] {
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
        var result: [(UInt8, Ranges<UInt16>)] = []
        if hasICMP { result.append((family == .v4 ? icmp : icmpv6, Ranges(UInt16.min...UInt16.max))) }
        if !tcp.isEmpty { result.append((Self.tcp, Ranges(tcp))) }
        if !udp.isEmpty { result.append((Self.udp, Ranges(udp))) }
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

    /// All that is neither in the mesh nor behind one of its nodes.
    private func internet(_ family: IPAddress.Family) -> Addresses {
        let known = topology.mesh.addresses.map(\.value) + topology.nodes.flatMap { $0.allowedIPs.map(\.value) }
        let all = Addresses(0...(family == .v4 ? UInt128(UInt32.max) : UInt128.max))
        return all.subtracting(Addresses(known.filter { $0.family == family }.map(\.range)))
    }

    private func unmanagedAddresses(_ family: IPAddress.Family) -> Addresses {
        var ranges: [ClosedRange<UInt128>] = []
        for (index, node) in topology.nodes.enumerated() where node.isUnmanaged && index != host && isActive[index] {
            for address in node.addresses where address.value.family == family {
                ranges.append(address.value.number...address.value.number)
            }
            ranges += node.allowedIPs.map(\.value).filter { $0.family == family }.map(\.range)
        }
        return Addresses(ranges)
    }

    // MARK: Elements

    private static func elements(
        of box: AccessBox, _ family: IPAddress.Family, transport: UInt8?, counter: String
    ) -> [FirewallSet.Element] {
        var elements: [FirewallSet.Element] = []
        for source in box.sources.list {
            for destination in box.destinations.list {
                var lower = FirewallKey()
                var upper = FirewallKey()
                lower.append(IPAddress(source.lowerBound, family))
                upper.append(IPAddress(source.upperBound, family))
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

    // MARK: Rules

    /// Accepts what a map has. Every packet of a flow is looked up, not only the first one: a flow that is no longer
    /// permitted ends at once. A reply is looked up as what it answers.
    private static func lookup(
        _ family: IPAddress.Family, map: String, isReply: Bool, byPort: Bool
    ) -> FirewallRule {
        let length = UInt32(family.bitWidth / 8)
        let source = UInt32(family == .v4 ? 12 : 8)
        let destination = source + length
        let registers = UInt8(length / 4)
        var expressions: [FirewallExpression] = [
            .conntrack(.direction), .compare(.equal, [isReply ? 1 : 0]),
            .meta(.family), .compare(.equal, [family == .v4 ? ipv4 : ipv6]),
            .payload(.network, offset: isReply ? destination : source, length: length),
            .payload(.network, offset: isReply ? source : destination, length: length, into: registers),
        ]
        if byPort {
            expressions += [
                .meta(.transport, into: registers * 2),
                .payload(.transport, offset: isReply ? 0 : 2, length: 2, into: registers * 2 + 1),
            ]
        }
        expressions += [.countByMap(set: map), .verdict(.accept)]
        return FirewallRule(expressions, comment: isReply ? "replies to permitted flows" : "permitted flows")
    }

    // NFPROTO_IPV4 and NFPROTO_IPV6.
    private static let ipv4: UInt8 = 2
    private static let ipv6: UInt8 = 10
    // Protocol numbers, as IANA has them.
    private static let icmp: UInt8 = 1
    private static let tcp: UInt8 = 6
    private static let udp: UInt8 = 17
    private static let icmpv6: UInt8 = 58
    /// NF_CT_STATE_BIT(IP_CT_RELATED).
    private static let relatedState: UInt32 = 4

    /// As a register holds it.
    private static func bytes(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

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

extension AccessRule {
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
