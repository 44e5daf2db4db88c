// What a node does beside linking: `masquerade`, `killSwitch`, `dns`.

import WeftDiagnostics
import WeftModel
import YAML

extension Reader {
    /// `true`, `false` or a mapping. Nil for `false`, and where it cannot be read.
    mutating func masquerade(_ id: YAMLTree.ID) -> Masquerade? {
        guard tree.kind(id) == .mapping else {
            guard tree.kind(id) == .scalar, case .boolean = PlainMeaning(tree.text(id)) else {
                wrongType("`masquerade`", "true, or a mapping of interfaces, sources and destinations", id)
                return nil
            }
            return boolean(id, "`masquerade`") == true ? Masquerade(place: tree.place(id)) : nil
        }
        var result = Masquerade(place: tree.place(id))
        for (key, value) in tree.pairs(id) {
            guard let field = field(key, value, in: masqueradeFields) else { continue }
            let items = list(value, "`\(field.rawValue)`")
            if tree.kind(value) == .sequence, tree.count(value) == 0 {
                problems.error(
                    "topology.empty-list", "`\(field.rawValue)` is empty: leave it out for the default",
                    at: tree.place(value))
            }
            for item in items {
                switch field {
                case .interfaces:
                    if let name = interfaceName(item) { result.interfaces.append(name) }
                case .sources:
                    if let prefix = prefix(item, "an entry of `sources`") { result.sources.append(prefix) }
                case .destinations:
                    if let prefix = prefix(item, "an entry of `destinations`") { result.destinations.append(prefix) }
                }
            }
        }
        if tree.count(id) == 0 {
            problems.error(
                "topology.empty-list", "`masquerade` says nothing: write `true`, or what to masquerade",
                at: tree.place(id),
                fixIts: [replace(id, with: "true")])
            return nil
        }
        return result
    }

    /// `true`, `false` or `{allow: […]}`. Nil for `false`, and where it cannot be read.
    mutating func killSwitch(_ id: YAMLTree.ID) -> KillSwitch? {
        guard tree.kind(id) == .mapping else {
            guard tree.kind(id) == .scalar, case .boolean = PlainMeaning(tree.text(id)) else {
                wrongType("`killSwitch`", "true, or a mapping like {allow: [192.168.0.0/24]}", id)
                return nil
            }
            return boolean(id, "`killSwitch`") == true ? KillSwitch(place: tree.place(id)) : nil
        }
        var result = KillSwitch(place: tree.place(id))
        for (key, value) in tree.pairs(id) {
            guard field(key, value, in: killSwitchFields) != nil else { continue }
            for item in list(value, "`allow`") {
                guard let prefix = prefix(item, "an entry of `allow`") else { continue }
                if prefix.value.isDefault {
                    problems.error(
                        "topology.kill-switch", "\(prefix.value) allows everything: that is no kill switch",
                        at: prefix.place)
                } else {
                    result.allow.append(prefix)
                }
            }
        }
        return result
    }

    mutating func dns(_ id: YAMLTree.ID) -> DNSSettings? {
        guard tree.kind(id) == .mapping else {
            var fixIts: [Diagnostic.FixIt] = []
            let texts = tree.kind(id) == .scalar ? [tree.string(id)] : tree.items(id).map { tree.string($0) }
            if !texts.isEmpty, texts.allSatisfy({ IPAddress($0) != nil }) {
                fixIts = [replace(id, with: "{servers: [\(texts.joined(separator: ", "))]}")]
            }
            wrongType("`dns`", "a mapping like {servers: [10.80.0.1], domains: [corp.internal]}", id, fixIts: fixIts)
            return nil
        }
        var result = DNSSettings(servers: [], place: tree.place(id))
        var hasServers = false
        for (key, value) in tree.pairs(id) {
            guard let field = field(key, value, in: dnsFields) else { continue }
            switch field {
            case .servers:
                hasServers = hasServers || tree.kind(value) != .sequence || tree.count(value) > 0
                for item in list(value, "`servers`") {
                    if let address = nameServer(item) { result.servers.append(address) }
                }
            case .domains:
                for item in list(value, "`domains`") {
                    if let domain = domain(item) { result.domains.append(domain) }
                }
            }
        }
        if !hasServers {
            problems.error(
                "topology.missing-field", "`dns` has no `servers`", at: tree.place(id),
                notes: [Diagnostic.Note("domains are looked up at servers: `servers: [10.80.0.1]`")])
        }
        return result
    }

    /// An address that can be asked.
    private mutating func nameServer(_ id: YAMLTree.ID) -> Located<IPAddress>? {
        guard let server = address(id, "a name server") else { return nil }
        let address = server.value
        if address.isUnspecified || address.isMulticast || address == IPAddress(v4: .max) {
            problems.error(
                "topology.name-server", "\(address) cannot be asked: a name server has an address of its own",
                at: server.place)
            return nil
        }
        if address.isLoopback {
            problems.note(
                "topology.name-server",
                "\(address) is the host itself: a server that listens there is asked, and not one behind the mesh",
                at: server.place)
        }
        return server
    }

    /// A search domain, or with `~` before it a domain that is only routed to these servers.
    private mutating func domain(_ id: YAMLTree.ID) -> Located<String>? {
        guard let text = text(id, "a domain") else { return nil }
        if text == "~." { return Located(text, at: tree.place(id)) }
        let bare = text.hasPrefix("~") ? text.dropFirst() : text[...]
        let labels = (bare.hasSuffix(".") ? bare.dropLast() : bare).split(
            separator: ".", omittingEmptySubsequences: false)
        let isDomain =
            bare.utf8.count <= 253
            && labels.allSatisfy { label in
                (1...63).contains(label.utf8.count) && !label.hasPrefix("-") && !label.hasSuffix("-")
                    && label.unicodeScalars.allSatisfy { scalar in
                        (scalar.isASCII && scalar.properties.isAlphabetic) || ("0"..."9").contains(scalar)
                            || scalar == "-"
                            || scalar == "_"
                    }
            }
        guard isDomain else {
            problems.error(
                "topology.domain", "\(found(id)) is not a domain: write one like corp.internal", at: tree.place(id))
            return nil
        }
        if IPAddress(text) != nil {
            problems.error("topology.domain", "\(text) is an address: it belongs under `servers`", at: tree.place(id))
            return nil
        }
        return Located(text, at: tree.place(id))
    }
}
