// The packets of a mesh as other programs' rules see them: what is known of them, and which conditions they meet.

import CLinux
import Netlink
import WeftModel

/// How far packets meet a condition. Of several conditions the least counts.
enum NeighbourMatch: Int, Comparable {
    case never
    /// Some of them do, and the others do not: a port, a protocol.
    case partly
    /// A condition that picks out a few of all packets, such as an address: perhaps these.
    case perhaps
    /// It cannot be told, and all of them may.
    case unknown
    case always

    static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

    /// Where the condition is turned round.
    var inverted: NeighbourMatch {
        switch self {
        case .never: .always
        case .always: .never
        case .partly, .perhaps, .unknown: .unknown
        }
    }

    init(_ holds: Bool) { self = holds ? .always : .never }
}

/// Packets of one kind, of one family, that a mesh needs to get through.
struct NeighbourPacket {
    enum Interface {
        case none, ours
        /// Neither ours nor `lo`; which one is not known.
        case other
    }

    var family: IPAddress.Family
    var input = Interface.none
    var output = Interface.none
    var isForThisHost = false
    /// Nil: of any protocol.
    var transport: UInt8?
    /// Nil: any port.
    var sourcePort: UInt16?
    var destinationPort: UInt16?
    /// NF_CT_STATE_BIT: new where it is not said.
    var state = Self.new
    /// Nil: it cannot be told.
    var mark: UInt32? = 0
    /// Nil: any address.
    var sources: [IPPrefix]?
    var destinations: [IPPrefix]?

    static let established: UInt32 = 2
    static let new: UInt32 = 8
    static let udp: UInt8 = 17
}

/// What packets have in a place that a rule looks at.
enum NeighbourValue {
    /// All of these numbers, of so many bytes, and no others.
    case numbers([ClosedRange<UInt128>], size: Int)
    /// The name of an interface that is neither ours nor one that a rule names for another reason.
    case otherName
    case otherIndex
    /// A few of them have any given value.
    case part
    /// It is not known what they have.
    case any

    /// One number, of bytes as they lie in memory.
    init(bytes: [UInt8]) {
        let number = UInt128(networkOrder: bytes)
        self = .numbers([number...number], size: bytes.count)
    }

    init(host value: UInt32) { self.init(bytes: value.bytesInMemory) }
}

/// Judges conditions for one kind of packets.
struct NeighbourJudge {
    var packet: NeighbourPacket
    var interface: String
    /// Of our link; 0 where there is none.
    var index: UInt32
    /// Interfaces that these packets have nothing to do with, besides `lo` and ours.
    var uninvolved: Set<String> = []

    // MARK: What a place holds

    func value(of field: NeighbourField) -> NeighbourValue {
        switch field {
        case .inputName: name(packet.input)
        case .outputName: name(packet.output)
        case .inputIndex: index(packet.input)
        case .outputIndex: index(packet.output)
        case .family: NeighbourValue(bytes: [UInt8(packet.family == .v4 ? NFPROTO_IPV4 : NFPROTO_IPV6)])
        // ETH_P_IP, ETH_P_IPV6.
        case .protocolType: NeighbourValue(bytes: packet.family == .v4 ? [0x08, 0x00] : [0x86, 0xDD])
        case .transport: packet.transport.map { NeighbourValue(bytes: [$0]) } ?? .part
        case .mark: packet.mark.map { NeighbourValue(host: $0) } ?? .any
        case .state: NeighbourValue(host: packet.state)
        case .network(let offset, let length): network(offset, length)
        case .header(let offset, let length): header(offset, length)
        // The way back leads where the packet came from: the mesh's own routes see to that.
        case .reversePath: .numbers([1...UInt128(UInt32.max)], size: 4)
        case .sourceType: NeighbourValue(host: UInt32(sourceType))
        case .destinationType: NeighbourValue(host: UInt32(destinationType))
        case .part: .part
        case .any: .any
        }
    }

    /// What comes from no interface is this host's own, and what goes to none is for it.
    private var sourceType: Int { packet.input == .none ? RTN_LOCAL : RTN_UNICAST }
    private var destinationType: Int { packet.isForThisHost ? RTN_LOCAL : RTN_UNICAST }

    private func name(_ interface: NeighbourPacket.Interface) -> NeighbourValue {
        switch interface {
        case .none: NeighbourValue(bytes: [UInt8](repeating: 0, count: 16))
        case .ours: NeighbourValue(bytes: padded(self.interface))
        case .other: .otherName
        }
    }

    private func index(_ interface: NeighbourPacket.Interface) -> NeighbourValue {
        switch interface {
        case .none: NeighbourValue(host: 0)
        case .ours: NeighbourValue(host: index)
        case .other: .otherIndex
        }
    }

    private func padded(_ name: String) -> [UInt8] {
        Array((Array(name.utf8) + [UInt8](repeating: 0, count: 16)).prefix(16))
    }

    private func network(_ offset: UInt32, _ length: UInt32) -> NeighbourValue {
        let size: UInt32 = packet.family == .v4 ? 4 : 16
        let source: UInt32 = packet.family == .v4 ? 12 : 8
        if offset == (packet.family == .v4 ? 9 : 6), length == 1 { return value(of: .transport) }
        // Of addresses, iptables loads only as many bytes as it needs.
        guard length > 0, length <= size, offset == source || offset == source + size else { return .part }
        guard let prefixes = offset == source ? packet.sources : packet.destinations else { return .any }
        let cut = UInt128(8 * (size - length))
        let ranges = prefixes.lazy.filter { $0.family == packet.family }.map { prefix in
            let range = prefix.numbers
            return range.lowerBound >> cut...range.upperBound >> cut
        }
        return ranges.isEmpty ? .any : .numbers(Array(ranges), size: Int(length))
    }

    private func header(_ offset: UInt32, _ length: UInt32) -> NeighbourValue {
        guard packet.transport != nil, length == 2, offset == 0 || offset == 2 else { return .part }
        guard let port = offset == 0 ? packet.sourcePort : packet.destinationPort else { return .any }
        return NeighbourValue(bytes: [UInt8(port >> 8), UInt8(port & 0xFF)])
    }

    // MARK: Conditions

    /// Whether what is there lies within the given keys. Fewer bytes than there are compare with the first of them.
    func lies(_ value: NeighbourValue, in keys: [ClosedRange<UInt128>], size keySize: Int) -> NeighbourMatch {
        switch value {
        case .part: return .partly
        case .any: return .perhaps
        case .otherName, .otherIndex:
            // Among names that it does not have it is not; any other may be its own.
            let isNone = keys.allSatisfy {
                $0.lowerBound == $0.upperBound && isUninvolved($0.lowerBound, value, keySize)
            }
            return isNone ? .never : .unknown
        case .numbers(let ranges, let size):
            guard keySize <= size else { return .perhaps }
            let cut = UInt128(8 * (size - keySize))
            var (inside, outside) = (false, false)
            for range in ranges {
                let (low, high) = (range.lowerBound >> cut, range.upperBound >> cut)
                if keys.contains(where: { $0.lowerBound <= low && high <= $0.upperBound }) {
                    inside = true
                } else if keys.contains(where: { $0.lowerBound <= high && low <= $0.upperBound }) {
                    return .unknown
                } else {
                    outside = true
                }
            }
            return inside && outside ? .unknown : NeighbourMatch(inside)
        }
    }

    private func isUninvolved(_ key: UInt128, _ value: NeighbourValue, _ size: Int) -> Bool {
        if case .otherIndex = value {
            return [1, index].contains { UInt128(networkOrder: $0.bytesInMemory) == key }
        }
        return (uninvolved.union(["lo", interface])).contains { name in
            let bytes = Array(name.utf8)
            // With its end; without, it begins other names too.
            return size > bytes.count && UInt128(networkOrder: padded(name).prefix(size)) == key
        }
    }

    func compares(_ value: NeighbourValue, _ comparison: UInt32, _ bytes: [UInt8], mask: UInt128?) -> NeighbourMatch {
        let key = UInt128(networkOrder: bytes)
        let last = UInt128.last(ofBytes: bytes.count)
        if let mask { return masked(value, mask, key, comparison, size: bytes.count) }
        func lies(_ keys: ClosedRange<UInt128>...) -> NeighbourMatch { self.lies(value, in: keys, size: bytes.count) }
        return switch nft_cmp_ops(rawValue: comparison) {
        case NFT_CMP_EQ: lies(key...key)
        case NFT_CMP_NEQ: lies(key...key).inverted
        case NFT_CMP_LT: key == 0 ? .never : lies(0...key - 1)
        case NFT_CMP_LTE: lies(0...key)
        case NFT_CMP_GT: key == last ? .never : lies(key + 1...last)
        case NFT_CMP_GTE: lies(key...last)
        default: .unknown
        }
    }

    /// What is there is compared bit by bit: one number, or addresses by their first bits.
    private func masked(
        _ value: NeighbourValue, _ mask: UInt128, _ key: UInt128, _ comparison: UInt32, size: Int
    ) -> NeighbourMatch {
        let match: NeighbourMatch
        switch value {
        case .numbers(let ranges, _) where ranges.count == 1 && ranges[0].lowerBound == ranges[0].upperBound:
            match = NeighbourMatch(ranges[0].lowerBound & mask == key)
        case .numbers:
            let rest = UInt128.last(ofBytes: size) & ~mask
            match = rest & (rest &+ 1) == 0 ? lies(value, in: [key...(key | rest)], size: size) : .unknown
        case .otherName, .otherIndex: match = .unknown
        // That a bit is set is asked as: not 0.
        case .part: return (comparison == NFT_CMP_EQ.rawValue) != (key == 0) ? .partly : .unknown
        case .any: return (comparison == NFT_CMP_EQ.rawValue) != (key == 0) ? .perhaps : .unknown
        }
        return comparison == NFT_CMP_EQ.rawValue ? match : match.inverted
    }

    // MARK: Matches of iptables

    /// By the match's structure (linux/netfilter/xt_*.h), as it lies in memory.
    func meets(_ match: String, _ info: [UInt8]) -> NeighbourMatch {
        func half(_ offset: Int) -> UInt16 {
            offset + 2 <= info.count ? UInt16(info[offset]) | UInt16(info[offset + 1]) << 8 : 0
        }
        func word(_ offset: Int) -> UInt32 { UInt32(half(offset)) | UInt32(half(offset + 2)) << 16 }
        switch match {
        case "comment": return .always
        // struct xt_state_info.
        case "state": return NeighbourMatch(word(0) & packet.state != 0)
        case "conntrack":
            // struct xt_conntrack_mtinfo3: flags, those that are turned round, states. XT_CONNTRACK_STATE is the first flag.
            guard half(146) == 1 else { return half(146) & ~half(148) != 0 ? .partly : .unknown }
            let isMet = NeighbourMatch(UInt32(half(150)) & packet.state != 0)
            return half(148) & 1 != 0 ? isMet.inverted : isMet
        // struct xt_mark_mtinfo1.
        case "mark":
            guard let mark = packet.mark, info.count > 8 else { return .perhaps }
            return NeighbourMatch((mark & word(4) == word(0)) != (info[8] != 0))
        // struct xt_udp, and the beginning of struct xt_tcp: from and to of either port, then what is turned round.
        case "udp":
            guard info.count > 8 else { return .unknown }
            return min(
                port(packet.sourcePort, half(0), half(2), isInverted: info[8] & 1 != 0),
                port(packet.destinationPort, half(4), half(6), isInverted: info[8] & 2 != 0))
        case "multiport": return multiport(info)
        case "tcp", "icmp", "icmp6", "sctp", "dccp", "esp", "ah", "tcpmss", "policy", "frag", "helper": return .partly
        // struct xt_rpfilter_info: the way back is as it should be, by the mesh's own routes.
        case "rpfilter": return NeighbourMatch((info.first ?? 0) & 8 == 0)
        // struct xt_set_info: the number of the set, its dimension, flags.
        case "set": return info.count > 3 && info[3] & 1 != 0 ? .unknown : .perhaps
        // struct xt_addrtype_info_v1: types of source and destination, a bit for each RTN_*; then what is turned round.
        case "addrtype":
            func has(_ types: UInt16, _ type: Int, isInverted: Bool) -> NeighbourMatch {
                types == 0 ? .always : NeighbourMatch((types >> UInt16(type) & 1 != 0) != isInverted)
            }
            return min(
                has(half(0), sourceType, isInverted: word(4) & 1 != 0),
                has(half(2), destinationType, isInverted: word(4) & 2 != 0))
        case "limit", "hashlimit", "recent", "connlimit", "connmark", "string", "statistic", "quota",
            "pkttype", "owner", "mac", "physdev", "iprange", "ttl", "hl", "tos", "dscp", "length", "socket", "geoip",
            "bpf", "u32", "cgroup", "devgroup", "nfacct", "osf", "connbytes", "connlabel", "eui64", "rt":
            return .perhaps
        default: return .unknown
        }
    }

    private func port(_ port: UInt16?, _ low: UInt16, _ high: UInt16, isInverted: Bool) -> NeighbourMatch {
        if low == 0, high == .max { return NeighbourMatch(!isInverted) }
        guard packet.transport != nil else { return .partly }
        guard let port else { return isInverted ? .unknown : .perhaps }
        return NeighbourMatch((low <= port && port <= high) != isInverted)
    }

    /// struct xt_multiport_v1: which ports, how many, then up to fifteen, and whether one begins a range.
    private func multiport(_ info: [UInt8]) -> NeighbourMatch {
        guard packet.transport != nil else { return .partly }
        guard info.count >= 48 else { return .unknown }
        func port(_ index: Int) -> UInt16 { UInt16(info[2 + 2 * index]) | UInt16(info[3 + 2 * index]) << 8 }
        let wanted: [UInt16?] =
            switch info[0] {
            case 0: [packet.sourcePort]
            case 1: [packet.destinationPort]
            default: [packet.sourcePort, packet.destinationPort]
            }
        let isInverted = info[47] != 0
        var isFound = false
        var index = 0
        while index < min(15, Int(info[1])) {
            let isRange = info[32 + index] != 0 && index + 1 < 15
            let last = isRange ? port(index + 1) : port(index)
            if wanted.contains(where: { wanted in wanted.map { port(index) <= $0 && $0 <= last } == true }) {
                isFound = true
            }
            index += isRange ? 2 : 1
        }
        if !isFound, wanted.contains(nil) { return isInverted ? .unknown : .perhaps }
        return NeighbourMatch(isFound != isInverted)
    }
}

extension UInt32 {
    fileprivate var bytesInMemory: [UInt8] { unsafe withUnsafeBytes(of: self) { unsafe Array($0) } }
}

extension UInt128 {
    /// The highest number of so many bytes.
    static func last(ofBytes count: Int) -> UInt128 { count >= 16 ? .max : (1 << UInt128(8 * count)) - 1 }
}

extension IPPrefix {
    /// Its addresses as numbers.
    var numbers: ClosedRange<UInt128> {
        let first = UInt128(address.high) << 64 | UInt128(address.low)
        let size = UInt128(family.bitWidth - Int(length))
        return first...(size >= 128 ? .max : first + ((1 << size) - 1))
    }
}
