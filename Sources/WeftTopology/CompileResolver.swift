// The name servers of a node's link, as far as the host's name resolution can take them.

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

    mutating func warnAboutNamesThatAreNotSplit(_ dns: DNSSettings) {
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

    private var splitsNoNames: Bool { facts.resolvers?.first == .resolvconf }
}
