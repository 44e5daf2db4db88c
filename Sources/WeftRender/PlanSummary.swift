// A plan in one sentence: how much comes, changes and goes, and whose sessions notice.

import WeftModel
package import WeftPlan

/// Counts of objects. The interface counts once, whatever is done to its link and its device; what others need still does
/// not count, because nothing about it changes.
package struct PlanSummary: Hashable, Sendable {
    package var add = 0
    package var change = 0
    package var remove = 0

    package init(_ plan: Plan) {
        var interface: Operation.Action?
        for planned in plan.operations {
            switch planned.operation {
            case .link(.removeHalfMade): remove += 1
            case .link(.create): interface = .add
            case .link(.remove): interface = .remove
            case .link(.setMTU), .link(.setUp), .link(.setAlias), .device: interface = interface ?? .change
            case .sysctl(.leave): break
            case .address, .peer, .route, .rule, .firewall, .resolver, .sysctl: count(planned.operation.action)
            }
        }
        if let interface { count(interface) }
    }

    private mutating func count(_ action: Operation.Action) {
        switch action {
        case .add: add += 1
        case .change: change += 1
        case .remove: remove += 1
        }
    }

    /// `3 to add, 1 to change, 2 to remove`.
    package var phrase: String {
        "\(add.grouped) to add, \(change.grouped) to change, \(remove.grouped) to remove"
    }
}

extension Plan {
    /// Whether the interface is made by this plan: then nothing has sessions yet.
    var createsLink: Bool {
        operations.contains { if case .link(.create) = $0.operation { true } else { false } }
    }

    /// `hitless`, or who loses what: `outage for bob and ams (10.1.0.0/16 only); re-handshake for ana`.
    func sessionsPhrase(_ labels: PlanLabels) -> String {
        if createsLink {
            // Others' connections run all the same.
            let victims = operations.filter { $0.effect == .outage && $0.isOutsideMesh }.map { $0.victim(labels) }
            return victims.isEmpty ? "none yet" : "none yet in the mesh; outage for \(enumerated(victims.unique))"
        }
        var parts: [String] = []
        for effect in [SessionEffect.outage, .rehandshake] {
            let who = operations.filter { $0.effect == effect }
            if who.contains(where: \.reachesEveryPeer) {
                let others = who.filter(\.isOutsideMesh).map { $0.victim(labels) }.unique
                return "\(effect.rawValue) for \(enumerated(["every peer"] + others))"
            }
            let victims = who.map { $0.victim(labels) }.unique
            if !victims.isEmpty { parts.append("\(effect.rawValue) for \(enumerated(victims))") }
        }
        let rest = operations.filter { $0.effect == .hitless }
        let hitless = rest.contains { !$0.effectScope.isEmpty } ? "hitless on the conditions above" : "hitless"
        if parts.isEmpty { return hitless }
        return parts.joined(separator: "; ") + (rest.isEmpty ? "" : "; the rest is \(hitless)")
    }
}

extension PlannedOperation {
    /// Whether its effect is not one peer's or one object's alone.
    fileprivate var reachesEveryPeer: Bool { operation.kind == .link || operation.kind == .device }

    /// Whether it also reaches connections that are not the mesh's.
    fileprivate var isOutsideMesh: Bool { [.rule, .firewall, .sysctl].contains(operation.kind) }

    /// Who notices: a peer, or what the scope says.
    fileprivate func victim(_ labels: PlanLabels) -> String {
        if case .peer(let peer) = operation {
            let name = labels.name(of: peer.publicKey)
            return effect == .outage && !effectScope.isEmpty ? "\(name) (\(effectScope.visible))" : name
        }
        return effectScope.isEmpty ? operation.kind.rawValue : effectScope.visible
    }
}

extension [String] {
    /// Each once, where it stands first.
    fileprivate var unique: [String] {
        var seen: Set<String> = []
        return filter { seen.insert($0).inserted }
    }
}
