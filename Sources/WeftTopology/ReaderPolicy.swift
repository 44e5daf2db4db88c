// The sections `groups:`, `links:`, `access:` and `tests:`.

import WeftDiagnostics
import WeftModel
import YAML

extension Reader {
    mutating func readGroups(_ section: Section) {
        enter(section)
        guard !isEmpty(section), isMapping(section.value, "`groups`") else { return }
        for (key, value) in tree.pairs(section.value) {
            guard tree.kind(key) == .scalar else { continue }
            let name = name(key, "a group's name")
            var members: [Located<String>] = []
            for item in list(value, "a group") {
                if let member = self.name(item, "a member's name") { members.append(member) }
            }
            if let name { draft.groups.append(Group(name: name, members: members)) }
        }
    }

    mutating func readLinks(_ section: Section) {
        enter(section)
        guard !isEmpty(section) else { return }
        for item in list(section.value, "`links`", ofValues: false) {
            guard isMapping(item, "a link") else { continue }
            if let link = link(item) { draft.links.append(link) }
        }
    }

    private mutating func link(_ id: YAMLTree.ID) -> PairLink? {
        var between: [Located<String>] = []
        var betweenPlace: SourceRange?
        var endpoints: [String: Located<NodeEndpoint>] = [:]
        var names: [Located<String>] = []
        var keepalive: UInt16?
        let problemsBefore = problems.total
        var isComplete = true
        for (key, value) in tree.pairs(id) {
            guard let field = field(key, value, in: linkFields) else { continue }
            switch field {
            case .between:
                betweenPlace = tree.place(value)
                for item in list(value, "`between`") {
                    if let name = name(item, "a node's name") { between.append(name) } else { isComplete = false }
                }
                if tree.kind(value) == .sequence, tree.count(value) != 2 {
                    problems.error(
                        "topology.link", "`between` names two nodes, not \(tree.count(value))", at: tree.place(value))
                }
            case .endpoints:
                guard isMapping(value, "`endpoints`") else { continue }
                for (key, value) in tree.pairs(value) {
                    guard tree.kind(key) == .scalar else { continue }
                    let name = name(key, "a node's name")
                    let endpoint = endpoint(value, "an endpoint")
                    guard let name else { continue }
                    if let endpoint { endpoints[name.value] = endpoint }
                    names.append(name)
                }
            case .persistentKeepalive: keepalive = self.keepalive(value)
            }
        }
        guard betweenPlace != nil else {
            problems.error(
                "topology.missing-field", "a link has no `between`", at: start(id),
                notes: [Diagnostic.Note("`between: [fra, ams]` names the two nodes")])
            return nil
        }
        guard isComplete, between.count == 2 else { return nil }
        if !names.isEmpty { draft.linkEndpointNames[draft.links.count] = names }
        if problems.total > problemsBefore { draft.faultyLinks.insert(draft.links.count) }
        return PairLink(
            place: start(id), between: (between[0], between[1]), endpoints: endpoints, persistentKeepalive: keepalive)
    }

    /// The first line of a mapping: what a message about the whole points at.
    private func start(_ id: YAMLTree.ID) -> SourceRange {
        for (key, _) in tree.pairs(id) { return tree.place(key) }
        return tree.place(id)
    }

    mutating func readAccess(_ section: Section) {
        enter(section)
        guard !isEmpty(section) else {
            problems.error(
                "topology.empty-access", "`access` is empty, and it is not said whether all or nothing is meant",
                at: tree.place(section.key),
                notes: [Diagnostic.Note("`access: []` refuses everything; without the section everything is allowed")])
            return
        }
        for item in list(section.value, "`access`", ofValues: false) {
            guard isMapping(item, "an access rule") else { continue }
            var rule = AccessRule(place: start(item), from: [], to: [], ports: [])
            var given: Set<AccessField> = []
            for (key, value) in tree.pairs(item) {
                guard let field = field(key, value, in: accessFields) else { continue }
                given.insert(field)
                switch field {
                case .from: rule.from = subjects(value, "`from`")
                case .to: rule.to = subjects(value, "`to`")
                case .ports:
                    for item in list(value, "`ports`") {
                        if let port = accessPort(item) { rule.ports.append(port) }
                    }
                    if tree.kind(value) == .sequence, tree.count(value) == 0 {
                        problems.error(
                            "topology.empty-list", "`ports` is empty: leave it out to allow all ports",
                            at: tree.place(value))
                    }
                }
            }
            for field in [AccessField.from, .to] where !given.contains(field) {
                problems.error(
                    "topology.missing-field", "an access rule has no `\(field.rawValue)`", at: rule.place)
            }
            draft.access?.append(rule)
        }
    }

    private mutating func subjects(_ id: YAMLTree.ID, _ what: String) -> [Located<AccessSubject>] {
        var result: [Located<AccessSubject>] = []
        for item in list(id, what) {
            if let subject = subject(item, "an entry of \(what)") { result.append(subject) }
        }
        if tree.kind(id) == .sequence, tree.count(id) == 0 {
            problems.error("topology.empty-list", "\(what) is empty: the rule would match nothing", at: tree.place(id))
        }
        return result
    }

    /// A node, a group, a network, or `internet`.
    private mutating func subject(_ id: YAMLTree.ID, _ what: String) -> Located<AccessSubject>? {
        let place = tree.place(id)
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            wrongType(what, "the name of a node or a group, or a network", id)
            return nil
        }
        let text = tree.string(id)
        if text == "internet" { return Located(.internet, at: place) }
        if text == "*" {
            problems.error("topology.access", "\"*\" is not a word here: name a group, a node, or a network", at: place)
            return nil
        }
        if text.contains("/") || text.contains(":") || fourPartsReason(text) == nil && IPAddress(text) != nil
            || text.filter({ $0 == "." }).count == 3 && fourPartsReason(text) != nil
        {
            return prefix(id, what).map { prefix in Located(.prefix(prefix.value), at: place) }
        }
        return name(id, what).map { Located(.named($0.value), at: place) }
    }

    /// `tcp/22`, `udp/5000-6000`, `icmp`.
    private mutating func accessPort(_ id: YAMLTree.ID) -> Located<AccessPort>? {
        let what = "a port"
        let expected = "tcp/22, udp/5000-6000 or icmp"
        let place = tree.place(id)
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            wrongType(what, expected, id)
            return nil
        }
        let text = tree.string(id)
        func refuse(_ message: String, _ fixIts: [Diagnostic.FixIt] = []) {
            problems.error("topology.port", message, at: place, fixIts: fixIts)
        }
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let protocolName = parts[0]
        if isKeyShaped(id) {
            wrongType(what, expected, id)
            return nil
        }
        if portRange(protocolName) != nil {
            // `22` and `22/tcp`
            let named = parts.count == 2 && (parts[1] == "tcp" || parts[1] == "udp") ? [parts[1]] : ["tcp", "udp"]
            refuse(
                "a port is written after its protocol, as \(named[0])/\(protocolName)",
                named.map { replace(id, with: "\($0)/\(protocolName)") })
            return nil
        }
        switch protocolName {
        case "icmp":
            guard parts.count == 1 else {
                refuse("icmp has no ports", [replace(id, with: "icmp")])
                return nil
            }
            return Located(.icmp, at: place)
        case "icmpv6", "icmp6", "ipv6-icmp":
            refuse("`icmp` stands for both families", [replace(id, with: "icmp")])
            return nil
        case "tcp", "udp":
            guard parts.count == 2 else {
                refuse(
                    "\(protocolName) needs its ports, as \(protocolName)/22",
                    [replace(id, with: "\(protocolName)/1-65535")])
                return nil
            }
            guard let range = portRange(parts[1]) else {
                refuse("\"\(shown(parts[1]))\" is not a port or a range of ports: ports are 1 to 65535")
                return nil
            }
            guard range.0 <= range.1 else {
                refuse(
                    "the range \(shown(parts[1])) ends before it begins",
                    [replace(id, with: "\(protocolName)/\(range.1)-\(range.0)")])
                return nil
            }
            return Located(protocolName == "tcp" ? .tcp(range.0...range.1) : .udp(range.0...range.1), at: place)
        default:
            if let known = nearest(to: protocolName, among: ["tcp", "udp", "icmp"]) {
                let fixed = parts.count == 2 && known != "icmp" ? "\(known)/\(parts[1])" : known
                refuse("unknown protocol \"\(shown(protocolName))\"", [replace(id, with: fixed)])
            } else {
                refuse("unknown protocol \"\(shown(protocolName))\": write \(expected)")
            }
            return nil
        }
    }

    private func portRange(_ text: String) -> (UInt16, UInt16)? {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count) else { return nil }
        var ports: [UInt16] = []
        for part in parts {
            guard let port = UInt16(part), port > 0, String(port) == part else { return nil }
            ports.append(port)
        }
        return (ports[0], ports[ports.count - 1])
    }

    mutating func readTests(_ section: Section) {
        enter(section)
        guard !isEmpty(section) else { return }
        for item in list(section.value, "`tests`", ofValues: false) {
            guard isMapping(item, "a test") else { continue }
            readTest(item)
        }
    }

    private mutating func readTest(_ id: YAMLTree.ID) {
        var from: Located<AccessSubject>?
        var to: Located<AccessSubject>?
        var port: Located<AccessPort>?
        var expect: PolicyTest.Expectation?
        var given: Set<TestField> = []
        for (key, value) in tree.pairs(id) {
            guard let field = field(key, value, in: testFields) else { continue }
            given.insert(field)
            switch field {
            case .from: from = subject(value, "`from`")
            case .to: to = subject(value, "`to`")
            case .port:
                port = accessPort(value)
                switch port?.value {
                case .tcp(let range) where range.count > 1, .udp(let range) where range.count > 1:
                    problems.error("topology.port", "a test is about one port, not a range", at: tree.place(value))
                default: break
                }
            case .expect:
                guard tree.kind(value) == .scalar, !tree.isNull(value) else {
                    wrongType("`expect`", "allow or deny", value)
                    continue
                }
                expect = PolicyTest.Expectation(rawValue: tree.string(value))
                if expect == nil { wrongChoice("`expect`", PolicyTest.Expectation.allCases.map(\.rawValue), value) }
            }
        }
        let place = start(id)
        for field in [TestField.from, .to, .expect] where !given.contains(field) {
            problems.error("topology.missing-field", "a test has no `\(field.rawValue)`", at: place)
        }
        guard let from, let to, let expect else { return }
        draft.tests.append(PolicyTest(place: place, from: from, to: to, port: port, expect: expect))
    }
}
