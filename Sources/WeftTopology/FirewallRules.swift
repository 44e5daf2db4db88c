// The words that Weft's rules are written in: each is a condition or an action, and knows its nf_tables expressions.

import WeftModel

/// A condition that a packet meets, or what is done with one that has met all before it.
struct RulePart: Sendable {
    var expressions: [FirewallExpression]

    init(_ expressions: FirewallExpression...) { self.expressions = expressions }
}

extension FirewallRule {
    /// A rule of parts, in their order.
    init(_ parts: [RulePart], comment: String = "") {
        self.init(parts.flatMap(\.expressions), comment: comment)
    }

    init(_ parts: RulePart..., comment: String = "") { self.init(parts, comment: comment) }
}

// MARK: - Conditions

extension RulePart {
    static func inputInterface(is name: String) -> RulePart {
        RulePart(.meta(.inputInterface), .compare(.equal, padded(name)))
    }

    static func inputInterface(isNot name: String) -> RulePart {
        RulePart(.meta(.inputInterface), .compare(.notEqual, padded(name)))
    }

    static func outputInterface(is name: String) -> RulePart {
        RulePart(.meta(.outputInterface), .compare(.equal, padded(name)))
    }

    static func outputInterface(isNot name: String) -> RulePart {
        RulePart(.meta(.outputInterface), .compare(.notEqual, padded(name)))
    }

    /// Before whatever reads addresses: the two families have them in different places.
    static func family(_ family: IPAddress.Family) -> RulePart {
        RulePart(.meta(.family), .compare(.equal, [family == .v4 ? nfprotoIPv4 : nfprotoIPv6]))
    }

    static func transport(_ transport: Transport) -> RulePart {
        RulePart(.meta(.transport), .compare(.equal, [transport.rawValue]))
    }

    /// After `transport(.udp)` or `transport(.tcp)`.
    static func sourcePort(is port: UInt16) -> RulePart {
        RulePart(.payload(.transport, offset: 0, length: 2), .compare(.equal, networkOrder(port)))
    }

    /// After `transport(.udp)` or `transport(.tcp)`.
    static func destinationPort(is port: UInt16) -> RulePart {
        RulePart(.payload(.transport, offset: 2, length: 2), .compare(.equal, networkOrder(port)))
    }

    /// After `transport(.icmpv6)`.
    static func messageType(is type: UInt8) -> RulePart {
        RulePart(.payload(.transport, offset: 0, length: 1), .compare(.equal, [type]))
    }

    /// The first segment of a TCP connection in either direction, after `transport(.tcp)`.
    static let opensConnection = RulePart(
        .payload(.transport, offset: 13, length: 1), .bitwise(mask: [tcpSyn | tcpRst]), .compare(.equal, [tcpSyn]))

    static func source(in set: String, _ family: IPAddress.Family) -> RulePart {
        RulePart(address(.source, family), .lookup(set: set))
    }

    static func source(notIn set: String, _ family: IPAddress.Family) -> RulePart {
        RulePart(address(.source, family), .lookup(set: set, isInverted: true))
    }

    static func destination(in set: String, _ family: IPAddress.Family) -> RulePart {
        RulePart(address(.destination, family), .lookup(set: set))
    }

    static func destination(notIn set: String, _ family: IPAddress.Family) -> RulePart {
        RulePart(address(.destination, family), .lookup(set: set, isInverted: true))
    }

    static func destination(is address: IPAddress) -> RulePart {
        RulePart(self.address(.destination, address.family), .compare(.equal, networkOrder(address)))
    }

    static func destination(within prefix: IPPrefix) -> RulePart {
        var part = RulePart(address(.destination, prefix.family))
        if !prefix.isHost {
            let ones = prefix.family == .v4 ? IPAddress(v4: .max) : IPAddress(v6: .max, .max)
            part.expressions.append(.bitwise(mask: networkOrder(ones.masked(to: Int(prefix.length)))))
        }
        part.expressions.append(.compare(.equal, networkOrder(prefix.address)))
        return part
    }

    /// The source is not an address of this host.
    static let sourceIsNotLocal = RulePart(.addressType(.source), .compare(.notEqual, hostOrder(routeTypeLocal)))

    static func mark(is mark: UInt32) -> RulePart {
        RulePart(.meta(.mark), .compare(.equal, hostOrder(mark)))
    }

    static func mark(isNot mark: UInt32) -> RulePart {
        RulePart(.meta(.mark), .compare(.notEqual, hostOrder(mark)))
    }

    static func connectionMark(is mark: UInt32) -> RulePart {
        RulePart(.conntrack(.mark), .compare(.equal, hostOrder(mark)))
    }

    /// Packets of the side that opened the flow. A packet that belongs to no flow is of no side.
    static let originalDirection = RulePart(.conntrack(.direction), .compare(.equal, [0]))
    /// Packets of the side that did not open the flow.
    static let replyDirection = RulePart(.conntrack(.direction), .compare(.equal, [1]))

    /// This host's NAT leads the packet's flow elsewhere than its opener sent it.
    static let destinationIsTranslated = RulePart(
        .conntrack(.status), .bitwise(mask: hostOrder(destinationTranslated)), .compare(.notEqual, hostOrder(0)))
    static let destinationIsNotTranslated = RulePart(
        .conntrack(.status), .bitwise(mask: hostOrder(destinationTranslated)), .compare(.equal, hostOrder(0)))

    /// Not of a flow, but about one.
    static let isRelated = RulePart(
        .conntrack(.state), .bitwise(mask: hostOrder(relatedState)), .compare(.notEqual, hostOrder(0)))

    static func opener(is address: IPAddress) -> RulePart {
        RulePart(
            .tuple(.original, address.family == .v4 ? .source4 : .source6), .compare(.equal, networkOrder(address)))
    }

    /// Whoever opened the flow, as it was before any NAT, is not in the set.
    static func opener(notIn set: String, _ family: IPAddress.Family) -> RulePart {
        RulePart(.tuple(.original, family == .v4 ? .source4 : .source6), .lookup(set: set, isInverted: true))
    }
}

// MARK: - Actions

extension RulePart {
    static let counted = RulePart(.counter)
    static func counted(by name: String) -> RulePart { RulePart(.countBy(name)) }
    static let accepted = RulePart(.verdict(.accept))
    static let dropped = RulePart(.verdict(.drop))
    /// The sender is told: by ICMP, that it is prohibited.
    static let refused = RulePart(.reject(.prohibited))
    static let masqueraded = RulePart(.masquerade)

    static func jump(to chain: String) -> RulePart { RulePart(.verdict(.jump(chain))) }
    static func goto(chain: String) -> RulePart { RulePart(.verdict(.goto(chain))) }

    /// The packet gets its connection's mark.
    static let markedAsConnection = RulePart(.conntrack(.mark), .setMeta(.mark))
    /// The connection gets the packet's mark.
    static let connectionMarked = RulePart(.meta(.mark), .setConntrack(.mark))
    /// The other side is told to send no larger segments than the route out can carry.
    static let segmentsClamped = RulePart(.routeTCPMSS(), .byteOrder16(), .writeTCPMSS())
}

// MARK: - Bytes

extension RulePart {
    /// Protocol numbers, as IANA has them.
    enum Transport: UInt8 {
        case icmp = 1
        case tcp = 6
        case udp = 17
        case icmpv6 = 58
    }

    // NFPROTO_IPV4 and NFPROTO_IPV6.
    private static let nfprotoIPv4: UInt8 = 2
    private static let nfprotoIPv6: UInt8 = 10
    /// RTN_LOCAL.
    private static let routeTypeLocal: UInt32 = 2
    /// NF_CT_STATE_BIT(IP_CT_RELATED).
    private static let relatedState: UInt32 = 4
    /// IPS_DST_NAT.
    private static let destinationTranslated: UInt32 = 0x20
    private static let tcpSyn: UInt8 = 2
    private static let tcpRst: UInt8 = 4

    private static func address(
        _ side: FirewallExpression.AddressSide, _ family: IPAddress.Family
    ) -> FirewallExpression {
        let length = UInt32(family.bitWidth / 8)
        let source: UInt32 = family == .v4 ? 12 : 8
        return .payload(.network, offset: side == .source ? source : source + length, length: length)
    }

    /// A name as the kernel compares it: 16 bytes, filled with zeros.
    private static func padded(_ name: String) -> [UInt8] {
        let bytes = Array(name.utf8.prefix(15))
        return bytes + [UInt8](repeating: 0, count: 16 - bytes.count)
    }

    /// As a register holds a number of this machine.
    private static func hostOrder(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

    private static func networkOrder(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xFF)] }

    private static func networkOrder(_ address: IPAddress) -> [UInt8] {
        let words = address.family == .v4 ? [address.low << 32] : [address.high, address.low]
        let bytes = words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(56 - 8 * $0)) } }
        return Array(bytes.prefix(address.family.bitWidth / 8))
    }
}
