// The desired state of one host for people: what `weft show` prints. Complete, so nothing is folded away.

import WeftModel

/// A state document as text.
package struct StateText {
    package var document: StateDocument
    package var options: TextOptions

    package init(_ document: StateDocument, options: TextOptions = TextOptions()) {
        self.document = document
        self.options = options
    }

    private static var onHost: String { "(decided on the host)" }

    /// The whole text, each line with its end.
    package var text: String {
        var page = Page(options)
        page.plain(
            "\(document.node.visible) in mesh \(document.mesh.visible), interface \(document.interface.visible)",
            .heading)
        guard document.link != nil else {
            page.blank()
            page.plain("  The mesh is not on this host.")
            return page.text
        }
        interface(&page)
        if !document.addresses.isEmpty {
            page.section("addresses")
            for address in document.addresses { line(address, &page) }
        }
        peers(&page)
        if !document.routes.isEmpty {
            page.section("routes")
            for route in document.routes { line(phrase(route), &page) }
        }
        if !document.rules.isEmpty {
            page.section("policy rules")
            for rule in document.rules { line("\(rule.priority): \(rule.rule) (\(rule.family))", &page) }
        }
        if let resolver = document.resolver {
            page.section("name resolution")
            field("servers", resolver.servers.joined(separator: ", "), &page)
            if !resolver.domains.isEmpty {
                field("domains", resolver.domains.map(\.visible).joined(separator: ", "), &page)
                if resolver.allNames { field("asked for", "all names", &page) }
            }
        }
        firewall(&page)
        if !document.sysctls.isEmpty {
            page.section("sysctls of the host")
            for sysctl in document.sysctls {
                line("\(Sysctl.dotted(sysctl.path).visible) = \(sysctl.value.visible)", &page)
            }
            if document.decidedOnHost.contains("sysctls") {
                line(
                    "net.ipv6.conf.*.accept_ra = 2, for interfaces that listen to router advertisements \(Self.onHost)",
                    &page)
            }
        }
        return page.text
    }

    private func firewall(_ page: inout Page) {
        guard let firewall = document.firewall else { return }
        page.section("firewall: table inet weft-\(document.interface.visible)")
        for chain in firewall.chains {
            line("chain \(chain.name.visible)" + (chain.base.map { "  \($0)" } ?? ""), &page)
            for rule in chain.rules { line("  \(rule)", &page) }
        }
        for set in firewall.sets {
            line("\(set.type.hasSuffix(": counter") ? "map" : "set") \(set.name.visible)  \(set.type)", &page)
            for text in wrapped(set.elements, width: options.width - 6) { line("  \(text)", &page) }
        }
        for counter in firewall.counters { line("counter \(counter.name.visible)  \(counter.comment.visible)", &page) }
    }

    private func interface(_ page: inout Page) {
        page.section("interface")
        if let link = document.link {
            field("name", link.name.visible, &page)
            field("MTU", link.mtu.map(String.init) ?? Self.onHost, &page)
            field("alias", link.alias.visible, &page)
        }
        if let device = document.device {
            field("public key", device.publicKey ?? Self.onHost, &page)
            field("private key", "(kept on the host)", &page)
            field("listen port", device.listenPort.map(String.init) ?? "(chosen by the kernel)", &page)
            if device.fwMark != 0 { field("fwmark", markText(device.fwMark), &page) }
        }
    }

    private func peers(_ page: inout Page) {
        if document.peers.isEmpty { return }
        page.section("peers")
        for peer in document.peers {
            let key = options.painted(peer.publicKey, .faint)
            line(peer.name.map { "\(options.painted($0.visible, .heading))  \(key)" } ?? key, &page)
            detail("endpoint", endpoint(peer), &page)
            if peer.persistentKeepalive != 0 { detail("keepalive", keepaliveText(peer.persistentKeepalive), &page) }
            switch peer.presharedKey {
            case "set"?: detail("preshared key", "(set)", &page)
            case "external"?: detail("preshared key", "left to another program", &page)
            case nil: detail("preshared key", Self.onHost, &page)
            default: break
            }
            var title = "allowed IPs"
            for text in wrapped(peer.allowedIPs, width: options.width - 21) {
                detail(title, text, &page)
                title = ""
            }
        }
    }

    private func endpoint(_ peer: StateDocument.Peer) -> String {
        switch (peer.endpoint, peer.endpointName) {
        case (let address?, let name?): "\(name.visible) (\(address))"
        case (let address?, nil): address
        case (nil, let name?): "\(name.visible), address \(Self.onHost)"
        case (nil, nil): "none: this peer dials in"
        }
    }

    private func phrase(_ route: StateDocument.Route) -> String {
        (route.target == "unreachable" ? "unreachable " : "") + route.prefix
            + (route.table == 254 ? "" : " table \(route.table)")
            + (route.metric == (route.prefix.contains(":") ? 1024 : 0) ? "" : " metric \(route.metric)")
            + (route.source.map { " src \($0)" } ?? "")
    }

    private func line(_ text: String, _ page: inout Page) { page.plain("    " + text) }

    private func field(_ title: String, _ value: String, _ page: inout Page) {
        line(title.padded(to: 13) + value, &page)
    }

    private func detail(_ title: String, _ value: String, _ page: inout Page) {
        line("  " + title.padded(to: 15) + value, &page)
    }
}
