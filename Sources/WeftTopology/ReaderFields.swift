// The names of all fields, how they are matched without a String, and what is said about one that is unknown.

import WeftDiagnostics
import YAML

enum RootField: String, CaseIterable {
    case mesh, defaults, nodes, groups, access, tests, links
}

enum MeshField: String, CaseIterable {
    case name, interface, addresses, connect, presharedKeys
}

enum NodeField: String, CaseIterable {
    case publicKey, addresses, endpoint, hub, allowedIPs, interface, listenPort, persistentKeepalive, mtu, table, fwMark
    case connect, unmanaged, disabled, expires, masquerade, exit, useExit, killSwitch, dns
}

enum LinkField: String, CaseIterable {
    case between, endpoints, persistentKeepalive
}

enum AccessField: String, CaseIterable {
    case from, to, ports
}

enum TestField: String, CaseIterable {
    case from, to, port, expect
}

enum MasqueradeField: String, CaseIterable {
    case interfaces, sources, destinations
}

enum KillSwitchField: String, CaseIterable {
    case allow
}

enum DNSField: String, CaseIterable {
    case servers, domains
}

/// Matches keys against the names of a section's fields by comparing bytes.
struct FieldTable<Field: CaseIterable & RawRepresentable & Sendable>: Sendable where Field.RawValue == String {
    private let names: [[UInt8]]
    private let fields: [Field]
    /// What holds these fields, for messages: `a node`.
    let owner: String
    /// What one of these is called: `field`.
    let noun: String

    init(owner: String, noun: String = "field") {
        self.owner = owner
        self.noun = noun
        fields = Array(Field.allCases)
        names = fields.map { Array($0.rawValue.utf8) }
    }

    func match(_ text: Span<UInt8>) -> Field? {
        candidates: for index in names.indices where names[index].count == text.count {
            let name = names[index]
            for position in text.indices where text[position] != name[position] { continue candidates }
            return fields[index]
        }
        return nil
    }

    var allNames: [String] { fields.map(\.rawValue) }
}

let rootFields = FieldTable<RootField>(owner: "a topology", noun: "section")
let meshFields = FieldTable<MeshField>(owner: "`mesh`")
let nodeFields = FieldTable<NodeField>(owner: "a node")
let defaultsFields = FieldTable<NodeField>(owner: "`defaults`")
let linkFields = FieldTable<LinkField>(owner: "a link")
let accessFields = FieldTable<AccessField>(owner: "an access rule")
let testFields = FieldTable<TestField>(owner: "a test")
let masqueradeFields = FieldTable<MasqueradeField>(owner: "`masquerade`")
let killSwitchFields = FieldTable<KillSwitchField>(owner: "`killSwitch`")
let dnsFields = FieldTable<DNSField>(owner: "`dns`")

extension Reader {
    /// The field that a key names; an unknown one is reported, with the nearest that is known.
    mutating func field<Field>(_ key: YAMLTree.ID, _ value: YAMLTree.ID, in table: FieldTable<Field>) -> Field? {
        guard tree.kind(key) == .scalar else { return nil }
        suggested = nil
        if let field = table.match(tree.text(key)) { return field }
        reportUnknown(key, value, "\(table.owner) has no \(table.noun)", names: table.allNames)
        return nil
    }

    private mutating func reportUnknown(_ key: YAMLTree.ID, _ value: YAMLTree.ID, _ lack: String, names: [String]) {
        let name = tree.string(key)
        let place = tree.place(key)
        let folded = name.lowercased().filter { $0 != "_" && $0 != "-" }
        if let remedy = secretRemedy(folded) {
            problems.hide(tree.place(value))
            problems.error(
                "topology.secret", remedy.message, at: place, notes: remedy.notes.map { Diagnostic.Note($0) })
            return
        }
        if hookRemedies[folded] != nil || foreignFields[folded] != nil, isKeyShaped(value) {
            problems.hide(tree.place(value))
        }
        if let remedy = hookRemedies[folded] {
            problems.error(
                "topology.hook",
                "`\(shown(name))` is not accepted: a commit must not be able to run commands on every host",
                at: place, notes: [Diagnostic.Note(remedy)])
            return
        }
        if let remedy = foreignFields[folded], !names.contains(where: { $0.lowercased() == folded }) {
            problems.error(
                "topology.unknown-field", "\(lack) \"\(shown(name))\"", at: place,
                notes: [Diagnostic.Note(remedy)])
            return
        }
        if problems.isCounted(in: tree.file) {
            if looksSecret(folded) || isKeyShaped(value) { problems.hide(tree.place(value)) }
            return
        }
        let known = spellings[folded].flatMap { names.contains($0) ? $0 : nil } ?? nearest(to: name, among: names)
        suggested = known
        // Whatever else has the shape of a key, or the name of a secret, is not shown either.
        if looksSecret(folded) || (isKeyShaped(value) && known != NodeField.publicKey.rawValue) {
            problems.hide(tree.place(value))
        }
        guard let known else {
            problems.error(
                "topology.unknown-field", "\(lack) \"\(shown(name))\"", at: place,
                notes: [Diagnostic.Note("known here: \(names.joined(separator: ", "))")])
            return
        }
        problems.error(
            "topology.unknown-field", "\(lack) \"\(shown(name))\": did you mean \"\(known)\"?", at: place,
            fixIts: [Diagnostic.FixIt("write \"\(known)\"", replace: place, with: known)])
    }

    private func secretRemedy(_ folded: String) -> (message: String, notes: [String])? {
        let isPrivate = folded == "privatekey" || editDistance(Array(folded.utf8), Array("privatekey".utf8)) <= 1
        if isPrivate {
            return (
                "a private key does not belong in a topology: each host keeps its own",
                [
                    "on the host: `umask 077; weft key generate > /etc/weft/private.key`; here: the `publicKey` that `weft key public` prints",
                    "a key that has been committed is known: make a new one",
                ]
            )
        }
        let isPreshared =
            folded == "presharedkey" || folded == "psk"
            || (folded != "presharedkeys" && editDistance(Array(folded.utf8), Array("presharedkey".utf8)) <= 1)
        if isPreshared {
            return (
                "a preshared key does not belong in a topology in plain text",
                [
                    "write `presharedKeys: directory` under `mesh`, and put the keys into files on the hosts",
                    "a key that has been committed is known: make a new one",
                ]
            )
        }
        return nil
    }

    private func looksSecret(_ folded: String) -> Bool {
        ["priv", "secret", "psk", "preshared", "passw", "token"].contains { folded.contains($0) }
    }

    /// Whether a scalar looks like 32 bytes of base64 or hex, as keys of all kinds do.
    func isKeyShaped(_ id: YAMLTree.ID) -> Bool {
        guard tree.kind(id) == .scalar else { return false }
        return isKeyShapedText(tree.text(id))
    }
}

/// wg-quick's hooks, and what does their work here.
private let hookRemedies: [String: String] = {
    let remedy =
        "what hooks are used for has a field here: NAT is `masquerade`, routing is `allowedIPs` and `table`, a full tunnel is `useExit`, name servers are `dns`; forwarding is switched on where a node needs it"
    return ["preup": remedy, "postup": remedy, "predown": remedy, "postdown": remedy]
}()

/// What wg and other tools call a field, in lower case, and its name here.
private let spellings: [String: String] = [
    "address": "addresses", "ip": "addresses", "ips": "addresses", "allowedip": "allowedIPs", "pubkey": "publicKey",
    "key": "publicKey", "port": "listenPort", "keepalive": "persistentKeepalive", "mark": "fwMark",
    "nameservers": "dns", "host": "endpoint", "server": "servers", "ishub": "hub", "relay": "hub",
    "exitnode": "useExit",
    "node": "nodes", "peers": "nodes", "hosts": "nodes", "group": "groups", "link": "links", "acl": "access",
    "rules": "access", "policy": "access", "network": "addresses", "subnet": "addresses", "subnets": "allowedIPs",
    "routes": "allowedIPs", "nat": "masquerade", "enabled": "disabled", "ifname": "interface", "src": "from",
    "source": "from", "dst": "to", "dest": "to", "destination": "to", "domain": "domains", "search": "domains",
    "expiry": "expires", "expiresat": "expires", "killswitch": "killSwitch",
]

/// Fields of other tools that have no twin here.
private let foreignFields: [String: String] = [
    "saveconfig": "leave it out: what is live never flows back into the topology",
    "enabled": "write `disabled: true` to switch a node off; without it a node is on",
    "name": "a node's name is the key that it stands under",
]
