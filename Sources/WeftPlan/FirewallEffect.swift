// What a change of the mesh's table takes from connections that run.

import WeftModel

/// Which connections end when a host's table becomes another one.
///
/// A connection ends where a rule refuses what nothing refused before: the rule is new, what it spares shrinks, what it
/// reaches grows, or a rule before it that let something through has gone. Whatever else comes and goes ends nothing.
/// Every packet is judged, not only a connection's first one; but for masquerading, which begins and ends with the first
/// and the last rule for it: from then on connections are tracked, and keep the address that they have.
struct ConnectionsEnded {
    /// For people, each a part of all connections. Empty: none ends.
    private(set) var phrases: [String] = []

    private let old: Firewall
    private let new: Firewall
    /// What is there now: it tells what can be running.
    private let live: HostState

    init(from live: HostState, to new: Firewall?) {
        let isInForce = live.firewall?.strangers.contains("flags dormant") == false
        old = isInForce ? live.firewall ?? Firewall() : Firewall()
        self.new = new ?? Firewall()
        self.live = live
        let found = refused() + permittedNoLonger() + masqueraded()
        for phrase in found where !phrases.contains(phrase) { phrases.append(phrase) }
    }

    // MARK: Rules that refuse

    private func refused() -> [String] {
        new.chains.flatMap { chain -> [String] in
            let before =
                old.chains.first { $0.name == chain.name && $0.base?.hook == chain.base?.hook }?.rules ?? []
            return chain.rules.indices.compactMap { index in
                guard let refusal = chain.rules[index].refusal(in: chain), isPossible(refusal, chain.rules[index])
                else { return nil }
                return isHarsher(chain, at: index, refusal, than: before) ? refusal.victims : nil
            }
        }
    }

    /// Whether anything that the rule refuses can be running now.
    private func isPossible(_ refusal: Refusal, _ rule: FirewallRule) -> Bool {
        if refusal == .untunnelled { return true }
        guard live.link != nil else { return false }
        return rule.destination.map { destination in live.addresses.contains { $0.address == destination } } ?? true
    }

    /// Whether a rule refuses what it did not refuse in an older chain.
    private func isHarsher(
        _ chain: FirewallChain, at index: Int, _ refusal: Refusal, than before: [FirewallRule]
    ) -> Bool {
        let rule = chain.rules[index]
        let core = rule.core
        let place = before.firstIndex { $0.core == core }
        let reach = rule.lookups(isInverted: false)
        if place == nil, reach.isEmpty {
            return chain.base?.hook == .postrouting ? wereStrangersLetIn(but: rule.lookups(isInverted: true)) : true
        }
        for set in reach {
            let before = place == nil ? [] : boxes(of: set, in: old)
            let known = before + (refusal == .forged ? unanswered : [])
            if isReached(boxes(of: set, in: new), butNot: known, chain) { return true }
        }
        guard let place else { return false }
        // What it spares.
        let spared = before[place].lookups(isInverted: true).flatMap { boxes(of: $0, in: old) }
        let stillSpared = FlowBoxes(rule.lookups(isInverted: true).flatMap { boxes(of: $0, in: new) })
        if spared.contains(where: { !stillSpared.uncovered(of: $0).isEmpty }) { return true }
        // What never came to it.
        let passed = Set(chain.rules[..<index].map(\.core))
        return before[..<place].contains { $0.letsThrough(new) && !isForTunnel($0) && !passed.contains($0.core) }
    }

    /// Whether access rules that were let anybody into the mesh whom sets of known sources do not hold: in its own name, or
    /// in that of this host.
    private func wereStrangersLetIn(but known: [String]) -> Bool {
        let boxes = known.flatMap { self.boxes(of: $0, in: new) }
        let spared = FlowBoxes(boxes)
        return old.permits.contains { set, _ in
            guard set.fields.first == (boxes.first?.family == .v6 ? .address6 : .address4) else { return false }
            let hasSources = set.fields.count > 1 && set.fields[1] == set.fields[0]
            return !hasSources
                || set.elements.contains { !spared.uncovered(of: FlowBox($0, [set.fields[0]], of: nil)).isEmpty }
        }
    }

    /// Sources that were forged ones already where they came in by another way to some destination. Answers to them go
    /// into the mesh: nothing runs with them to any other destination either.
    private var unanswered: [FlowBox] {
        old.chains.flatMap { chain in
            chain.rules.filter { $0.refusal(in: chain) == .forged }
                .flatMap { $0.lookups(isInverted: false) }.flatMap { boxes(of: $0, in: old) }
        }
    }

    /// Whether a set has come to reach what can be running. What this host sends to a peer's address is not, while no peer
    /// has the address.
    private func isReached(_ boxes: [FlowBox], butNot before: [FlowBox], _ chain: FirewallChain) -> Bool {
        let known = FlowBoxes(before)
        let gained = boxes.flatMap { known.uncovered(of: $0) }
        guard chain.base?.hook == .output else { return !gained.isEmpty }
        return gained.contains { box in
            live.peers.contains { peer in
                peer.allowedIPs.contains { $0.family == box.family && $0.numbers.overlaps(box.ranges[0]) }
            }
        }
    }

    /// Whether it lets in what peers send to the device: whether they still reach it is told where its port changes.
    private func isForTunnel(_ rule: FirewallRule) -> Bool {
        guard let port = live.device?.listenPort else { return false }
        return rule.expressions.contains(.payload(.transport, offset: 2, length: 2))
            && rule.expressions.contains(.compare(.equal, [UInt8(port >> 8), UInt8(port & 0xFF)]))
    }

    private func boxes(of name: String, in firewall: Firewall) -> [FlowBox] {
        firewall.sets.first { $0.name == name }?.boxes(of: nil) ?? []
    }

    // MARK: Access rules

    /// Of flows that maps permitted, those that no map has any more, by the rules that had permitted them.
    private func permittedNoLonger() -> [String] {
        let isJudged = new.chains.contains { chain in
            chain.base == nil && chain.rules.contains { $0.refusal(in: chain) != nil }
        }
        guard isJudged, live.link != nil else { return [] }
        var lost: Set<String> = []
        // Most changes take nothing away: then nothing is made of it.
        lazy var permitted = FlowBoxes(new.permits.flatMap { $0.set.boxes(of: $0.transport) })
        for (set, transport) in old.permits {
            let same = new.sets.first { $0.name == set.name && $0.hasShape(of: set) }
            let kept = Set(same?.elements.map(\.key) ?? [])
            for element in set.elements where !kept.contains(element.key) && !lost.contains(element.counter) {
                let box = FlowBox(element, set.fields, of: transport)
                if !permitted.uncovered(of: box).isEmpty { lost.insert(element.counter) }
            }
        }
        let names = lost.map { name in
            let comment = old.counters.first { $0.name == name }?.comment ?? ""
            return comment.isEmpty ? name : comment
        }.sorted()
        if names.isEmpty { return [] }
        let shown = names.prefix(3).map { "\"\($0)\"" }.joined(separator: ", ")
        let more = names.count > 3 ? " and \(names.count - 3) more" : ""
        return ["connections that only the access rule\(names.count == 1 ? "" : "s") \(shown)\(more) permitted"]
    }

    // MARK: Masquerading

    private func masqueraded() -> [String] {
        switch (old.masquerades, new.masquerades) {
        case (true, false): ["masqueraded connections"]
        case (false, true) where live.link != nil: ["connections that are to be masqueraded"]
        default: []
        }
    }
}

/// What a rule of Weft's refuses.
private enum Refusal {
    case untunnelled, unpermitted, forged, pastTheTunnel

    var victims: String {
        switch self {
        case .untunnelled: "connections outside the tunnel"
        case .unpermitted: "connections that no access rule permits"
        case .forged: "connections from the mesh's addresses by another way"
        case .pastTheTunnel: "connections to the mesh's addresses by another way"
        }
    }
}

extension Firewall {
    fileprivate var masquerades: Bool {
        chains.contains { $0.rules.contains { $0.expressions.contains(.masquerade) } }
    }

    /// The maps that flows are looked up in, and the protocol that a rule asks for before it does.
    fileprivate var permits: [(set: FirewallSet, transport: UInt8?)] {
        var transports: [String: UInt8?] = [:]
        for rule in chains.flatMap(\.rules) {
            for map in rule.maps { transports.updateValue(rule.transport, forKey: map) }
        }
        return sets.compactMap { set in transports[set.name].map { (set, $0) } }
    }
}

extension FirewallSet {
    fileprivate func boxes(of transport: UInt8?) -> [FlowBox] {
        elements.map { FlowBox($0, fields, of: transport) }
    }
}

extension FirewallRule {
    /// Nil where nothing ends here. Whoever is led into a chain of access rules is let go by these or refused.
    fileprivate func refusal(in chain: FirewallChain) -> Refusal? {
        var isNamed = false
        for expression in expressions {
            switch expression {
            case .countBy: isNamed = true
            case .reject: return chain.base == nil ? .unpermitted : isNamed ? .forged : .untunnelled
            case .verdict(.drop): return isNamed ? .unpermitted : .pastTheTunnel
            case .verdict(.jump), .verdict(.goto): return .unpermitted
            default: break
            }
        }
        return nil
    }

    /// Whether what meets it skips the rules after it. Flows that a map permits are told by the map's elements.
    fileprivate func letsThrough(_ firewall: Firewall) -> Bool {
        if !maps.isEmpty { return false }
        return expressions.contains { expression in
            switch expression {
            case .verdict(.accept), .verdict(.return): true
            // Somebody else's chain.
            case .verdict(.jump(let name)), .verdict(.goto(let name)): !firewall.chains.contains { $0.name == name }
            default: false
            }
        }
    }

    /// The maps that it looks flows up in.
    fileprivate var maps: [String] {
        expressions.compactMap { if case .countByMap(let set, _) = $0 { set } else { nil } }
    }

    /// The protocol that it is about; nil where it is about all.
    fileprivate var transport: UInt8? {
        for (load, comparison) in zip(expressions, expressions.dropFirst()) where load == .meta(.transport) {
            if case .compare(.equal, let bytes, _) = comparison { return bytes.first }
        }
        return nil
    }

    fileprivate func lookups(isInverted wanted: Bool) -> [String] {
        expressions.compactMap {
            if case .lookup(let set, let isInverted, _) = $0, isInverted == wanted { set } else { nil }
        }
    }

    /// What it does to whom, but for counting and for the sets of those that it spares.
    fileprivate var core: [FirewallExpression] {
        var result: [FirewallExpression] = []
        for expression in expressions {
            switch expression {
            case .counter, .countBy: break
            // With what was loaded for it.
            case .lookup(_, isInverted: true, _): _ = result.popLast()
            default: result.append(expression)
            }
        }
        return result
    }

    /// The one address that it is about; nil where it is about more.
    fileprivate var destination: IPAddress? {
        for (load, comparison) in zip(expressions, expressions.dropFirst()) {
            guard case .payload(.network, let offset, let length, _) = load,
                case .compare(.equal, let bytes, _) = comparison, bytes.count == Int(length)
            else { continue }
            let number = bytes.reduce(UInt128(0)) { $0 << 8 | UInt128($1) }
            let (high, low) = (UInt64(truncatingIfNeeded: number >> 64), UInt64(truncatingIfNeeded: number))
            if offset == 16, length == 4 { return IPAddress(v4: UInt32(truncatingIfNeeded: number)) }
            if offset == 24, length == 16 { return IPAddress(v6: high, low) }
        }
        return nil
    }
}
