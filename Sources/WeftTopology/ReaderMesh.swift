// The `mesh:` section, and the names that label meshes, nodes, groups and interfaces.

import WeftDiagnostics
import WeftModel
import YAML

extension Reader {
    mutating func readMesh(_ id: YAMLTree.ID, key: YAMLTree.ID) -> Mesh? {
        guard isMapping(id, "`mesh`") else { return nil }
        var name: Located<String>?
        var interface: Located<String>?
        var addresses: [Located<IPPrefix>] = []
        var connect = Connect.full
        var presharedKeys = Mesh.PresharedKeys.none
        var hasName = false
        var hasAddresses = false
        for (key, value) in tree.pairs(id) {
            guard let field = field(key, value, in: meshFields) else {
                // A misspelt field is not told a second time as a missing one.
                if suggested == MeshField.name.rawValue { hasName = true }
                if suggested == MeshField.addresses.rawValue { hasAddresses = true }
                continue
            }
            switch field {
            case .name:
                hasName = true
                name = self.name(value, "the mesh's name")
            case .interface: interface = interfaceName(value)
            case .addresses:
                hasAddresses = true
                for item in list(value, "`addresses`", ofAddresses: true) {
                    if let prefix = prefix(item, "a mesh range", isRange: true) {
                        addresses.append(prefix)
                    } else {
                        draft.lacksRange = true
                    }
                }
                if tree.kind(value) == .sequence, tree.count(value) == 0 { hasAddresses = false }
            case .connect: connect = meshConnect(value) ?? connect
            case .presharedKeys: presharedKeys = self.presharedKeys(value) ?? presharedKeys
            }
        }
        let place = tree.place(key)
        if !hasName {
            problems.error(
                "topology.missing-field", "`mesh` has no `name`", at: place,
                notes: [Diagnostic.Note("`name: corp` labels this mesh in every output, and names its interface")])
        }
        if !hasAddresses {
            problems.error(
                "topology.missing-field", "`mesh` has no `addresses`", at: place,
                notes: [
                    Diagnostic.Note("`addresses: [10.80.0.0/16, fd80::/48]`: each node's addresses lie in one of them")
                ])
        }
        // Without a name of its own the interface is named as the mesh is, and that must fit too.
        if hasName, interface == nil, let name, !tree.pairs(id).contains(where: { tree.string($0.key) == "interface" }),
            let reason = interfaceNameProblem(name.value)
        {
            problems.error(
                "topology.interface-name", "the mesh's name cannot name its interface: \(reason)", at: name.place,
                notes: [Diagnostic.Note("give it one with `interface: wg0`")])
        }
        let fallback = Located("", at: place)
        return Mesh(
            name: name ?? fallback, interface: interface ?? name ?? fallback, addresses: addresses, connect: connect,
            presharedKeys: presharedKeys)
    }

    private mutating func meshConnect(_ id: YAMLTree.ID) -> Connect? {
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            wrongType("`connect`", "full or hubs", id)
            return nil
        }
        switch tree.string(id) {
        case "full": return .full
        case "hubs": return .hubs
        default:
            wrongChoice("`connect`", ["full", "hubs"], id)
            return nil
        }
    }

    private mutating func presharedKeys(_ id: YAMLTree.ID) -> Mesh.PresharedKeys? {
        let names = Mesh.PresharedKeys.allCases.filter { $0 != .sealed }.map(\.rawValue)
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            wrongType("`presharedKeys`", "none, external or directory", id)
            return nil
        }
        guard let value = Mesh.PresharedKeys(rawValue: tree.string(id)) else {
            if isKeyShaped(id) {
                problems.hide(tree.place(id))
                problems.error(
                    "topology.secret", "a preshared key does not belong in a topology in plain text",
                    at: tree.place(id),
                    notes: [
                        Diagnostic.Note("write `directory`, and put the keys into files on the hosts"),
                        Diagnostic.Note("a key that has been committed is known: make a new one"),
                    ])
            } else {
                wrongChoice("`presharedKeys`", names, id)
            }
            return nil
        }
        if value == .sealed {
            problems.error(
                "topology.not-built", "`presharedKeys: sealed` is not built yet", at: tree.place(id),
                notes: [
                    Diagnostic.Note(
                        "`directory` reads them from files on each host, `external` leaves them to another program")
                ],
                fixIts: [replace(id, with: "directory")])
            return nil
        }
        return value
    }

    /// One word out of a few.
    mutating func wrongChoice(_ what: String, _ choices: [String], _ id: YAMLTree.ID) {
        if isKeyShaped(id) {
            wrongType(what, joined(choices), id)
            return
        }
        let text = tree.string(id)
        let fixIts = nearest(to: text, among: choices).map { [replace(id, with: $0)] } ?? []
        problems.error(
            "topology.unknown-value", "\(what) must be \(joined(choices)), not \"\(shown(text))\"", at: tree.place(id),
            fixIts: fixIts)
    }

    private func joined(_ choices: [String]) -> String {
        choices.count < 2
            ? choices.joined() : choices.dropLast().joined(separator: ", ") + " or " + choices[choices.count - 1]
    }

    // MARK: Names

    /// A name: at most 63 ASCII letters, digits, `-`, `_` and `.`, beginning with a letter or digit.
    mutating func name(_ id: YAMLTree.ID, _ what: String) -> Located<String>? {
        guard tree.kind(id) == .scalar, !tree.isNull(id) || !tree.isPlain(id) else {
            wrongType(what, "a name", id)
            return nil
        }
        if isName(tree.text(id)) {
            guard isText(id, what) else { return nil }
            return Located(tree.string(id), at: tree.place(id))
        }
        reportName(id, what)
        return nil
    }

    private func isName(_ text: Span<UInt8>) -> Bool {
        guard (1...63).contains(text.count) else { return false }
        for index in text.indices {
            switch text[index] {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                continue
            case UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                if index == 0 { return false }
            default: return false
            }
        }
        return true
    }

    private mutating func reportName(_ id: YAMLTree.ID, _ what: String) {
        let place = tree.place(id)
        if isKeyShaped(id) {
            wrongType(what, "a name", id)
            return
        }
        // `12:30:45` is told as what it is before the colon is.
        if tree.isPlain(id), case .sexagesimal = PlainMeaning(tree.text(id)) {
            _ = isText(id, what)
            return
        }
        let text = tree.string(id)
        let bad = text.unicodeScalars.first { scalar in
            !(scalar.isASCII && scalar.properties.isAlphabetic) && !("0"..."9").contains(scalar) && scalar != "-"
                && scalar != "_" && scalar != "."
        }
        let reason: String
        if text.isEmpty {
            reason = "is empty"
        } else if let bad {
            let code = codePoint(bad.value)
            switch bad.value {
            case 0x20: reason = "holds a blank"
            case 0x21..<0x7F: reason = "holds \"\(bad)\""
            case 0...0x20, 0x7F..<0xA0: reason = "holds a control character (\(code))"
            default:
                let look = lookAlike(bad).map { ", which only looks like \"\($0)\"" } ?? ""
                reason =
                    bad.properties.generalCategory == .format || bad.properties.isWhitespace
                    ? "holds an invisible character (\(code))" : "holds \"\(bad)\" (\(code))\(look)"
            }
        } else if text.utf8.count > 63 {
            reason = "has \(text.utf8.count) characters"
        } else {
            reason = "begins with \"\(text.prefix(1))\""
        }
        problems.error(
            "topology.name",
            "\(what) \(reason): names are 1 to 63 letters a-z, digits, \"-\", \"_\" and \".\", and begin with a letter or digit",
            at: place)
    }

    /// The ASCII letter that a Cyrillic, Greek or full-width one is taken for.
    private func lookAlike(_ scalar: Unicode.Scalar) -> Character? {
        if (0xFF01...0xFF5E).contains(scalar.value), let plain = Unicode.Scalar(scalar.value - 0xFEE0) {
            return Character(plain)
        }
        let pairs: [Unicode.Scalar: Character] = [
            "\u{0430}": "a", "\u{0435}": "e", "\u{043E}": "o", "\u{0440}": "p", "\u{0441}": "c", "\u{0443}": "y",
            "\u{0445}": "x", "\u{0456}": "i", "\u{0458}": "j", "\u{0455}": "s", "\u{0501}": "d", "\u{051B}": "q",
            "\u{0410}": "A", "\u{0412}": "B", "\u{0415}": "E", "\u{041A}": "K", "\u{041C}": "M", "\u{041D}": "H",
            "\u{041E}": "O", "\u{0420}": "P", "\u{0421}": "C", "\u{0422}": "T", "\u{0425}": "X", "\u{03BF}": "o",
            "\u{03BD}": "v", "\u{03B1}": "a", "\u{0131}": "i", "\u{2010}": "-", "\u{2011}": "-", "\u{2013}": "-",
            "\u{2212}": "-",
        ]
        return pairs[scalar]
    }

    /// A name that Linux accepts for an interface.
    mutating func interfaceName(_ id: YAMLTree.ID) -> Located<String>? {
        guard !isKeyShaped(id) else {
            wrongType("`interface`", "an interface's name", id)
            return nil
        }
        guard let text = text(id, "`interface`") else { return nil }
        if let reason = interfaceNameProblem(text) {
            problems.error("topology.interface-name", reason, at: tree.place(id))
            return nil
        }
        return Located(text, at: tree.place(id))
    }

    /// What keeps a text from naming an interface: Linux's rules, `/proc/sys`'s, wg-quick's and Weft's own.
    func interfaceNameProblem(_ text: String) -> String? {
        let count = text.utf8.count
        if text.isEmpty { return "the interface's name is empty" }
        if count > 15 { return "interface name \"\(shown(text))\" has \(count) characters, Linux allows 15" }
        if text == "." || text == ".." { return "\"\(text)\" cannot name an interface" }
        if text == "all" || text == "default" || text == "lo" {
            return "\"\(text)\" cannot name an interface: Linux means something else by it"
        }
        if text.hasPrefix("weft~") { return "names that begin with \"weft~\" are weft's own" }
        for scalar in text.unicodeScalars {
            switch scalar {
            case "/", ":": return "an interface name cannot hold \"\(scalar)\""
            case "%": return "an interface name cannot hold \"%\": Linux would put a number in its place"
            case "a"..."z", "A"..."Z", "0"..."9", "_", "-", "=", "+", ".": continue
            default:
                return scalar.isASCII && scalar.value > 0x20 && scalar.value != 0x7F
                    ? "an interface name holds letters, digits, \"_\", \"-\", \"=\", \"+\" and \".\", not \"\(scalar)\""
                    : scalar == " "
                        ? "an interface name cannot hold a blank"
                        : "an interface name holds letters, digits, \"_\", \"-\", \"=\", \"+\" and \".\", not \(codePoint(scalar.value))"
            }
        }
        return text.hasPrefix("-") ? "an interface name cannot begin with \"-\": commands take it for an option" : nil
    }
}
