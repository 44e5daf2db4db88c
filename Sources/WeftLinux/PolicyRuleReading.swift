// Reads policy rules: every attribute is accounted for, so that a rule of ours that was changed by hand is seen to be.

import CLinux
import Glibc
import Netlink
import WeftModel

/// A policy rule as the kernel tells of it.
struct LiveRule: Hashable {
    var family: IPAddress.Family
    var priority: UInt32 = 0
    /// FRA_PROTOCOL: who made it.
    var proto: UInt8 = 0
    /// FR_ACT_*
    var action: UInt8
    var table: UInt32
    /// Whether it is for the packets that do not match.
    var isInverted: Bool
    var mark: UInt32 = 0
    /// 0: the mark does not matter.
    var mask: UInt32 = 0
    /// Routes of at most this length do not count; nil: all do.
    var suppressedLength: UInt32?
    /// Where to; nil: anywhere.
    var destination: IPPrefix?
    /// All else, and the destination too, as `ip rule` prints it.
    var selectors: [String] = []
    /// The header's lengths and type of service, and the attributes as they came: with them a request means this rule.
    var lengths: (destination: UInt8, source: UInt8, service: UInt8)
    var attributes: [RawAttribute] = []

    struct RawAttribute: Hashable {
        var type: UInt16
        var bytes: [UInt8]
    }

    /// The same request would make both; the rest is read out of these.
    static func == (left: Self, right: Self) -> Bool {
        left.family == right.family && left.action == right.action && left.isInverted == right.isInverted
            && left.lengths == right.lengths && left.attributes == right.attributes
    }

    func hash(into hasher: inout Hasher) {
        hasher.combine(family)
        hasher.combine(attributes)
    }

    var isLookup: Bool { Int(action) == FR_ACT_TO_TBL }

    /// Whether packets that match go nowhere.
    var throwsAway: Bool { [FR_ACT_BLACKHOLE, FR_ACT_UNREACHABLE, FR_ACT_PROHIBIT].contains(Int(action)) }

    /// Whether packets with this mark, whatever else they are, may match; a rule for all but one mark is not meant.
    func concerns(mark wanted: UInt32) -> Bool {
        if mask == 0 || mark == 0 { return false }
        return isInverted ? mark == wanted : wanted & mask == mark & mask
    }

    func looks(inTable wanted: UInt32) -> Bool { isLookup && table == wanted }

    /// As one of the shapes that Weft makes; where it has anything besides, with its whole text.
    var rule: PolicyRule {
        let action: PolicyRule.Action
        let isExact: Bool
        var selectors = selectors
        // The kernel takes two for the same that are told apart only by being inverted, and one without a destination for
        // the same as one with any.
        if let destination, selectors.count == 1, table == Route.mainTable, mask == 0, suppressedLength == nil {
            selectors = []
            action = .lookupMain(to: destination)
            isExact = !isInverted
        } else if table == Route.mainTable, mask == .max, suppressedLength == nil {
            action = .lookupMainIfMarked(mark)
            isExact = !isInverted
        } else if table == Route.mainTable, mark == 0, mask == 0 {
            action = .lookupMainWithoutDefault
            isExact = !isInverted && suppressedLength == 0
        } else {
            action = .lookupUnlessMarked(mark: mark, table: table)
            isExact = isInverted && mask == MeshIdentity.mask(of: mark) && suppressedLength == nil
        }
        let isStrange = !isExact || !isLookup || !selectors.isEmpty
        return PolicyRule(family, priority: priority, action, strange: isStrange ? text : "")
    }

    /// As `ip rule` prints it: `10000: from all fwmark 0x5 lookup 77 proto static`.
    var description: String {
        "\(priority): \(text) proto \(Routes.protocolName(proto)) (\(family == .v4 ? "IPv4" : "IPv6"))"
    }

    /// As `ip rule` prints it, without its priority and who made it.
    var text: String {
        func those(_ names: String...) -> [String] {
            names.flatMap { name in selectors.filter { $0.hasPrefix("\(name) ") } }
        }
        let source = those("from")
        let first = those("to", "tos")
        let middle = those("iif", "oif", "uidrange", "ipproto", "sport", "dport", "tun_id")
        let last = those("suppress_ifgroup", "realms")
        let known = source + first + middle + last + those("goto") + [Self.devicesTable]
        var words = isInverted ? ["not"] : []
        words += (source.isEmpty ? ["from all"] : source) + first
        if mask != 0 {
            let masked = mask == .max ? "" : "/0x\(String(mask, radix: 16))"
            words.append("fwmark 0x\(String(mark, radix: 16))\(masked)")
        }
        words += middle + selectors.filter { !known.contains($0) }
        switch Int(action) {
        case FR_ACT_TO_TBL where selectors.contains(Self.devicesTable): words.append("lookup \(Self.devicesTable)")
        case FR_ACT_TO_TBL: words.append("lookup \(table == Route.mainTable ? "main" : String(table))")
        case FR_ACT_GOTO: words += those("goto")
        default: words.append(actionText)
        }
        if let suppressedLength { words.append("suppress_prefixlength \(suppressedLength)") }
        return (words + last).joined(separator: " ")
    }

    /// The table is that of the device's VRF.
    fileprivate static let devicesTable = "[l3mdev-table]"

    private var actionText: String {
        switch Int(action) {
        case FR_ACT_NOP: "nop"
        case FR_ACT_BLACKHOLE: "blackhole"
        case FR_ACT_UNREACHABLE: "unreachable"
        case FR_ACT_PROHIBIT: "prohibit"
        default: "action \(action)"
        }
    }
}

extension Attributes {
    fileprivate var isWholePort: Bool { payload.load(at: 0, as: UInt16.self) == .max }
}

/// Takes a dump of policy rules of both families, in the kernel's order.
struct PolicyRuleReading: MessageConsumer {
    var rules: [LiveRule] = []

    mutating func reset() { rules = [] }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(RTM_NEWRULE) else { return true }
        // struct fib_rule_hdr: family, two lengths, type of service, table, two reserved, action, flags.
        let header = message.payload
        guard let words = header.load(at: 0, as: UInt64.self).map({ UInt64(littleEndian: $0) }),
            let flags = header.load(at: 8, as: UInt32.self)
        else { return false }
        func byte(_ index: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: words >> (index * 8)) }
        // Multicast routing has rules too.
        guard let family = IPAddress.Family(number: byte(0)) else { return true }
        var rule = LiveRule(
            family: family, action: byte(7), table: UInt32(byte(4)),
            isInverted: flags & UInt32(FIB_RULE_INVERT) != 0,
            lengths: (destination: byte(1), source: byte(2), service: byte(3)))
        var attributes = Attributes(message.payload, from: MemoryLayout<fib_rule_hdr>.size)
        while attributes.next() { read(&attributes, into: &rule) }
        if byte(3) != 0 { rule.selectors.append("tos 0x\(String(byte(3), radix: 16))") }
        if attributes.isMalformed { return false }
        rules.append(rule)
        return true
    }

    private func read(_ attributes: inout Attributes, into rule: inout LiveRule) {
        let type = Int(attributes.type)
        if type != FRA_PAD {
            rule.attributes.append(
                LiveRule.RawAttribute(
                    type: attributes.type, bytes: unsafe attributes.payload.withUnsafeBytes { unsafe Array($0) }))
        }
        switch type {
        case FRA_PRIORITY: rule.priority = attributes.uint32()
        case FRA_PROTOCOL: rule.proto = attributes.uint8()
        case FRA_TABLE: rule.table = attributes.uint32()
        case FRA_FWMARK: rule.mark = attributes.uint32()
        case FRA_FWMASK: rule.mask = attributes.uint32()
        case FRA_SUPPRESS_PREFIXLEN:
            let length = attributes.uint32()
            rule.suppressedLength = length == .max ? nil : length
        // The masks of ports, from Linux 6.15: these are the whole port.
        case 28 where attributes.isWholePort, 29 where attributes.isWholePort: break
        case FRA_PAD: break
        case FRA_DST:
            let prefix = IPPrefix(attributes.address(rule.family), length: Int(rule.lengths.destination))
            rule.destination = prefix
            rule.selectors.append("to \(prefix)")
        default: rule.selectors.append(selector(type, &attributes, rule))
        }
    }

    /// What `ip rule` would print for an attribute that no rule of ours has.
    private func selector(_ type: Int, _ attributes: inout Attributes, _ rule: LiveRule) -> String {
        func range() -> String {
            let (low, high) = (attributes.load(at: 0, as: UInt16.self), attributes.load(at: 2, as: UInt16.self))
            return low == high ? "\(low)" : "\(low)-\(high)"
        }
        switch type {
        case FRA_SRC: return "from \(attributes.address(rule.family))/\(rule.lengths.source)"
        case FRA_IIFNAME: return "iif \(attributes.text())"
        case FRA_OIFNAME: return "oif \(attributes.text())"
        case FRA_GOTO: return "goto \(attributes.uint32())"
        case FRA_FLOW:
            let (source, target) = (attributes.load(at: 2, as: UInt16.self), attributes.load(at: 0, as: UInt16.self))
            return "realms \(source == 0 ? "" : "\(source)/")\(target)"
        case FRA_TUN_ID: return "tun_id \(UInt64(bigEndian: attributes.uint64()))"
        case FRA_SUPPRESS_IFGROUP: return "suppress_ifgroup \(attributes.uint32())"
        case FRA_L3MDEV: return LiveRule.devicesTable
        case FRA_UID_RANGE:
            return "uidrange \(attributes.load(at: 0, as: UInt32.self))-\(attributes.load(at: 4, as: UInt32.self))"
        case FRA_IP_PROTO:
            let number = attributes.uint8()
            return "ipproto \([1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp"][number] ?? "\(number)")"
        case FRA_SPORT_RANGE: return "sport \(range())"
        case FRA_DPORT_RANGE: return "dport \(range())"
        // What newer kernels have, and this program does not know.
        default: return "attribute \(type)"
        }
    }
}
