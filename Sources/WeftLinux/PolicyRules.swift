// Policy rules: ours carry protocol 119 and the mesh's numbers; those of others are never touched, and named where they
// use these numbers.

import CLinux
import Glibc
import Netlink
import WeftModel
import WeftPlan

/// Requests about the policy rules of one mesh.
struct PolicyRules {
    let channel: Channel
    let mesh: MeshIdentity
    /// What is wanted; empty where the mesh is to go, or has no full tunnel.
    let wanted: [PolicyRule]
    /// Where the routes of a mesh without a full tunnel stand; nil where it has one, or has no routes.
    var table: UInt32?

    // MARK: Reading

    /// Reads the rules that are ours, and those of others that use numbers of ours.
    func read() throws(DataplaneError) -> (ours: [PolicyRule], foreign: [ForeignObject]) {
        let (ours, others) = try sorted()
        var foreign: [ForeignObject] = []
        for other in others {
            var object = try obstacle(other) ?? round(other) ?? refusal(other)
            if object == nil { object = try tunnelInTable(other) }
            if object == nil { object = try bypass(other) }
            if let object { foreign.append(object) }
        }
        // In the order of a desired state: that of a dump is by priority, and the families apart.
        return (ours.map(\.rule).sorted { $0.key < $1.key }, foreign)
    }

    /// All live rules, ours and those of others.
    private func sorted() throws(DataplaneError) -> (ours: [LiveRule], others: [LiveRule]) {
        let rules = try dump()
        let candidates = rules.filter { $0.proto == MeshIdentity.protocolNumber && hasNumber($0) }
        if candidates.isEmpty { return ([], rules) }
        // A number may be another mesh's: by its interface's name, or because both topologies say the same.
        let rivals = Set(
            try ownMeshes(channel).lazy.filter { $0.interface != mesh.interface }.map(\.routingNumbers.priority))
        let ours = candidates.filter { candidate in
            let isRivals = rivals.contains(candidate.priority) || rivals.contains(candidate.priority &- 1)
            if !isRivals { return true }
            return priorities.contains(candidate.priority) && isOurs(candidate, among: candidates)
        }
        if ours.count == rules.count { return (ours, []) }
        let known = Set(ours)
        return (ours, rules.filter { !known.contains($0) })
    }

    /// All live rules of both families, in the kernel's order.
    func dump() throws(DataplaneError) -> [LiveRule] {
        var reading = PolicyRuleReading()
        do throws(NetlinkError) {
            try channel.dump(UInt16(RTM_GETRULE), into: &reading) { encoder in
                encoder.putRuleHeader(family: UInt8(AF_UNSPEC))
            }
        } catch {
            // A kernel without policy routing has no rules.
            if let errno = error.errno?.rawValue, errno == EOPNOTSUPP || errno == EAFNOSUPPORT { return [] }
            throw DataplaneError(error, Request(.readRules, "read rules"))
        }
        return reading.rules
    }

    // MARK: Whose they are

    private var numbers: RoutingNumbers { mesh.routingNumbers }

    private var priorities: Set<UInt32> {
        Set([numbers.priority, numbers.priority + 1] + wanted.map(\.key.priority))
    }

    /// The mark and the table of the tunnel's own rule, as it is wanted.
    private var tunnel: (mark: UInt32, table: UInt32)? {
        for rule in wanted {
            if case .lookupUnlessMarked(let mark, let table) = rule.key.action { return (mark, table) }
        }
        return nil
    }

    private func hasNumber(_ rule: LiveRule) -> Bool {
        priorities.contains(rule.priority) || tunnel.map { rule.mark == $0.mark || rule.table == $0.table } == true
    }

    /// Whether a rule is ours although another mesh has the same priorities: its mark and table tell, and for the rule
    /// without either the one that comes after it.
    private func isOurs(_ rule: LiveRule, among candidates: [LiveRule]) -> Bool {
        func tells(_ rule: LiveRule) -> Bool {
            rule.mark == numbers.mark || rule.table == numbers.table
                || tunnel.map { rule.mark == $0.mark || rule.table == $0.table } == true
        }
        if tells(rule) { return true }
        return rule.table == Route.mainTable
            && candidates.contains { $0.family == rule.family && $0.priority == rule.priority + 1 && tells($0) }
    }

    /// A rule of others that uses a number which the mesh needs for itself.
    private func obstacle(_ other: LiveRule) throws(DataplaneError) -> ForeignObject? {
        for rule in wanted where rule.key.family == other.family {
            var remedy: String?
            if case .lookupUnlessMarked(let mark, let table) = rule.key.action {
                if other.looks(inTable: table) {
                    remedy = "It looks into the table of this mesh's tunnel: set another `table:` for this node"
                } else if other.concerns(mark: mark) {
                    remedy = "It is for the mark of this mesh's tunnel: set another `fwMark:` for this node"
                }
            }
            if remedy == nil, rule.key.priority == other.priority {
                remedy =
                    "It has a priority of this mesh's own rules, which follow from the interface's name: give the mesh "
                    + "another `interface`"
            }
            if let remedy {
                return ForeignObject(
                    kind: "rule", description: other.description, relation: .takesNumber,
                    remedy: remedy + (try owner(of: other).map { ". It is \($0)." } ?? ", or take that rule away."))
            }
        }
        return nil
    }

    /// The rule of another mesh's full tunnel that leads into the table where this mesh's routes are to stand: they would take
    /// what is meant for that tunnel, which is not begun any more once they are there.
    private func tunnelInTable(_ other: LiveRule) throws(DataplaneError) -> ForeignObject? {
        guard let table, table != Route.mainTable, other.looks(inTable: table), other.isInverted,
            let owner = try owner(of: other)
        else { return nil }
        return ForeignObject(
            kind: "rule", description: other.description, relation: .takesNumber,
            remedy: "It leads into the table \(table), which is that full tunnel's alone: set another `table:` for "
                + "this node of the mesh \(mesh.mesh). It is \(owner).")
    }

    /// The mesh of weft's whose rule it is, in words; nil where it is none.
    private func owner(of other: LiveRule) throws(DataplaneError) -> String? {
        guard other.proto == MeshIdentity.protocolNumber else { return nil }
        // A mesh has a priority by its interface's name, and the next one.
        let owner = try ownMeshes(channel).first {
            $0.interface != mesh.interface && $0.routingNumbers.priority == other.priority & ~1
        }
        return "another mesh's" + (owner.map { ": of \($0.mesh) on \($0.interface)" } ?? "")
    }

    /// Another full tunnel's rule that takes this one's packets, while this one's rule takes those of the other.
    private func round(_ other: LiveRule) -> ForeignObject? {
        guard let tunnel, other.isLookup, other.table != Route.mainTable, other.isInverted, other.mask != 0,
            other.selectors.isEmpty
        else { return nil }
        let mask = MeshIdentity.mask(of: tunnel.mark)
        if (tunnel.mark ^ other.mark) & other.mask == 0 || (tunnel.mark ^ other.mark) & mask == 0 { return nil }
        var remedies: [String] = []
        if mask == .max { remedies.append("take `fwMark` out of this node") }
        if other.proto == MeshIdentity.protocolNumber {
            remedies.append("take `fwMark` out of the other mesh's node")
        } else {
            remedies.append("give the other tunnel one (wg-quick: `FwMark = 0x77000001`)")
        }
        return ForeignObject(
            kind: "rule", description: other.description, relation: .hinders,
            remedy: "Each of the two tunnels takes the other's packets, and none gets out. Tunnels whose marks begin "
                + "with 0x77 leave each other alone: \(remedies.joined(separator: ", and ")).")
    }

    /// A rule of others that stands before the tunnel's and throws packets away, whoever sent them: what is meant for the
    /// exit does not get there.
    private func refusal(_ other: LiveRule) -> ForeignObject? {
        guard tunnel != nil, other.proto != MeshIdentity.protocolNumber, other.priority < numbers.priority,
            other.throwsAway, other.mask == 0, !other.isInverted, other.selectors.allSatisfy({ $0.hasPrefix("to ") })
        else { return nil }
        let target = other.selectors.first.map { "what goes \($0)" } ?? "every packet"
        let (family, number) = (other.family == .v4 ? "" : "-6 ", numbers.priority + 1)
        return ForeignObject(
            kind: "rule", description: other.description, relation: .hinders,
            remedy: "It stands before this mesh's rules, and throws \(target) away before it gets to the exit. Take it "
                + "away (`ip \(family)rule del priority \(other.priority)`), or give it a priority after \(number).")
    }

    /// A rule of others that stands before the tunnel's and leads all packets to a default route of its own: nothing that
    /// is meant for the exit gets there.
    private func bypass(_ other: LiveRule) throws(DataplaneError) -> ForeignObject? {
        guard tunnel != nil, other.proto != MeshIdentity.protocolNumber, other.priority < numbers.priority,
            other.isLookup, other.table != UInt32(RT_TABLE_LOCAL.rawValue),
            other.mask == 0, other.selectors.isEmpty, !other.isInverted, other.suppressedLength == nil,
            try leadsAnywhere(other.family, other.table)
        else { return nil }
        let table = other.table == Route.mainTable ? "the main table" : "its table"
        return ForeignObject(
            kind: "rule", description: other.description, relation: .hinders,
            remedy: "It stands before this mesh's rules, and \(table) has a default route: what is meant for the exit "
                + "goes out there. Give it a priority after \(numbers.priority + 1), or make it for the packets "
                + "that it is meant for (`from`, `fwmark`).")
    }

    /// Whether a table has a default route, or halves of one.
    private func leadsAnywhere(_ family: IPAddress.Family, _ table: UInt32) throws(DataplaneError) -> Bool {
        var reading = RouteReading(interface: 0, unreachableMetric: 0, keeps: .all)
        do throws(NetlinkError) {
            try channel.dump(UInt16(RTM_GETROUTE), into: &reading) {
                $0.putRouteHeader(family: family.number, table: table)
            }
        } catch {
            // A table without routes does not exist.
            if case .refused(let errno, _) = error, errno.rawValue == ENOENT { return false }
            throw DataplaneError(error, Request(.readRoutes, "read routes"))
        }
        return reading.others.contains { $0.type == UInt8(RTN_UNICAST) && $0.route.prefix.length <= 1 }
    }

    // MARK: Changing

    func perform(_ operations: [PolicyRuleOperation]) -> [Outcome] {
        operations.map { operation in
            do throws(DataplaneError) {
                switch operation {
                case .add(let rule): return try add(rule)
                case .remove(let rule): return try remove(rule)
                }
            } catch {
                return .failed(error)
            }
        }
    }

    private func add(_ rule: PolicyRule) throws(DataplaneError) -> Outcome {
        do throws(NetlinkError) {
            try send(rule)
            return .done
        } catch {
            let request = Request(.addRule, "add rule \(rule.text)")
            guard error.errno?.rawValue == EEXIST else { throw DataplaneError(error, request) }
            let present = try sorted().ours.filter { $0.family == rule.key.family && $0.priority == rule.key.priority }
            if present.contains(where: { $0.rule == rule }) { return .already }
            // The kernel compares less than we do: whether a rule is inverted, for one. What stands there is ours, and wrong.
            guard let wrong = present.first(where: { $0.rule.key == rule.key }) else {
                throw DataplaneError(error, request)
            }
            try removeExactly(wrong)
            do throws(NetlinkError) { try send(rule) } catch { throw DataplaneError(error, request) }
            return .done
        }
    }

    private func remove(_ rule: PolicyRule) throws(DataplaneError) -> Outcome {
        guard let live = try sorted().ours.first(where: { $0.rule == rule }) else { return .already }
        return try removeExactly(live) ? .done : .already
    }

    /// Removes one rule and no other. What a request leaves open matches any rule, and the kernel takes the first: where
    /// that was another one of ours, it is put back, and the same is asked again.
    ///
    /// - Returns: false where it had gone.
    @discardableResult
    private func removeExactly(_ live: LiveRule) throws(DataplaneError) -> Bool {
        let request = Request(.removeRule, "remove rule \(live.rule.text)")
        var before = try sorted().ours
        for _ in 0..<8 {
            let count = before.count { $0 == live }
            if count == 0 { return false }
            do throws(NetlinkError) {
                try channel.request(UInt16(RTM_DELRULE)) { put(live, &$0) }
            } catch {
                if let errno = error.errno?.rawValue, errno == ESRCH || errno == ENOENT { return false }
                throw DataplaneError(error, request)
            }
            // Alone of its kind, nothing else can have been meant.
            if before.count == 1 { return true }
            let after = try sorted().ours
            if after.count(where: { $0 == live }) < count { return true }
            for lost in Set(before) where !after.contains(lost) {
                do throws(NetlinkError) {
                    try channel.request(UInt16(RTM_NEWRULE), flags: NLM_F_CREATE | NLM_F_EXCL) { put(lost, &$0) }
                } catch {
                    throw DataplaneError(error, Request(.addRule, "put back rule \(lost.rule.text)"))
                }
            }
            before = try sorted().ours
        }
        throw DataplaneError(
            .inconsistent, "something else changes the same rules; try again", operation: request.text)
    }

    private func send(_ rule: PolicyRule) throws(NetlinkError) {
        try channel.request(UInt16(RTM_NEWRULE), flags: NLM_F_CREATE | NLM_F_EXCL) { encoder in
            var table = Route.mainTable
            var isInverted = false
            var destination: IPPrefix?
            switch rule.key.action {
            case .lookupMainWithoutDefault, .lookupMainIfMarked: break
            case .lookupMain(let prefix): destination = prefix
            case .lookupUnlessMarked(_, let number): (table, isInverted) = (number, true)
            }
            encoder.putRuleHeader(
                family: rule.key.family.number, lengths: (destination?.length ?? 0, 0, 0), table: table,
                action: UInt8(FR_ACT_TO_TBL), isInverted: isInverted)
            encoder.attribute(UInt16(FRA_PRIORITY), rule.key.priority)
            encoder.attribute(UInt16(FRA_TABLE), table)
            encoder.attribute(UInt16(FRA_PROTOCOL), MeshIdentity.protocolNumber)
            switch rule.key.action {
            case .lookupMain(let prefix): encoder.attribute(UInt16(FRA_DST), prefix.address)
            case .lookupMainWithoutDefault: encoder.attribute(UInt16(FRA_SUPPRESS_PREFIXLEN), UInt32(0))
            case .lookupMainIfMarked(let mark): encoder.attribute(UInt16(FRA_FWMARK), mark)
            case .lookupUnlessMarked(let mark, _):
                encoder.attribute(UInt16(FRA_FWMARK), mark)
                encoder.attribute(UInt16(FRA_FWMASK), MeshIdentity.mask(of: mark))
            }
        }
    }

    /// The very rule that was read.
    private func put(_ live: LiveRule, _ encoder: inout Encoder) {
        encoder.putRuleHeader(
            family: live.family.number, lengths: live.lengths, table: live.table, action: live.action,
            isInverted: live.isInverted)
        for attribute in live.attributes { encoder.attribute(attribute.type, bytes: unsafe attribute.bytes.span.bytes) }
    }
}

extension PolicyRule {
    /// The tunnel's own table; nil for the rules that look into the main one.
    var table: UInt32? {
        if case .lookupUnlessMarked(_, let table) = key.action { table } else { nil }
    }

    /// As `ip rule` takes it.
    var text: String { "\(key.priority) \(words)\(key.family == .v6 ? " (IPv6)" : "")" }
}

extension Encoder {
    /// The header of RTM_*RULE (struct fib_rule_hdr).
    mutating func putRuleHeader(
        family: UInt8, lengths: (destination: UInt8, source: UInt8, service: UInt8) = (0, 0, 0), table: UInt32 = 0,
        action: UInt8 = 0, isInverted: Bool = false
    ) {
        put(family)
        put(lengths.destination)
        put(lengths.source)
        put(lengths.service)
        put(table < 256 ? UInt8(table) : UInt8(RT_TABLE_UNSPEC.rawValue))
        put(UInt16(0))
        put(action)
        put(isInverted ? UInt32(FIB_RULE_INVERT) : 0)
    }
}
