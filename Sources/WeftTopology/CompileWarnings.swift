// What is to be said about one host's state: names without an answer, and what stands against it.

import WeftDiagnostics
import WeftModel

extension Compiler {
    /// Finds peers whose endpoint lies in a network that is reached through themselves: packets to them would go round
    /// inside the tunnel for ever. The longest prefix decides, as for the kernel; default routes have a mark to tell.
    ///
    /// - Parameter nodes: of each peer.
    mutating func refuseLoops(_ peers: [Peer], _ nodes: [Int]) {
        if node.table == .off { return }
        let sites = SiteLookup(topology, isActive: graph.isActive)
        for (peer, index) in zip(peers, nodes) {
            guard let endpoint = peer.endpoint,
                let way = sites.holders(of: endpoint.address).first(where: { hops[$0.node] >= 0 }),
                hops[way.node] == Int32(index)
            else { continue }
            let (name, behind) = (topology.nodes[index].name, topology.nodes[way.node].name)
            refusals.append(
                Diagnostic(
                    "host.endpoint-in-tunnel", .error,
                    "the endpoint of \(name), \(endpoint), lies in \(way.prefix) behind \(behind), which this host reaches "
                        + "through \(name): packets to it would go round in the tunnel",
                    at: topology.nodes[index].endpoint?.place ?? topology.nodes[index].place,
                    notes: [
                        Diagnostic.Note(
                            "give \(name) another endpoint for this host under `links`, or take the address out of the "
                                + "`allowedIPs` of \(behind)")
                    ]))
        }
    }

    mutating func warnAboutUnresolvedNames() {
        if !facts.didResolve { return }
        for peer in topology.nodes.indices where peer != index {
            guard let endpoint = graph.endpoint(of: peer, from: index), case .name(let name) = endpoint.host,
                graph.isLinked(index, peer)
            else { continue }
            let other = topology.nodes[peer]
            let place = other.endpoint?.place ?? other.place
            let kept = "\(other.name) keeps the endpoint that it has here, and without one it cannot be dialled"
            guard let addresses = facts.resolvedNames[name], let first = addresses.first else {
                diagnostics.append(
                    Diagnostic(
                        "host.unresolved-endpoint", .warning,
                        "the endpoint of \(other.name) has no address yet: \(name) does not resolve", at: place,
                        notes: [Diagnostic.Note("until it does, \(kept)")]))
                continue
            }
            guard let network = network(around: first, of: peer),
                addresses.allSatisfy({ self.network(around: $0, of: peer) != nil })
            else { continue }
            diagnostics.append(
                Diagnostic(
                    "host.endpoint-in-tunnel", .warning,
                    "the endpoint of \(other.name) is not set: \(name) is \(first) here, in \(network), which is reached "
                        + "through the tunnel itself",
                    at: place,
                    notes: [
                        Diagnostic.Note(
                            "name servers in the mesh may give a node's address in the mesh for it: name the endpoint's "
                                + "address, or another name; until then, \(kept)")
                    ]))
        }
    }

    // MARK: What the host lacks

    /// Finds what is wanted and cannot be had on this host. What others do not hang on is left out, and said; for the rest
    /// nothing is to be begun.
    ///
    /// - Parameter prefixes: all that any peer may send.
    mutating func checkHost(_ state: inout HostState, _ prefixes: [IPPrefix]) {
        checkMasqueradeInterfaces()
        if facts.hasFirewall == false, state.firewall != nil { doWithoutFirewall(&state) }
        if let dns = node.dns { check(dns, prefixes, state.routes) }
        if let killSwitch = node.killSwitch, tunnel != nil { warnAboutOtherTunnels(killSwitch) }
        if let tunnel, let exit = tunnel.exit { checkFamilies(of: tunnel, exit) }
    }

    /// A kill switch refuses what another tunnel of the host carries, as it refuses all else that goes beside its own.
    private mutating func warnAboutOtherTunnels(_ killSwitch: KillSwitch) {
        let allowed = killSwitch.allow.map(\.value)
        for tunnel in facts.otherTunnels {
            let cut = tunnel.networks.filter { network in !allowed.contains { $0.contains(network) } }
            if cut.isEmpty { continue }
            let owner = tunnel.mesh.map { " (mesh \($0))" } ?? ""
            let (defaults, networks) = (cut.filter(\.isDefault), cut.filter { !$0.isDefault })
            let shown = networks.prefix(8).map(\.description).joined(separator: ", ") + (networks.count > 8 ? " …" : "")
            let list = [shown, defaults.isEmpty ? "" : "its default route"].filter { !$0.isEmpty }
                .joined(separator: " and ")
            var notes: [Diagnostic.Note] = []
            if !networks.isEmpty {
                notes.append(
                    Diagnostic.Note(
                        "where that is not meant, put \(shown) into `killSwitch: {allow: […]}` of \(node.name), and the "
                            + "endpoints of \(tunnel.interface) that are not reached through \(interface)"))
            }
            if !defaults.isEmpty {
                notes.append(
                    Diagnostic.Note(
                        "a default route beside the kill switch would be a leak: allow the networks that are needed, "
                            + "or take `killSwitch` out"))
            }
            diagnostics.append(
                Diagnostic(
                    "host.kill-switch-cuts-off", .warning,
                    "the kill switch of \(node.name) refuses what goes out by \(tunnel.interface)\(owner): \(list)",
                    at: killSwitch.place, notes: notes))
        }
    }

    /// What may come later, as interfaces and the programs for name servers do when a host starts. It is refused as a whole
    /// where it is not there, but for a host with a kill switch: one that waits for something else is open meanwhile. What is
    /// there is done then, and the rest when it comes: rules name interfaces, and name servers are tried again.
    mutating func lack(_ diagnostic: Diagnostic) {
        guard node.killSwitch != nil, tunnel != nil else { return refusals.append(diagnostic) }
        var warning = diagnostic
        warning.severity = .warning
        warning.notes.append(Diagnostic.Note("the kill switch does not wait for it, nor does anything else here"))
        diagnostics.append(warning)
    }

    private mutating func checkMasqueradeInterfaces() {
        guard let interfaces = facts.interfaces, let masquerade = node.masquerade else { return }
        for name in masquerade.interfaces where !interfaces.contains(name.value) {
            let others = interfaces.subtracting(["lo", interface]).sorted()
            let shown = others.prefix(8).joined(separator: ", ") + (others.count > 8 ? " …" : "")
            lack(
                Diagnostic(
                    "host.no-interface", .error,
                    "there is no interface \(name.value) here: nothing would be masqueraded",
                    at: name.place,
                    notes: [
                        Diagnostic.Note(
                            others.isEmpty
                                ? "this host has no other interface" : "the interfaces of this host: \(shown)")
                    ]))
        }
    }

    private mutating func doWithoutFirewall(_ state: inout HostState) {
        var needs: [(String, SourceRange)] = []
        if let killSwitch = node.killSwitch { needs.append(("killSwitch", killSwitch.place)) }
        if let exit = node.useExit { needs.append(("useExit", exit.place)) }
        if let masquerade = node.masquerade { needs.append(("masquerade", masquerade.place)) }
        if let access = topology.access { needs.append(("access", access.first?.place ?? node.place)) }
        let note = Diagnostic.Note("load the module nf_tables, or take a kernel that has it")
        for (field, place) in needs {
            refusals.append(
                Diagnostic(
                    "host.no-nftables", .error, "this kernel has no nf_tables, and `\(field)` needs it", at: place,
                    notes: [note]))
        }
        if !needs.isEmpty { return }
        state.firewall = nil
        diagnostics.append(
            Diagnostic(
                "host.no-nftables", .warning,
                "this kernel has no nf_tables: TCP through this host is not made to fit into the tunnel",
                at: node.place,
                notes: [note]))
    }

    private mutating func checkFamilies(of tunnel: FullTunnel, _ exit: Int) {
        let other = topology.nodes[exit]
        for family in IPAddress.Family.allCases
        where families.contains(family) && !tunnel.families.contains(family) {
            let name = family == .v4 ? "IPv4" : "IPv6"
            diagnostics.append(
                Diagnostic(
                    "host.exit-family", .warning,
                    "\(other.name) has no \(name) address in the mesh: \(name) of \(node.name) goes nowhere while it uses this "
                        + "exit", at: node.useExit?.place ?? node.place,
                    notes: [Diagnostic.Note("give \(other.name) an \(name) address from the mesh's ranges")]))
        }
    }
}
