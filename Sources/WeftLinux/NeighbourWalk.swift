// The way of a mesh's packets through another program's chain: whether they come out of it.

import CLinux
import Netlink
import WeftModel

/// Another program's table: its rules, and its sets as far as they are asked for.
final class NeighbourTable {
    let family: UInt8
    let name: String
    let rules: [String: [NeighbourRule]]
    private let readSet: (String) throws(NetlinkError) -> NeighbourSet
    private var sets: [String: NeighbourSet] = [:]

    init(
        family: UInt8, name: String, rules: [String: [NeighbourRule]],
        readSet: @escaping (String) throws(NetlinkError) -> NeighbourSet
    ) {
        self.family = family
        self.name = name
        self.rules = rules
        self.readSet = readSet
    }

    func set(_ name: String) throws(NetlinkError) -> NeighbourSet {
        if let set = sets[name] { return set }
        let set = try readSet(name)
        sets[name] = set
        return set
    }

    /// Whether a rule gives packets a mark: what they have further on is not known then. Weft's own rules mark the packets
    /// of their own tunnel alone.
    var marks: Bool {
        if weftInterface != nil { return false }
        return rules.values.contains { rules in
            rules.contains { rule in
                rule.expressions.contains { if case .marks = $0 { true } else { false } }
            }
        }
    }
}

/// Follows packets of one kind through a base chain and all that it leads to.
struct NeighbourWalk {
    /// Of another harm than a drop, "dropped" stands for what it does.
    enum Fate: Int, Comparable {
        case passes, mayBeDropped, dropped
        static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    }

    private enum Ending { case accepted, dropped, returned }

    let table: NeighbourTable
    let judge: NeighbourJudge
    let harm: NeighbourHarm
    /// Whether addresses are looked up in sets. Others' sets of addresses may be long lists of what is to be kept out.
    let looksUpAddresses: Bool
    /// Some or all may have been accepted, or dropped, before.
    private var mayBeAccepted = false
    private var mayBeDropped = false
    /// How many rules are looked at before it is given up.
    private var budget = 20_000

    init(_ table: NeighbourTable, _ judge: NeighbourJudge, _ harm: NeighbourHarm, looksUpAddresses: Bool) {
        self.table = table
        self.judge = judge
        self.harm = harm
        self.looksUpAddresses = looksUpAddresses
    }

    mutating func fate(in chain: String, dropsByDefault: Bool) throws(NetlinkError) -> Fate {
        let ending = try walk(chain, .always, depth: 0)
        if budget <= 0 { return .mayBeDropped }
        let isDropped = ending == .dropped || (ending == .returned && dropsByDefault && harm == .drop)
        if isDropped { return mayBeAccepted ? .mayBeDropped : .dropped }
        return mayBeDropped ? .mayBeDropped : .passes
    }

    /// - Parameter way: whether the packets come here at all.
    /// - Returns: how the chain ends for packets that come here.
    private mutating func walk(_ chain: String, _ way: NeighbourMatch, depth: Int) throws(NetlinkError) -> Ending {
        // The kernel follows sixteen jumps.
        if depth > 16 { return .returned }
        var way = way
        var mayHaveReturned = false
        for rule in table.rules[chain] ?? [] {
            budget -= 1
            if budget <= 0 { return .returned }
            for (match, verdict) in try verdicts(of: rule) {
                let all = min(way, match)
                let ending: Ending
                switch verdict {
                case .accept:
                    if all != .always, all >= .perhaps { mayBeAccepted = true }
                    ending = .accepted
                case .drop:
                    if all == .unknown { mayBeDropped = true }
                    ending = .dropped
                case .return: ending = .returned
                case .jump(let target), .goto(let target):
                    ending = try walk(target, all, depth: depth + 1)
                }
                if case .jump = verdict, ending == .returned { continue }
                if match == .always { return mayHaveReturned ? .returned : ending }
                // Those that may have gone back do not meet what follows here.
                if ending == .returned, match >= .perhaps {
                    mayHaveReturned = true
                    way = min(way, .unknown)
                }
            }
        }
        return .returned
    }

    // MARK: One rule

    /// What a rule decides, and for which packets. A map may decide more than one thing.
    private func verdicts(
        of rule: NeighbourRule
    ) throws(NetlinkError) -> [(match: NeighbourMatch, verdict: NeighbourExpression.Verdict)] {
        var found: [(NeighbourMatch, NeighbourExpression.Verdict)] = []
        var match = NeighbourMatch.always
        var registers: [NeighbourExpression.Register: (value: NeighbourValue, mask: UInt128?, isAddress: Bool)] = [:]
        for expression in rule.expressions {
            switch expression {
            case .load(let field, let register):
                registers[register] = (judge.value(of: field), nil, field.isAddress)
            case .mask(let mask, let xor, let source, let target):
                let (value, before, isAddress) = registers[source] ?? (.any, nil, false)
                if before != nil || xor.contains(where: { $0 != 0 }) {
                    registers[target] = (.any, nil, isAddress)
                } else {
                    registers[target] = (value, UInt128(networkOrder: mask), isAddress)
                }
            case .compare(let comparison, let bytes, let register):
                let held = registers[register] ?? (.any, nil, false)
                match = min(match, judge.compares(held.value, comparison, bytes, mask: held.mask))
            case .range(let low, let high, let isInverted, let register):
                let held = registers[register] ?? (.any, nil, false)
                let (low, high, size) = (UInt128(networkOrder: low), UInt128(networkOrder: high), low.count)
                let lies =
                    held.mask != nil || low > high ? .perhaps : judge.lies(held.value, in: [low...high], size: size)
                match = min(match, isInverted ? lies.inverted : lies)
            case .lookup(let set, let isInverted, let isMap, let register):
                let held = registers[register] ?? (.any, nil, false)
                if isMap {
                    for (each, verdict) in try choices(in: set, held.value, isMasked: held.mask != nil) {
                        found.append((min(match, each), verdict))
                    }
                } else {
                    let lies = try lookup(set, held)
                    match = min(match, isInverted ? lies.inverted : lies)
                }
            case .match(let name, let info): match = min(match, judge.meets(name, info))
            case .some: match = min(match, .perhaps)
            case .unknown: match = min(match, .unknown)
            case .changesSource: found.append((match, harm == .changedSource ? .drop : .accept))
            case .changesTarget: found.append((match, harm == .changedTarget ? .drop : .accept))
            case .untracks: if harm == .untracked { found.append((match, .drop)) }
            // What is dropped comes to no other harm.
            case .verdict(.drop) where harm != .drop: found.append((match, .accept))
            case .verdict(let verdict):
                // Who says that a rule is about weft is taken at their word.
                found.append((rule.isAboutWeft && verdict == .accept && match != .never ? .always : match, verdict))
            case .marks, .nothing: break
            }
            if match == .never { break }
        }
        return found.filter { $0.0 != .never }
    }

    private func lookup(
        _ name: String, _ held: (value: NeighbourValue, mask: UInt128?, isAddress: Bool)
    ) throws(NetlinkError) -> NeighbourMatch {
        switch held.value {
        case .part: return .partly
        case .any: return .perhaps
        case .numbers, .otherName, .otherIndex: break
        }
        if held.mask != nil || (held.isAddress && !looksUpAddresses) { return .perhaps }
        let set = try table.set(name)
        if set.rest != nil { return .always }
        guard fits(held.value, set) else { return set.elements.isEmpty ? .never : .perhaps }
        return judge.lies(held.value, in: set.elements.map(\.keys), size: set.keyLength)
    }

    /// The verdicts that a map may have for what is there.
    private func choices(
        in name: String, _ value: NeighbourValue, isMasked: Bool
    ) throws(NetlinkError) -> [(NeighbourMatch, NeighbourExpression.Verdict)] {
        let set = try table.set(name)
        var found: [(NeighbourMatch, NeighbourExpression.Verdict)] = []
        var isCertain = false
        for element in set.elements {
            guard let verdict = element.verdict else { continue }
            let match =
                isMasked || !fits(value, set) ? .perhaps : judge.lies(value, in: [element.keys], size: set.keyLength)
            if match == .always { isCertain = true }
            if match != .never { found.append((match, verdict)) }
        }
        if !isCertain, let verdict = set.rest?.verdict { found.append((found.isEmpty ? .always : .unknown, verdict)) }
        return found
    }

    /// Whether a set's keys are this one field, and no more.
    private func fits(_ value: NeighbourValue, _ set: NeighbourSet) -> Bool {
        switch value {
        case .numbers(_, let size): set.keyLength == size
        case .otherName: set.keyLength == 16
        case .otherIndex: set.keyLength == 4
        case .part, .any: false
        }
    }
}

extension NeighbourField {
    fileprivate var isAddress: Bool { if case .network = self { true } else { false } }
}
