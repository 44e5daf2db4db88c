// How far access rules reach: rules between families, which match nothing, and rules that come to very many elements.

import WeftDiagnostics
import WeftModel

extension Validator {
    /// From so many elements on, loading them takes seconds.
    private static let manyElements = 50_000

    mutating func checkReach(_ rules: [AccessRule]) {
        var addresses = SubjectAddresses(topology, groups)
        var total = 0
        var largest: (count: Int, place: SourceRange)?
        for rule in rules {
            let (from, to) = (addresses.of(rule.from), addresses.of(rule.to))
            let common = IPAddress.Family.allCases.filter { from[$0] != nil && to[$0] != nil }
            if common.isEmpty, let sender = from.keys.first, let receiver = to.keys.first {
                problems.warning(
                    "topology.access-families",
                    "from \(sender.name) addresses only to \(receiver.name) addresses only: this matches nothing",
                    at: rule.place,
                    notes: [Diagnostic.Note("name senders and receivers that have addresses of the same family")])
            }
            let pairs = common.reduce(0) { $0 + (from[$1]?.list.count ?? 0) * (to[$1]?.list.count ?? 0) }
            let count = pairs * Self.portRanges(rule.ports)
            total += count
            if count > largest?.count ?? 0 { largest = (count, rule.place) }
        }
        guard total > Self.manyElements, let largest else { return }
        problems.warning(
            "topology.access-size",
            "access rules come to as many as \(grouped(total)) elements, \(grouped(largest.count)) of them by this rule: a "
                + "host that passes packets on has one for each pair of sender and receiver, and takes long to load them",
            at: largest.place,
            notes: [
                Diagnostic.Note(
                    "addresses in a row count as one: give the nodes of a group neighbouring addresses, or name a prefix "
                        + "that holds them")
            ])
    }

    /// How many elements the ports of a rule come to, for one sender and one receiver.
    private static func portRanges(_ ports: [Located<AccessPort>]) -> Int {
        var tcp: [ClosedRange<UInt16>] = []
        var udp: [ClosedRange<UInt16>] = []
        var icmp = 0
        for port in ports {
            switch port.value {
            case .tcp(let range): tcp.append(range)
            case .udp(let range): udp.append(range)
            case .icmp: icmp = 1
            }
        }
        return max(1, icmp + Ranges(tcp).list.count + Ranges(udp).list.count)
    }
}

/// What the subjects of access rules stand for, whether nodes take part or not. Each name is looked up once.
private struct SubjectAddresses {
    typealias Reach = [IPAddress.Family: Ranges<UInt128>]

    private let topology: Topology
    private let groups: [String: Int]
    private var known: [String: Reach] = [:]
    private let internet: Reach

    init(_ topology: Topology, _ groups: [String: Int]) {
        self.topology = topology
        self.groups = groups
        internet = Dictionary(
            uniqueKeysWithValues: IPAddress.Family.allCases.map { ($0, topology.internet($0)) })
    }

    /// Families without an address are absent.
    mutating func of(_ subjects: [Located<AccessSubject>]) -> Reach {
        let parts = subjects.map { subject -> Reach in
            switch subject.value {
            case .internet: internet
            case .prefix(let prefix): [prefix.family: Ranges(prefix.range)]
            case .named(let name): reach(of: name)
            }
        }
        return parts.count == 1 ? parts[0] : Self.merged(parts)
    }

    private mutating func reach(of name: String) -> Reach {
        if let reach = known[name] { return reach }
        var reach: Reach = [:]
        if let node = topology.index(ofNode: name) {
            let addresses = Dictionary(grouping: topology.nodes[node].addresses.map(\.value), by: \.family)
            reach = addresses.mapValues { Ranges($0.map { $0.number...$0.number }) }
        } else if let group = groups[name] {
            // There are no cycles.
            reach = Self.merged(topology.groups[group].members.map { self.reach(of: $0.value) })
        }
        known[name] = reach
        return reach
    }

    private static func merged(_ parts: [Reach]) -> Reach {
        var lists: [IPAddress.Family: [ClosedRange<UInt128>]] = [:]
        for part in parts { for (family, ranges) in part { lists[family, default: []] += ranges.list } }
        return lists.mapValues { Ranges($0) }
    }
}
