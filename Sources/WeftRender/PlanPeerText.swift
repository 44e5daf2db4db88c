// The peers of a plan: who comes, changes and goes, and which allowed IP goes from whom to whom.

import WeftModel
import WeftPlan
import WeftStatus

extension PlanText {
    /// How many peers of one kind of change are listed before the rest is only counted.
    private static var peerLimit: Int { 50 }

    func peerSection(_ page: inout Page) {
        let operations = plan.operations.filter { $0.operation.kind == .peer }
        if operations.isEmpty { return }
        page.section("peers")
        let takers = takers(operations)
        let width = operations.map { $0.operation.peer.map { name(of: $0.publicKey).columns } ?? 0 }.max() ?? 0
        // What costs sessions is never folded away behind what does not.
        let groups: [(action: Operation.Action, effect: SessionEffect)] = [
            (.add, .hitless), (.add, .rehandshake), (.add, .outage), (.change, .outage), (.change, .rehandshake),
            (.change, .hitless), (.remove, .outage), (.remove, .rehandshake), (.remove, .hitless),
        ]
        for group in groups {
            let members = operations.filter { $0.operation.action == group.action && $0.effect == group.effect }
            let sorted = members.map { (order: order($0), planned: $0) }.sorted { $0.order < $1.order }.map(\.planned)
            let shown = options.full || sorted.count <= Self.peerLimit + 1 ? sorted[...] : sorted.prefix(Self.peerLimit)
            for planned in shown {
                if let peer = planned.operation.peer {
                    self.peer(peer, planned, takers: takers, nameWidth: min(width, 32), &page)
                }
            }
            if shown.count < sorted.count {
                let prefixes = sorted.dropFirst(shown.count).reduce(0) { $0 + ($1.operation.peer?.prefixCount ?? 0) }
                page.more(
                    Sign(group.action),
                    "\(counted(sorted.count - shown.count, "more peer")) with \(counted(prefixes, "allowed IP"))"
                        + (group.action == .add ? "" : ", \(group.effect.rawValue)"))
            }
        }
    }

    private func peer(
        _ peer: PeerOperation, _ planned: PlannedOperation, takers: [IPPrefix: PublicKey], nameWidth: Int,
        _ page: inout Page
    ) {
        let key = peer.publicKey
        let short = options.painted(key.short, .faint)
        let title = name(of: key).padded(to: nameWidth) + "  " + short
        switch peer {
        case .add(let peer):
            let effect = planned.effectScope.isEmpty ? "" : page.effect(of: planned)
            page.item(.add, "\(title)  \(peer.phrase(written: labels.endpoints[key]))\(effect)")
            gained(Array(peer.allowedIPs), &page)
        case .change(let change):
            page.item(.change, title + page.effect(of: planned))
            for phrase in change.phrases(written: labels.endpoints[key]) { page.item(.change, depth: 2, phrase) }
            gained(change.added, &page)
            lost(change.removed, moved: change.moved, &page)
        case .remove(let peer):
            page.item(.remove, title + page.effect(of: planned))
            var gone: [IPPrefix] = []
            var moved: [PeerChange.Move] = []
            for prefix in peer.allowedIPs {
                if let taker = takers[prefix] {
                    moved.append(PeerChange.Move(prefix: prefix, to: taker))
                } else {
                    gone.append(prefix)
                }
            }
            lost(gone, moved: moved, &page)
        }
    }

    /// Who gets which allowed IP.
    private func takers(_ operations: [PlannedOperation]) -> [IPPrefix: PublicKey] {
        var takers: [IPPrefix: PublicKey] = [:]
        for planned in operations {
            switch planned.operation.peer {
            case .add(let peer): for prefix in peer.allowedIPs { takers[prefix] = peer.publicKey }
            case .change(let change): for prefix in change.added { takers[prefix] = change.publicKey }
            case .remove, nil: break
            }
        }
        return takers
    }

    private func gained(_ prefixes: [IPPrefix], _ page: inout Page) {
        let texts = prefixes.map { prefix -> String in
            guard let takeover = plan.takeovers[prefix] else { return prefix.description }
            let giver = labels.name(of: takeover.from)
            return "\(prefix) "
                + (takeover.within == prefix ? "(from \(giver))" : "(within \(giver)'s \(takeover.within))")
        }
        page.list(.add, texts, noun: "allowed IP")
    }

    private func lost(_ prefixes: [IPPrefix], moved: [PeerChange.Move], _ page: inout Page) {
        page.list(.remove, prefixes.map(\.description), noun: "allowed IP")
        var takers: [PublicKey] = []
        var byTaker: [PublicKey: [String]] = [:]
        for move in moved {
            if byTaker[move.to] == nil { takers.append(move.to) }
            byTaker[move.to, default: []].append(move.prefix.description)
        }
        for taker in takers {
            var texts = byTaker[taker] ?? []
            if let last = texts.popLast() { texts.append("\(last) to \(labels.name(of: taker))") }
            page.list(.move, texts, noun: "allowed IP to \(labels.name(of: taker))")
        }
    }

    /// The name alone. A peer that goes is often in no topology any more.
    private func name(of key: PublicKey) -> String { labels.peers[key]?.visible ?? "(no name)" }

    /// By name; peers without one last, by key.
    private func order(_ planned: PlannedOperation) -> PeerOrder {
        let key = planned.operation.peer?.publicKey
        return PeerOrder(name: key.flatMap { labels.peers[$0] }, key: key?.base64 ?? "")
    }
}

extension Operation {
    var peer: PeerOperation? { if case .peer(let peer) = self { peer } else { nil } }
}

extension PeerOperation {
    /// How many allowed IPs it adds, takes or moves.
    fileprivate var prefixCount: Int {
        switch self {
        case .add(let peer), .remove(let peer): peer.allowedIPs.count
        case .change(let change): change.added.count + change.removed.count + change.moved.count
        }
    }
}
