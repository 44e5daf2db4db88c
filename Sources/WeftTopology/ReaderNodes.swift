// The `defaults:` and `nodes:` sections: every field of a node, over what the defaults say.

import WeftDiagnostics
import WeftModel
import YAML

extension Reader {
    private static let noKey = PublicKey(bigEndianWords: 0, 0, 0, 0)

    mutating func readDefaults(_ section: Section) {
        guard !isEmpty(section), isMapping(section.value, "`defaults`") else { return }
        var node = Node(
            place: tree.place(section.key), name: "", publicKey: Located(Self.noKey, at: tree.place(section.key)),
            addresses: [])
        for (key, value) in tree.pairs(section.value) {
            guard let field = field(key, value, in: defaultsFields) else { continue }
            switch field {
            case .publicKey, .addresses, .endpoint:
                problems.error(
                    "topology.default-identity",
                    "`\(field.rawValue)` says which node is which, so it cannot be a default",
                    at: tree.place(key))
            default: read(field, value, into: &node)
            }
        }
        draft.defaults = node
        draft.defaultsSource = Draft.Source(tree: section.tree, map: section.value)
    }

    mutating func readNodes(_ section: Section) {
        enter(section)
        guard !isEmpty(section), isMapping(section.value, "`nodes`") else { return }
        draft.nodes.reserveCapacity(draft.nodes.count + tree.count(section.value))
        draft.sources.reserveCapacity(draft.nodes.count + tree.count(section.value))
        for (key, value) in tree.pairs(section.value) {
            guard tree.kind(key) == .scalar else { continue }
            readNode(key, value, section)
        }
    }

    private mutating func readNode(_ key: YAMLTree.ID, _ value: YAMLTree.ID, _ section: Section) {
        // A node with a bad name is read nonetheless: its fields may hold more to report.
        let name = name(key, "a node's name")
        let place = tree.place(key)
        if tree.isNull(value) {
            problems.error("topology.missing-field", "node \"\(shown(tree.string(key)))\" is empty", at: place)
            remember(name, place, section, value)
            return
        }
        guard isMapping(value, "a node") else {
            remember(name, place, section, value)
            return
        }
        let noKey = Located(Self.noKey, at: place)
        var node = draft.defaults ?? Node(place: place, name: "", publicKey: noKey, addresses: [])
        node.place = place
        node.publicKey = noKey
        var hasKey = false
        var hasAddresses = false
        for (key, value) in tree.pairs(value) {
            guard let field = field(key, value, in: nodeFields) else {
                // A misspelt field is not told a second time as a missing one.
                if suggested == NodeField.publicKey.rawValue { hasKey = true }
                if suggested == NodeField.addresses.rawValue { hasAddresses = true }
                continue
            }
            switch field {
            case .publicKey: hasKey = true
            case .addresses: hasAddresses = true
            default: break
            }
            read(field, value, into: &node)
        }
        if !hasKey {
            problems.error(
                "topology.missing-field", "node \"\(shown(tree.string(key)))\" has no `publicKey`", at: place,
                notes: [Diagnostic.Note("`weft key public` on the host prints it")])
        }
        if !hasAddresses {
            problems.error(
                "topology.missing-field", "node \"\(shown(tree.string(key)))\" has no `addresses`", at: place,
                notes: [Diagnostic.Note("`addresses: [10.80.0.1]`: one at least, inside the mesh's ranges")])
        }
        guard let name else { return }
        node.name = name.value
        // A default exit is meant for all but the exit itself.
        if let exit = node.useExit, exit.value == name.value, exit.place == draft.defaults?.useExit?.place {
            node.useExit = nil
            if node.killSwitch?.place == draft.defaults?.killSwitch?.place { node.killSwitch = nil }
        }
        if node.publicKey.place == place { draft.incomplete.insert(name.value) }
        draft.nodes.append(node)
        draft.sources.append(Draft.Source(tree: section.tree, map: value))
    }

    /// Keeps the name of a node of which nothing else could be read.
    private mutating func remember(
        _ name: Located<String>?, _ place: SourceRange, _ section: Section, _ value: YAMLTree.ID
    ) {
        guard let name else { return }
        draft.incomplete.insert(name.value)
        draft.nodes.append(
            Node(place: place, name: name.value, publicKey: Located(Self.noKey, at: place), addresses: []))
        draft.sources.append(Draft.Source(tree: section.tree, map: value))
    }

    private mutating func read(_ field: NodeField, _ value: YAMLTree.ID, into node: inout Node) {
        switch field {
        case .publicKey: node.publicKey = publicKey(value) ?? node.publicKey
        case .addresses: readAddresses(value, into: &node)
        case .endpoint: node.endpoint = endpoint(value, "`endpoint`")
        case .hub: node.isHub = boolean(value, "`hub`") ?? node.isHub
        case .allowedIPs:
            node.allowedIPs = []
            for item in list(value, "`allowedIPs`", ofAddresses: true) {
                if let prefix = prefix(item, "an entry of `allowedIPs`") { node.allowedIPs.append(prefix) }
            }
        case .interface: node.interface = interfaceName(value)
        case .listenPort: node.listenPort = port(value, "`listenPort`")
        case .persistentKeepalive: node.persistentKeepalive = keepalive(value)
        case .mtu: node.mtu = number(value, "`mtu`", 576...65_535)
        case .table: node.table = table(value) ?? node.table
        case .fwMark: node.fwMark = fwMark(value) ?? node.fwMark
        case .connect: node.connect = connect(value)
        case .unmanaged: node.isUnmanaged = boolean(value, "`unmanaged`") ?? node.isUnmanaged
        case .disabled: node.isDisabled = boolean(value, "`disabled`") ?? node.isDisabled
        case .expires: node.expires = expiry(value)
        case .masquerade: node.masquerade = masquerade(value)
        case .exit: node.isExit = boolean(value, "`exit`") ?? node.isExit
        case .useExit: node.useExit = exit(value)
        case .killSwitch: node.killSwitch = killSwitch(value)
        case .dns: node.dns = dns(value)
        }
    }

    private mutating func exit(_ id: YAMLTree.ID) -> Located<String>? {
        guard tree.kind(id) == .sequence else { return name(id, "`useExit`") }
        let names = tree.items(id).compactMap { name($0, "`useExit`")?.value }
        problems.error(
            "topology.use-exit", "`useExit` takes one name, not a list: a default route leads one way",
            at: tree.place(id),
            fixIts: names.map { replace(id, with: $0) })
        return nil
    }

    private mutating func readAddresses(_ value: YAMLTree.ID, into node: inout Node) {
        node.addresses.reserveCapacity(tree.count(value))
        for item in list(value, "`addresses`", ofAddresses: true) {
            if let address = address(item, "an entry of `addresses`") { node.addresses.append(address) }
        }
        if tree.kind(value) == .sequence, tree.count(value) == 0 {
            problems.error(
                "topology.missing-field", "`addresses` is empty: a node has one address at least", at: tree.place(value)
            )
        }
    }

    mutating func port(_ id: YAMLTree.ID, _ what: String) -> UInt16? {
        number(id, what, 1...65_535).map { UInt16($0) }
    }

    mutating func keepalive(_ id: YAMLTree.ID) -> UInt16? {
        let what = "`persistentKeepalive`"
        if tree.kind(id) == .scalar {
            let text = tree.string(id)
            if text.lowercased() == "off" {
                wrongType(
                    what, "a number of seconds from 0 to 65535, and 0 is off", id, fixIts: [replace(id, with: "0")])
                return nil
            }
            if text.hasSuffix("s"), let seconds = UInt16(text.dropLast()) {
                wrongType(
                    what, "a number of seconds from 0 to 65535, without a unit", id,
                    fixIts: [replace(id, with: String(seconds))])
                return nil
            }
        }
        return number(id, what, 0...65_535).map { UInt16($0) }
    }

    private mutating func table(_ id: YAMLTree.ID) -> RoutingTable? {
        let what = "`table`"
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            wrongType(what, "off, main or a number", id)
            return nil
        }
        let text = tree.string(id)
        switch text {
        case "off": return .off
        case "main": return .main
        case "auto":
            wrongType(what, "off, main or a number", id, fixIts: [replace(id, with: "main")])
            return nil
        default: break
        }
        guard let first = text.utf8.first, decimalDigit(first) != nil else {
            if let known = nearest(to: text, among: ["off", "main"]) {
                wrongType(what, "off, main or a number", id, fixIts: [replace(id, with: known)])
            } else {
                wrongType(what, "off, main or a number", id)
            }
            return nil
        }
        guard let number = number(id, what, 1...UInt32.max) else { return nil }
        switch number {
        case 253, 255:
            problems.error(
                "topology.out-of-range", "table \(number) is Linux's own \(number == 255 ? "`local`" : "`default`")",
                at: tree.place(id))
            return nil
        case 254: return .main
        default: return .number(number)
        }
    }

    private mutating func fwMark(_ id: YAMLTree.ID) -> UInt32? {
        let what = "`fwMark`"
        let expected = "a number from 0 to 4294967295, or hexadecimal like 0xca6c"
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            wrongType(what, expected, id)
            return nil
        }
        let text = tree.string(id)
        if text.hasPrefix("0x") || text.hasPrefix("0X") {
            guard let value = UInt32(text.dropFirst(2), radix: 16), !text.dropFirst(2).hasPrefix("+") else {
                wrongType(what, expected, id)
                return nil
            }
            return value
        }
        if text.lowercased() == "off" {
            wrongType(what, expected, id, fixIts: [replace(id, with: "0")])
            return nil
        }
        if !tree.isPlain(id), let value = UInt32(text), String(value) == text { return value }
        return number(id, what, 0...UInt32.max)
    }

    private mutating func connect(_ id: YAMLTree.ID) -> Connect? {
        if tree.kind(id) == .sequence {
            var names: [String] = []
            for item in tree.items(id) {
                if let name = name(item, "a node's name") { names.append(name.value) }
            }
            return .nodes(names)
        }
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            wrongType("`connect`", "full, hubs or a list of nodes", id)
            return nil
        }
        switch tree.string(id) {
        case "full": return .full
        case "hubs": return .hubs
        default:
            if isKeyShaped(id) {
                wrongType("`connect`", "full, hubs or a list of nodes", id)
                return nil
            }
            let text = tree.string(id)
            // Words that no node is called by.
            let meant: String? =
                switch text {
                case "none", "nobody", "off", "no", "false": "[]"
                case "all", "any", "everyone", "true", "yes", "on": "full"
                default: nearest(to: text, among: ["full", "hubs"])
                }
            problems.error(
                "topology.wrong-type", "`connect` must be full, hubs or a list of nodes, not \(found(id))",
                at: tree.place(id),
                notes: meant == "[]" ? [Diagnostic.Note("an empty list links to no other node")] : [],
                fixIts: [replace(id, with: meant ?? "[\(text)]")])
            return nil
        }
    }

    private mutating func expiry(_ id: YAMLTree.ID) -> UnixTime? {
        let expected = "a moment like 2027-01-01T00:00:00Z"
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            wrongType("`expires`", expected, id)
            return nil
        }
        let text = tree.string(id)
        if let time = UnixTime(rfc3339: text) { return time }
        var fixIts: [Diagnostic.FixIt] = []
        var expectation = expected
        if UnixTime(rfc3339: text + "T00:00:00Z") != nil {
            fixIts = [replace(id, with: text + "T00:00:00Z")]
            expectation = "a moment, with its time of day and zone"
        } else if UnixTime(rfc3339: text + "Z") != nil {
            fixIts = [replace(id, with: text + "Z")]
            expectation = "a moment with a zone: Z for UTC, or +02:00"
        }
        wrongType("`expires`", expectation, id, fixIts: fixIts)
        return nil
    }
}
