// Access rules against a plain reading of them: what the elements let through is what the rules say, and no two overlap.

import Testing
import WeftDiagnostics
import WeftModel
import WeftTestSupport

@testable import WeftTopology

private let nowhere = SourceRange(
    file: 0, start: SourcePosition(line: 1, column: 1), end: SourcePosition(line: 1, column: 1))

/// Eight nodes of both families, a network behind the last one, and two groups, of which one is in the other.
private struct Bed {
    static let addresses4 = (0..<8 as Range<UInt32>).map { IPAddress(v4: 0x0A50_0001 + $0 * ($0 % 3 + 1)) }
    static let addresses6 = (0..<8 as Range<UInt64>).map { IPAddress(v6: 0xFD80 << 48, $0 + 1) }
    static let lan = IPPrefix("192.168.3.0/24") ?? IPPrefix(host: addresses4[0])
    static let names = (0..<8).map { "n\($0)" }

    static func topology(_ access: [AccessRule]?) throws -> Topology {
        var nodes: [Node] = []
        for (index, name) in names.enumerated() {
            var node = Node(
                place: nowhere, name: name,
                publicKey: Located(PublicKey(bigEndianWords: UInt64(index + 1) << 32, 1, 2, 3), at: nowhere),
                addresses: [Located(addresses4[index], at: nowhere), Located(addresses6[index], at: nowhere)])
            if index == 7 { node.allowedIPs = [Located(lan, at: nowhere)] }
            nodes.append(node)
        }
        let mesh = Mesh(
            name: Located("corp", at: nowhere), interface: Located("wg0", at: nowhere),
            addresses: [
                Located(try #require(IPPrefix("10.80.0.0/16")), at: nowhere),
                Located(try #require(IPPrefix("fd80::/48")), at: nowhere),
            ])
        func group(_ name: String, _ members: String...) -> Group {
            Group(name: Located(name, at: nowhere), members: members.map { Located($0, at: nowhere) })
        }
        return Topology(
            mesh: mesh, nodes: nodes, groups: [group("few", "n1", "n2", "n5"), group("more", "few", "n6", "n7")],
            access: access)
    }

    /// The nodes that a word stands for.
    static func members(_ name: String) -> [Int] {
        switch name {
        case "few": [1, 2, 5]
        case "more": [1, 2, 5, 6, 7]
        default: names.firstIndex(of: name).map { [$0] } ?? []
        }
    }

    static func subject(_ random: inout SeededGenerator) -> AccessSubject {
        switch Int.random(in: 0..<10, using: &random) {
        case 0: .named("few")
        case 1: .named("more")
        case 2: .prefix(lan)
        case 3: .prefix(IPPrefix("10.80.0.0/29") ?? lan)
        case 4: .prefix(IPPrefix("fd80::/64") ?? lan)
        case 5: .internet
        default: .named(names.randomElement(using: &random) ?? "n0")
        }
    }

    static func rule(_ random: inout SeededGenerator) -> AccessRule {
        func subjects() -> [Located<AccessSubject>] {
            (0..<Int.random(in: 1...3, using: &random)).map { _ in Located(subject(&random), at: nowhere) }
        }
        let from = subjects()
        let to = subjects()
        let ports = (0..<Int.random(in: 0...3, using: &random)).map { _ -> Located<AccessPort> in
            let low = UInt16.random(in: 1...6, using: &random)
            let range = low...low + UInt16.random(in: 0...4, using: &random)
            let port: AccessPort =
                switch Int.random(in: 0..<5, using: &random) {
                case 0: .icmp
                case 1, 2: .udp(range)
                default: .tcp(range)
                }
            return Located(port, at: nowhere)
        }
        return AccessRule(place: nowhere, from: from, to: to, ports: ports)
    }
}

/// A packet that opens a flow.
private struct Packet {
    var source: IPAddress
    var destination: IPAddress
    var transport: UInt8
    var port: UInt16

    static func random(_ random: inout SeededGenerator) -> Packet {
        let isFour = Bool.random(using: &random)
        func address() -> IPAddress {
            let four =
                Bed.addresses4 + [IPAddress(v4: 0xC0A8_0305), IPAddress(v4: 0x0808_0808), IPAddress(v4: 0x0A50_F000)]
            let six = Bed.addresses6 + [IPAddress(v6: 0x2001 << 48, 1)]
            return (isFour ? four : six).randomElement(using: &random) ?? four[0]
        }
        return Packet(
            source: address(), destination: address(),
            transport: [1, 6, 6, 17, 17, 47, 58].randomElement(using: &random) ?? 6,
            port: UInt16.random(in: 0...12, using: &random))
    }

    /// The first rule that permits it, read as a person would.
    func verdict(_ rules: [AccessRule]) -> Int? {
        rules.firstIndex { rule in
            rule.from.contains { holds($0.value, source) } && rule.to.contains { holds($0.value, destination) }
                && (rule.ports.isEmpty || rule.ports.contains { holds($0.value) })
        }
    }

    private func holds(_ subject: AccessSubject, _ address: IPAddress) -> Bool {
        switch subject {
        case .named(let name):
            return Bed.members(name).contains { Bed.addresses4[$0] == address || Bed.addresses6[$0] == address }
        case .prefix(let prefix): return prefix.contains(address)
        case .internet:
            return ![IPPrefix("10.80.0.0/16"), IPPrefix("fd80::/48"), Bed.lan].contains {
                $0?.contains(address) ?? false
            }
        }
    }

    private func holds(_ port: AccessPort) -> Bool {
        switch port {
        case .icmp: transport == (source.family == .v4 ? 1 : 58)
        case .tcp(let range): transport == 6 && range.contains(self.port)
        case .udp(let range): transport == 17 && range.contains(self.port)
        }
    }

    /// The counters of all elements that it matches.
    func matches(_ policy: AccessPolicy, from lookup: AccessPolicy.Lookup.Source = .address) -> [String] {
        let lookups = policy.lookups.filter { $0.source == lookup && $0.family == source.family }
        let maps = lookups.filter { $0.transport == nil || $0.transport?.rawValue == transport }.map(\.map)
        return policy.sets.filter { maps.contains($0.name) }.flatMap { set -> [String] in
            var key = FirewallKey()
            if lookup != .node { key.append(source) }
            key.append(destination)
            if set.fields.last == .port {
                key.append(transport: transport)
                key.append(port: port)
            }
            return set.elements.filter { $0.holds(key, set.fields) }.map(\.counter)
        }
    }
}

extension FirewallSet.Element {
    /// Whether every field of a key lies between the bounds.
    fileprivate func holds(_ key: FirewallKey, _ fields: [FirewallSet.Field]) -> Bool {
        var offset = 0
        for field in fields {
            func number(_ key: FirewallKey) -> UInt128 {
                stride(from: offset, to: offset + field.paddedSize, by: 4).reduce(0) {
                    $0 << 32 | UInt128(key.value(at: $1))
                }
            }
            guard (number(lower)...number(upper)).contains(number(key)) else { return false }
            offset += field.paddedSize
        }
        return true
    }
}

@Suite struct AccessTests {
    private func policy(_ rules: [AccessRule]?, host: Int = 0, forwards: Bool = true) throws -> AccessPolicy? {
        AccessCompiler(
            topology: try Bed.topology(rules), host: host, isActive: [Bool](repeating: true, count: 8),
            forwards: forwards
        ).compile()
    }

    @Test func withoutTheSectionAllMayReachAll() throws {
        #expect(try policy(nil) == nil)
    }

    @Test func anEmptySectionRefusesAll() throws {
        let policy = try #require(try policy([]))
        #expect(policy.sets.isEmpty)
        #expect(policy.counters.map(\.name) == ["access-refused"])
        for chain in policy.chains(interface: "wg0", known: [:]) {
            #expect(chain.rules.last?.expressions.last == .reject(.prohibited))
        }
    }

    @Test(arguments: 0..<60 as Range<UInt64>) func elementsLetThroughWhatTheRulesSay(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let rules = (0..<Int.random(in: 1...12, using: &random)).map { _ in Bed.rule(&random) }
        let policy = try #require(try policy(rules))
        for _ in 0..<400 {
            let packet = Packet.random(&random)
            let lists = [packet.matches(policy), packet.matches(policy, from: .internetUser)]
            #expect(lists.allSatisfy(\.isEmpty) == (packet.verdict(rules) == nil), "\(packet)")
            // One map by port and one without: a packet may be in both, and never twice in one.
            for matches in lists { #expect(matches.count <= 2) }
            // Without the rules' `internet`, what is left is the rest.
            let others = rules.map { rule in
                var rule = rule
                rule.to.removeAll { $0.value == .internet }
                return rule
            }
            #expect(lists[0].isEmpty == (packet.verdict(others) == nil), "\(packet)")
        }
        for set in policy.sets {
            #expect(set.elements == set.elements.sorted { $0.key < $1.key })
            for (index, element) in set.elements.enumerated() {
                for other in set.elements[(index + 1)...] {
                    #expect(!overlap(element, other, set.fields), "\(set.name) \(element) \(other)")
                }
            }
        }
        #expect(Set(policy.sets.flatMap { $0.elements.map(\.counter) }).isSubset(of: policy.counters.map(\.name)))
        #expect(policy.counters.allSatisfy { $0.name.utf8.count <= 15 })
    }

    /// Who looks for signs of life is told the same as the packets are.
    @Test(arguments: 300..<330 as Range<UInt64>) func echoesAreJudgedAsTheRulesSay(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let rules = (0..<Int.random(in: 1...4, using: &random)).map { _ in Bed.rule(&random) }
        let topology = try Bed.topology(rules)
        for _ in 0..<200 {
            var packet = Packet.random(&random)
            packet.transport = packet.source.family == .v4 ? 1 : 58
            #expect(
                topology.permitsEcho(from: packet.source, to: packet.destination, at: now)
                    == (packet.verdict(rules) != nil), "\(packet)")
        }
        #expect(try Bed.topology(nil).permitsEcho(from: Bed.addresses4[0], to: Bed.addresses4[1], at: now))
        #expect(try !Bed.topology([]).permitsEcho(from: Bed.addresses4[0], to: Bed.addresses4[1], at: now))
    }

    private func overlap(
        _ left: FirewallSet.Element, _ right: FirewallSet.Element, _ fields: [FirewallSet.Field]
    ) -> Bool {
        var offset = 0
        for field in fields {
            func number(_ key: FirewallKey) -> UInt128 {
                stride(from: offset, to: offset + field.paddedSize, by: 4).reduce(0) {
                    $0 << 32 | UInt128(key.value(at: $1))
                }
            }
            if number(left.upper) < number(right.lower) || number(right.upper) < number(left.lower) { return false }
            offset += field.paddedSize
        }
        return true
    }

    /// A host that passes nothing on has the rules of its own packets, and decides those as a host with all rules does.
    @Test(arguments: 100..<130 as Range<UInt64>) func aLeafDecidesItsOwnPacketsAlike(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let rules = (0..<Int.random(in: 1...8, using: &random)).map { _ in Bed.rule(&random) }
        let leaf = try #require(try policy(rules, host: 2, forwards: false))
        for _ in 0..<300 {
            var packet = Packet.random(&random)
            let own = packet.source.family == .v4 ? Bed.addresses4[2] : Bed.addresses6[2]
            if Bool.random(using: &random) { packet.source = own } else { packet.destination = own }
            let matches = packet.matches(leaf) + packet.matches(leaf, from: .internetUser)
            #expect(matches.isEmpty == (packet.verdict(rules) == nil), "\(packet)")
        }
        let others = try #require(try policy(rules, host: 2, forwards: true))
        func count(_ policy: AccessPolicy) -> Int { policy.sets.reduce(0) { $0 + $1.elements.count } }
        #expect(count(leaf) <= count(others) * 2)
    }

    /// Whoever passes for a node may reach what the node itself may, elsewhere.
    @Test(arguments: 200..<230 as Range<UInt64>) func aNodesOwnReachIsThatOfItsAddresses(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let rules = (0..<Int.random(in: 1...8, using: &random)).map { _ in Bed.rule(&random) }
        let policies = try [false, true].map { try #require(try policy(rules, host: 2, forwards: $0)) }
        for _ in 0..<300 {
            var packet = Packet.random(&random)
            let own = packet.source.family == .v4 ? Bed.addresses4[2] : Bed.addresses6[2]
            packet.source = own
            let isPermitted = packet.destination != own && packet.verdict(rules) != nil
            for policy in policies {
                #expect(packet.matches(policy, from: .node).isEmpty == !isPermitted, "\(packet)")
            }
        }
    }

    /// Two rules that overlap: the first one counts what both permit.
    @Test func theFirstRuleCounts() throws {
        let ops = AccessRule(
            place: nowhere, from: [Located(.named("few"), at: nowhere)], to: [Located(.named("n0"), at: nowhere)],
            ports: [Located(.tcp(22...22), at: nowhere)])
        var all = ops
        all.from = [Located(.prefix(try #require(IPPrefix("10.80.0.0/16"))), at: nowhere)]
        all.ports = [Located(.tcp(1...100), at: nowhere)]
        let policy = try #require(try policy([ops, all]))
        let names = [ops, all].map { rule in policy.counters.first { $0.comment == rule.text }?.name ?? "" }
        let packet = Packet(source: Bed.addresses4[1], destination: Bed.addresses4[0], transport: 6, port: 22)
        #expect(packet.matches(policy) == [names[0]])
        var other = packet
        other.port = 23
        #expect(other.matches(policy) == [names[1]])
        #expect(policy.counters.map(\.comment).contains("few → n0: tcp/22"))
    }

    /// Their names are hashes: people know the rules by the order in which they wrote them.
    @Test func countersKeepTheOrderOfTheRules() throws {
        let rules = (0..<8).map { number in
            AccessRule(
                place: nowhere, from: [Located(.named("n1"), at: nowhere)], to: [Located(.named("n0"), at: nowhere)],
                ports: [Located(.tcp(UInt16(80 + number)...UInt16(80 + number)), at: nowhere)])
        }
        let desired = try Bed.topology(rules.reversed()).compile(
            for: 0, facts: HostFacts(), at: UnixTime(seconds: 0)
        ).desired
        let comments = Dictionary(
            uniqueKeysWithValues: (desired.state.firewall?.counters ?? []).map { ($0.name, $0.comment) })
        #expect(
            desired.counterNames.map { comments[$0] ?? "" } == rules.reversed().map(\.text) + [
                "refused by access rules"
            ])
    }

    /// A thousand rules among a thousand nodes: as many elements as rules have ends, and no more.
    @Test func manyRulesStaySets() throws {
        var nodes: [Node] = []
        for index in 0..<1_000 as Range<UInt32> {
            nodes.append(
                Node(
                    place: nowhere, name: "n\(10_000 + index)",
                    publicKey: Located(PublicKey(bigEndianWords: UInt64(index + 1) << 32, 1, 2, 3), at: nowhere),
                    addresses: [Located(IPAddress(v4: 0x0A50_0001 + index * 2), at: nowhere)]))
        }
        var topology = try Bed.topology([])
        topology.nodes = nodes
        topology.groups = [
            Group(name: Located("all", at: nowhere), members: nodes.map { Located($0.name, at: nowhere) })
        ]
        topology.access = nodes.indices.map { index in
            let port = UInt16(index + 1)
            let from = AccessSubject.named(index == 0 ? "all" : nodes[index].name)
            let to = AccessSubject.named(nodes[(index * 7 + 1) % 1_000].name)
            return AccessRule(
                place: nowhere, from: [Located(from, at: nowhere)], to: [Located(to, at: nowhere)],
                ports: [Located(.tcp(port...port), at: nowhere)])
        }
        let policy = try #require(
            AccessCompiler(
                topology: topology, host: 0, isActive: [Bool](repeating: true, count: 1_000), forwards: true
            ).compile())
        let known = [IPAddress.Family.v4: ["bound4"]]
        #expect(policy.chains(interface: "wg0", known: known).map(\.rules.count) == [7, 3, 3])
        #expect(policy.sets.map(\.name) == ["ports4", "node-ports4"])
        // Of the node itself: the rule for all, in which it is.
        #expect(policy.sets.map(\.elements.count) == [1_999, 1])
        #expect(policy.counters.count == 1_001)
    }
}
