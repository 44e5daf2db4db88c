// Random plans: what a document or a full text says is all of what the plan does.

import Testing
import WeftModel
import WeftPlan
import WeftTestSupport

@testable import WeftRender

@Suite struct RandomPlanTests {
    /// A host with some of twelve peers, each of which has some of twenty-four prefixes.
    private func host(_ random: inout SeededGenerator) -> HostState {
        var state = HostState(
            link: Link(name: "wg0", mtu: Bool.random(using: &random) ? 1420 : 1380, alias: "weft:corp"),
            device: Device(
                privateKey: SecretTag(UInt64.random(in: 1...2, using: &random), 0), publicKey: Samples.key(1),
                listenPort: UInt16.random(in: 51820...51822, using: &random),
                fwMark: UInt32.random(in: 0...1, using: &random)))
        var lists: [UInt8: [String]] = [:]
        for index in 0..<24 where Int.random(in: 0..<5, using: &random) > 0 {
            lists[UInt8.random(in: 2...13, using: &random), default: []].append(
                index.isMultiple(of: 3) ? "fd80:\(index)::/32" : "10.\(index).0.0/16")
        }
        for seed in lists.keys.sorted() where Int.random(in: 0..<4, using: &random) > 0 {
            let tag = SecretTag(UInt64.random(in: 1...2, using: &random), 1)
            state.peers.append(
                Samples.peer(
                    seed, lists[seed] ?? [], endpoint: Bool.random(using: &random) ? "192.0.2.\(seed)" : nil,
                    keepalive: Bool.random(using: &random) ? 25 : 0,
                    presharedKey: Bool.random(using: &random) ? .tag(tag) : .none))
        }
        state.peers.sort { $0.key < $1.key }
        state.addresses = ["10.80.0.1", "10.80.0.2", "fd80::1"].filter { _ in Bool.random(using: &random) }
            .map { InterfaceAddress(host: Samples.address($0)) }
        state.routes = state.peers.flatMap(\.allowedIPs).map {
            Samples.route(
                $0.description, source: Bool.random(using: &random) ? nil : $0.family == .v4 ? "10.80.0.1" : "fd80::1")
        }
        state.routes.sort { $0.key < $1.key }
        return state
    }

    private func plan(_ seed: Int) -> (before: HostState, after: HostState, plan: Plan, labels: PlanLabels) {
        var random = SeededGenerator(seed: UInt64(seed))
        let (before, after) = (host(&random), host(&random))
        let names = Dictionary(uniqueKeysWithValues: (2...13).map { (Samples.key(UInt8($0)), "node-\($0)") })
        let desired = DesiredState(mesh: "corp", interface: "wg0", node: "fra", state: after, peerNames: names)
        let observation = Observation(
            state: before, statistics: before.peers.map { _ in PeerStatistics() }, time: Samples.now)
        return (before, after, Samples.plan(desired, from: observation), PlanLabels(desired))
    }

    /// Whoever reads only the document knows what the host will be.
    @Test(arguments: 0..<200)
    func documentsTellTheWholePlan(seed: Int) throws {
        let (before, after, plan, labels) = plan(seed)
        let document = PlanDocument(plan, labels: labels)
        var peers: [String: Set<String>] = [:]
        for peer in before.peers { peers[peer.publicKey.base64] = Set(peer.allowedIPs.map(\.description)) }
        var routes = Dictionary(
            uniqueKeysWithValues: before.routes.map { ($0.prefix.description, $0.source?.description) })
        var addresses = Set(before.addresses.map { "\($0.address)/\($0.length)" })
        for operation in document.operations {
            let object = operation.object
            switch (operation.kind, operation.action) {
            case ("peer", "remove"): peers[object.publicKey ?? ""] = nil
            case ("peer", "add"):
                let gained = Set(operation.after?.allowedIPs ?? [])
                for key in peers.keys { peers[key]?.subtract(gained) }
                peers[object.publicKey ?? ""] = gained
            case ("peer", _):
                let change = try #require(operation.allowedIPs)
                let key = try #require(object.publicKey)
                for other in peers.keys { peers[other]?.subtract(change.added) }
                peers[key]?.formUnion(change.added)
                peers[key]?.subtract(change.removed)
                peers[key]?.subtract(change.moved.map(\.prefix))
            case ("route", "remove"): routes[object.prefix ?? ""] = nil
            case ("route", _): routes[object.prefix ?? ""] = operation.after?.source
            case ("address", "remove"): addresses.remove(object.address ?? "")
            case ("address", _): addresses.insert(object.address ?? "")
            default: break
            }
        }
        #expect(
            peers
                == Dictionary(
                    uniqueKeysWithValues: after.peers.map {
                        ($0.publicKey.base64, Set($0.allowedIPs.map(\.description)))
                    }))
        #expect(
            routes
                == Dictionary(
                    uniqueKeysWithValues: after.routes.map { ($0.prefix.description, $0.source?.description) }))
        #expect(addresses == Set(after.addresses.map { "\($0.address)/\($0.length)" }))
        #expect(try JSON.decode(PlanDocument.self, JSON.text(document)) == document)
    }

    /// Every line that the plan calls for stands in the full text, and what moves says from where and to where.
    @Test(arguments: 0..<200)
    func fullTextsTellTheWholePlan(seed: Int) {
        let (before, after, plan, labels) = plan(seed)
        let text = PlanText(plan, labels: labels, options: TextOptions(width: 100_000, full: true)).text
        let lines = Set(text.split(separator: "\n").map(String.init))
        func owners(_ state: HostState) -> [IPPrefix: PublicKey] {
            var result: [IPPrefix: PublicKey] = [:]
            for peer in state.peers { for prefix in peer.allowedIPs { result[prefix] = peer.publicKey } }
            return result
        }
        let (old, new) = (owners(before), owners(after))
        for (prefix, key) in new {
            guard let giver = old[prefix], giver != key else { continue }
            #expect(text.contains("\(prefix) (from \(labels.name(of: giver)))"))
            let moved = lines.contains { line in
                line.hasPrefix("→") && line.hasSuffix(" to \(labels.name(of: key))") && line.contains("\(prefix)")
            }
            #expect(moved, "\(prefix)")
        }
        for (prefix, key) in new where old[prefix] == nil {
            #expect(lines.contains { $0.hasPrefix("+     ") && $0.contains("\(prefix)") }, "\(prefix) at \(key)")
        }
        for prefix in old.keys where new[prefix] == nil {
            #expect(lines.contains { $0.hasPrefix("-     ") && $0.contains("\(prefix)") }, "\(prefix)")
        }
        for planned in plan.operations {
            switch planned.operation {
            case .route(.add(let route, _)): #expect(lines.contains("+   \(route.phrase)"))
            case .route(.remove(let route, _)): #expect(lines.contains("-   \(route.phrase)"))
            case .peer(let peer):
                let sign = Sign(peer.action).rawValue
                let key = peer.publicKey
                #expect(
                    lines.contains { $0.hasPrefix("\(sign)   \(labels.name(of: key)) ") && $0.contains(key.short) })
            default: break
            }
        }
        let counts = PlanSummary(plan)
        #expect(plan.isEmpty || text.contains("Plan: \(counts.phrase). Sessions: "))
    }

    /// Folding takes lines away and adds none but those that count, and never one that costs sessions.
    @Test(arguments: 0..<50)
    func foldingHidesNoOutage(seed: Int) {
        let (_, _, plan, labels) = plan(seed)
        let folded = PlanText(plan, labels: labels).text.split(separator: "\n")
        let full = Set(PlanText(plan, labels: labels, options: TextOptions(full: true)).text.split(separator: "\n"))
        for line in folded where !line.contains("--full") && !line.contains(" routes, for the ") {
            #expect(full.contains(line), "\(line)")
        }
        let outages = plan.operations.filter { $0.effect == .outage && $0.operation.kind == .peer }
        #expect(folded.count { $0.contains("  outage") && $0.contains("…") } >= outages.count)
    }
}
