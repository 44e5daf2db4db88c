// The status of a mesh for people: a line about the interface, and a table of its peers.

import WeftModel
import WeftPlan
package import WeftStatus

/// A status document as text.
package struct StatusText {
    package var document: StatusDocument
    package var options: TextOptions
    /// How many peers are listed; the others are counted.
    private var peerLimit = Int.max

    package init(_ document: StatusDocument, options: TextOptions = TextOptions()) {
        self.document = document
        self.options = options
    }

    /// The whole text, each line with its end.
    package var text: String { page.text }

    /// The text for a screen: lines are cut off where they are longer, and peers left out and counted where there is no room
    /// for all of them.
    package func screen(rows: Int, columns: Int) -> [String] {
        var lines = page.lines
        if lines.count > rows {
            var short = self
            // One line says how many are left out.
            short.peerLimit = max(0, document.peers.count - (lines.count - rows) - 1)
            lines = short.page.lines
        }
        if lines.count > rows { lines = Array(lines.prefix(max(0, rows - 1))) + ["…"] }
        return lines.map { $0.cut(to: columns) }
    }

    private var page: Page {
        var page = Page(options)
        let mesh = document.mesh.visible
        let host = document.node.map { "\($0.visible) in " } ?? ""
        page.plain("\(document.interface.visible): \(host)mesh \(mesh)", .heading)
        guard document.present else {
            if let elsewhere = document.elsewhere?.visible {
                page.plain("  The mesh is on the interface \(elsewhere) here: `weft plan` says how to go on.")
            } else {
                absence(&page)
            }
            notWanted(&page)
            unsettled(&page)
            killSwitch(&page)
            tunnel(&page)
            foreign(&page)
            return page
        }
        page.plain("  \(device)")
        notWanted(&page)
        unsettled(&page)
        killSwitch(&page)
        if let key = document.publicKey { page.plain("  public key \(key)") }
        if !document.addresses.isEmpty {
            for line in wrapped(document.addresses, width: options.width - 12) { page.plain("  addresses \(line)") }
        }
        tunnel(&page)
        if document.peers.isEmpty {
            page.blank()
            page.plain("  No peers.")
        } else {
            page.blank()
            table(&page)
        }
        missing(&page)
        counters(&page)
        foreign(&page)
        page.blank()
        page.plain(conclusion)
        return page
    }

    private func absence(_ page: inout Page) {
        let down = "`weft down --interface \(document.interface.visible)`"
        let hasRest = document.firewall != nil || !document.rules.isEmpty
        switch document.absence {
        case .halfMade?:
            page.plain("  The interface is half made: an apply has not come to its end.")
            page.plain("  `weft apply` goes on with it; `weft down` takes away what there is.")
        case .taken? where hasRest:
            page.plain("  The interface's name is taken by what does not bear the mesh's mark, and the rest holds.")
            page.plain("  `weft plan` says how to go on.")
        case .taken?:
            page.plain("  The mesh is not applied on this host: the name of its interface is taken.")
        case .gone? where hasRest:
            page.plain("  The interface is gone, and the rest still holds.")
            page.plain("  `weft apply` makes the interface anew; \(down) takes the rest away as well.")
        case _ where hasRest:
            page.plain("  The interface is not there, and the rest holds: no apply has come to its end yet.")
            page.plain("  `weft apply` makes the interface; \(down) takes the rest away.")
        default:
            page.plain("  The interface is not there: the mesh is not applied on this host.")
        }
    }

    private func notWanted(_ page: inout Page) {
        guard document.wanted == false else { return }
        page.plain("  This host is disabled in the topology, or has expired: the mesh is not wanted here.")
    }

    /// What else there is than the topology in force.
    private func unsettled(_ page: inout Page) {
        if let trial = document.trial {
            let id = trial.topology.visible
            if let until = trial.until?.visible {
                page.plain(
                    "  Topology \(id) is on trial until \(until): `weft confirm` keeps it, `weft revert` takes it back.",
                    .change)
            } else if document.problem == nil {
                let line = TrialRecord.thatItFailed(id, trial.reason?.visible ?? "")
                page.plain("  \(line.prefix(1).uppercased() + line.dropFirst()).", .remove)
            }
        }
        if let problem = document.problem?.visible {
            page.plain("  The agent says: \(problem).", .remove)
        }
    }

    /// `up, kernel WireGuard, listening on port 51820, MTU 1420`.
    private var device: String {
        var parts = [document.up ? "up" : "down"]
        switch document.deviceKind {
        case "kernel"?: parts.append("kernel WireGuard")
        case "userspace"?: parts.append("user-space WireGuard")
        default: break
        }
        if let port = document.listenPort, port != 0 { parts.append("listening on port \(port)") }
        if document.fwMark != 0 { parts.append("fwmark \(markText(document.fwMark))") }
        if let mtu = document.mtu { parts.append("MTU \(mtu)") }
        return parts.joined(separator: ", ")
    }

    /// Where the tunnel carries nothing, who wonders about a dead network finds out why.
    private func killSwitch(_ page: inout Page) {
        guard document.firewall?.killSwitch == true, !document.up || document.summary.up == 0 else { return }
        let state =
            switch document.absence {
            case .gone?: "the interface is gone"
            case _?: "the interface is not there"
            case nil: document.up ? "no peer is up" : "the interface is down"
            }
        page.plain(
            "  The kill switch is shut: \(state), and what goes elsewhere than to `allow` is refused.",
            .remove)
    }

    /// What stands beside the interface: it may outlive it.
    private func tunnel(_ page: inout Page) {
        for rule in document.rules { page.plain("  rule \(rule.priority): \(rule.rule.visible) (\(rule.family))") }
        if let firewall = document.firewall {
            let chains = firewall.chains.map(\.visible).joined(separator: ", ")
            page.plain("  firewall table inet \(firewall.table.visible): \(chains)")
        }
        missingRules(&page)
        if let resolver = document.resolver {
            let scope = ResolverSetting.scope(
                resolver.domains, isForAllNames: resolver.allNames ?? resolver.domains.isEmpty)
            page.plain("  name servers \(resolver.servers.joined(separator: ", "))\(scope)")
        }
    }

    /// Somebody has flushed or removed the mesh's table, or it was never applied as the topology is now.
    private func missingRules(_ page: inout Page) {
        let table = MeshIdentity(mesh: document.mesh, interface: document.interface).firewallTable.visible
        guard let missing = document.missingChains else {
            if document.firewall?.differs == true {
                page.plain(
                    "  The firewall table inet \(table) is not as the topology wants it: `weft plan` shows what differs.",
                    .remove)
            }
            return
        }
        let what =
            document.firewall == nil
            ? "The firewall table inet \(table) is missing"
            : "Of the firewall, the rules are missing in "
                + missing.map(\.visible).joined(separator: ", ")
        page.plain("  \(what): `weft apply` writes them as the topology wants them.", .remove)
    }

    private var conclusion: String {
        let summary = document.summary
        let states = [
            (summary.up, "up"), (summary.stale, "stale"), (summary.down, "down"), (summary.never, "never"),
            (summary.missing, "missing"),
        ]
        let words = states.filter { $0.0 > 0 }.map { "\($0.0.grouped) \($0.1)" }
        let count = counted(document.peers.count + summary.missing, "peer")
        return words.isEmpty ? "\(count)." : "\(count): \(words.joined(separator: ", "))."
    }

    // MARK: The table

    private func table(_ page: inout Page) {
        var table = Table(
            columns: ["PEER", "KEY", "STATE", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT", "ALLOWED IPS"],
            alignedRight: [5, 6], options: options)
        for peer in document.peers.prefix(peerLimit) {
            table.add(
                [
                    name(peer), String(peer.publicKey.prefix(8)) + "…", peer.state.rawValue,
                    peer.endpoint?.visible ?? "-",
                    peer.lastHandshakeSecondsAgo.map { durationText(seconds: $0) + " ago" } ?? "-",
                    byteText(peer.receivedBytes), byteText(peer.sentBytes), allowedIPs(peer),
                ],
                paints: [2: peer.state.paint, 1: .faint])
        }
        table.write(to: &page)
        let rest = document.peers.count - peerLimit
        if rest > 0 { page.plain("  and \(counted(rest, "more peer")): the screen has no room for them", .faint) }
    }

    /// The node's name. A peer that the topology has not is told from one whose name cannot be known.
    private func name(_ peer: StatusDocument.Peer) -> String {
        switch (peer.name, peer.inTopology) {
        case (let name?, false?): "\(name.visible) (not wanted)"
        case (let name?, _): name.visible
        case (nil, false?): "(unknown)"
        case (nil, _): "-"
        }
    }

    private func allowedIPs(_ peer: StatusDocument.Peer) -> String {
        let all = peer.allowedIPs
        if all.isEmpty { return "-" }
        if options.full || all.count <= 4 { return all.joined(separator: ", ") }
        return all.prefix(3).joined(separator: ", ") + " and \((all.count - 3).grouped) more"
    }

    // MARK: What else there is

    private func missing(_ page: inout Page) {
        if document.missing.isEmpty { return }
        page.blank()
        page.plain("  missing: in the topology, and not on the interface", .heading)
        let limit = options.full ? document.missing.count : 10
        for peer in document.missing.prefix(limit) {
            page.plain("  \(peer.name.map { $0.visible + "  " } ?? "")\(String(peer.publicKey.prefix(8)))…")
        }
        if document.missing.count > limit { page.plain("  and \((document.missing.count - limit).grouped) more") }
    }

    private func counters(_ page: inout Page) {
        if document.counters.isEmpty { return }
        page.blank()
        var table = Table(columns: ["ACCESS RULE", "PACKETS", "BYTES"], alignedRight: [1, 2], options: options)
        let limit = options.full ? document.counters.count : 20
        for counter in document.counters.prefix(limit) {
            let title = counter.comment.isEmpty ? counter.name : counter.comment
            table.add([title.visible, counter.packets.grouped, byteText(counter.bytes)], paints: [:])
        }
        table.write(to: &page)
        if document.counters.count > limit {
            page.plain("  and \((document.counters.count - limit).grouped) more (--full lists them)")
        }
    }

    private func foreign(_ page: inout Page) {
        if document.foreign.isEmpty { return }
        page.blank()
        // Where the mesh has no interface, another mesh's may have its name.
        page.plain(document.present ? "  not weft's" : "  not this mesh's", .heading)
        for object in document.foreign { page.plain("  \(object.kind.visible) \(object.description.visible)") }
    }
}

extension PeerState {
    fileprivate var paint: Paint {
        switch self {
        case .up: .add
        case .stale: .change
        case .down: .remove
        case .never: .faint
        }
    }
}
