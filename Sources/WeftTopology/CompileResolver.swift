// The name servers of a node's link: as far as the host's name resolution can take them, and whether they can answer.

import WeftDiagnostics
import WeftModel

extension Compiler {
    /// Only systemd-resolved asks different servers for different names: resolvconf has one list of servers, for all names,
    /// and a domain that is there to be routed alone has no place in it.
    func resolver(_ dns: DNSSettings) -> ResolverSetting {
        let domains = dns.domains.map(\.value)
        let (interface, servers) = (interface, dns.servers.map(\.value))
        if !splitsNoNames { return ResolverSetting(interface: interface, servers: servers, domains: domains) }
        return ResolverSetting(
            interface: interface, servers: servers, domains: domains.filter { !$0.hasPrefix("~") }, isForAllNames: true)
    }

    private var splitsNoNames: Bool { facts.resolvers?.first == .resolvconf }

    /// Says what keeps name servers from being set, or from answering.
    ///
    /// - Parameters:
    ///   - prefixes: all that any peer may send.
    ///   - routes: the mesh's.
    mutating func check(_ dns: DNSSettings, _ prefixes: [IPPrefix], _ routes: [Route]) {
        if facts.resolvers?.isEmpty == true {
            // All else would be done, and names still asked of servers that the mesh was to replace.
            lack(
                Diagnostic(
                    "host.no-resolver", .error,
                    "neither systemd-resolved nor resolvconf is here: the name servers of \(node.name) cannot be set",
                    at: dns.place,
                    notes: [
                        Diagnostic.Note("start systemd-resolved, install the package openresolv, or take `dns` out")
                    ]))
        }
        warnAboutNamesThatAreNotSplit(dns)
        for server in dns.servers {
            let address = server.value
            // What is asked of the host itself needs no way into the mesh.
            if address.isLoopback || isOwn(address) { continue }
            let network = facts.connectedNetworks.filter { $0.prefix.contains(address) }.max {
                $0.prefix.length < $1.prefix.length
            }
            if let network, !asksByLink, isBeside(network, address, routes) {
                warnIfRefused(server, network)
                continue
            }
            if prefixes.contains(where: { !$0.isDefault && $0.contains(address) }) { continue }
            if let tunnel, tunnel.families.contains(address.family) {
                if let network, asksByLink { warnAboutTheWay(to: server, in: network) }
                continue
            }
            warnThatNobodyHas(server)
        }
    }

    private mutating func warnAboutNamesThatAreNotSplit(_ dns: DNSSettings) {
        guard splitsNoNames, let first = dns.domains.first(where: { $0.value.hasPrefix("~") && $0.value != "~." })
        else {
            return
        }
        diagnostics.append(
            Diagnostic(
                "host.dns-not-split", .warning,
                "resolvconf cannot ask other servers for some names only: those of \(node.name) are asked for all names, and "
                    + "not just for \(first.value.dropFirst())",
                at: first.place,
                notes: [
                    Diagnostic.Note(
                        "start systemd-resolved, which can; or take the domains with `~` out, if the mesh's servers may see all "
                            + "names and answer them")
                ]))
    }

    // MARK: Where servers are asked

    /// systemd-resolved asks the servers of a link by that link, whatever other routes there are; all else sends to them as
    /// to anybody.
    private var asksByLink: Bool { facts.resolvers?.first == .resolved }

    private func isOwn(_ address: IPAddress) -> Bool {
        node.addresses.contains { $0.value == address }
            || facts.connectedNetworks.contains { $0.addresses.contains(address) }
    }

    /// Whether packets to an address in a network that the host is connected to go there, and not into the mesh: of the main
    /// table's routes the longest decides, and a full tunnel's default route comes after all of them.
    private func isBeside(
        _ network: HostFacts.ConnectedNetwork, _ address: IPAddress, _ routes: [Route]
    ) -> Bool {
        !routes.contains {
            $0.table == Route.mainTable && $0.prefix.length >= network.prefix.length && $0.prefix.contains(address)
        }
    }

    private mutating func warnIfRefused(_ server: Located<IPAddress>, _ network: HostFacts.ConnectedNetwork) {
        guard let killSwitch = node.killSwitch, tunnel != nil,
            !killSwitch.allow.contains(where: { $0.value.contains(server.value) })
        else { return }
        diagnostics.append(
            Diagnostic(
                "host.dns-refused", .warning,
                "the name server \(server.value) is in \(network.prefix), which this host is connected to by "
                    + "\(network.interface): the kill switch of \(node.name) refuses it",
                at: server.place,
                notes: [
                    Diagnostic.Note(
                        "put \(server.value) or its network into `killSwitch: {allow: […]}`, or name a server that is reached "
                            + "through the tunnel")
                ]))
    }

    private mutating func warnAboutTheWay(to server: Located<IPAddress>, in network: HostFacts.ConnectedNetwork) {
        diagnostics.append(
            Diagnostic(
                "host.dns-outside", .warning,
                "the name server \(server.value) is in \(network.prefix), which this host is connected to by "
                    + "\(network.interface), and would be looked for through the exit: systemd-resolved asks by \(interface) alone",
                at: server.place,
                notes: [
                    Diagnostic.Note(
                        "name a server that is reached through the tunnel; or take it out of `dns`, and leave it to "
                            + "\(network.interface) in the host's own settings")
                ]))
    }

    private mutating func warnThatNobodyHas(_ server: Located<IPAddress>) {
        if let tunnel, tunnel.exit == nil, let exit = node.useExit {
            diagnostics.append(
                Diagnostic(
                    "host.dns-outside", .warning,
                    "the name server \(server.value) would be asked through the exit \(exit.value), and never answer: the exit is "
                        + "disabled, has expired or has no direct link", at: server.place,
                    notes: [
                        Diagnostic.Note("put the exit right, or name another one with `useExit`", at: exit.place)
                    ]))
            return
        }
        diagnostics.append(
            Diagnostic(
                "host.dns-outside", .warning,
                "the name server \(server.value) is not behind any node that \(node.name) reaches: it would be asked over the "
                    + "mesh, and never answer", at: server.place,
                notes: [
                    Diagnostic.Note(
                        "its address, or the network around it, belongs under the `addresses` or `allowedIPs` of a node"
                    )
                ]))
    }
}
