// A set of nf_tables in the words of nft(8), for those that Weft never makes.

import CLinux
import WeftModel

/// What the kernel tells of a set, besides its elements.
struct NftSetWords {
    var name = ""
    /// NFT_SET_*
    var flags: UInt32 = 0
    /// nft's number of the key's type, six bits for each field.
    var keyType: UInt32 = 0
    /// nft's number of what a map leads to; NFT_DATA_VERDICT for verdicts. Nil: it is no map of values.
    var dataType: UInt32?
    /// NFT_OBJECT_* of what a map's elements name.
    var objectType: UInt32 = 0
    /// In milliseconds.
    var timeout: UInt64 = 0
    /// In milliseconds.
    var collection: UInt32 = 0
    /// How many elements it may have; 0: as many as come.
    var size: UInt32 = 0
    /// All else, as `nft` prints it.
    var more: [String] = []

    /// `map ports: type ipv4_addr : verdict; flags interval,timeout; timeout 1h`.
    var text: String {
        var type = Self.word(ofType: keyType)
        var kind = "set"
        if flags & NFT_SET_MAP.rawValue != 0 {
            kind = "map"
            type += " : \(dataType.map { $0 == NFT_DATA_VERDICT.rawValue ? "verdict" : Self.word(ofType: $0) } ?? "?")"
        } else if flags & NFT_SET_OBJECT.rawValue != 0 {
            kind = "map"
            type += " : \(ObjectReading.name(ofType: objectType))"
        }
        var words = ["type \(type)"]
        let shown = Self.flagWords.filter { flags & $0.flag.rawValue != 0 }.map(\.word)
        if !shown.isEmpty { words.append("flags \(shown.joined(separator: ","))") }
        if timeout != 0 { words.append("timeout \(Self.duration(timeout))") }
        if collection != 0 { words.append("gc-interval \(Self.duration(UInt64(collection)))") }
        if size != 0 { words.append("size \(size)") }
        return "\(kind) \(name): \((words + more).joined(separator: "; "))"
    }

    /// In nft's order. What is not among them follows from the type.
    private static let flagWords: [(flag: nft_set_flags, word: String)] = [
        (NFT_SET_CONSTANT, "constant"), (NFT_SET_EVAL, "dynamic"), (NFT_SET_INTERVAL, "interval"),
        (NFT_SET_TIMEOUT, "timeout"),
    ]

    /// As `nft` writes it: `1d2h`, `90s` as `1m30s`.
    static func duration(_ milliseconds: UInt64) -> String {
        let seconds = milliseconds / 1000
        let parts: [(UInt64, String)] = [
            (seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"),
            (milliseconds % 1000, "ms"),
        ]
        return parts.filter { $0.0 != 0 }.map { "\($0.0)\($0.1)" }.joined()
    }

    /// A concatenation's fields, the first one highest.
    private static func word(ofType type: UInt32) -> String {
        var (rest, words) = (type, [String]())
        while rest != 0 {
            words.insert(typeWords[rest & 0x3F] ?? "type \(rest & 0x3F)", at: 0)
            rest >>= 6
        }
        return words.isEmpty ? "?" : words.joined(separator: " . ")
    }

    /// The numbers are nft's own (enum datatypes of its sources); the kernel keeps them unread.
    private static let typeWords: [UInt32: String] = [
        2: "nf_proto", 4: "integer", 5: "string", 6: "ll_addr", 7: "ipv4_addr", 8: "ipv6_addr", 9: "ether_addr",
        10: "ether_type", 11: "arp_op", 12: "inet_proto", 13: "inet_service", 14: "icmp_type", 15: "tcp_flag",
        16: "dccp_pkttype", 17: "mh_type", 18: "time", 19: "mark", 20: "iface_index", 21: "iface_type", 22: "realm",
        23: "classid", 24: "uid", 25: "gid", 26: "ct_state", 27: "ct_dir", 28: "ct_status", 29: "icmpv6_type",
        30: "ct_label", 31: "pkt_type", 32: "icmp_code", 33: "icmpv6_code", 34: "icmpx_code", 35: "devgroup",
        36: "dscp", 37: "ecn", 38: "fib_addrtype", 39: "boolean", 40: "ct_event", 41: "ifname", 42: "igmp_type",
        44: "hour", 45: "day", 46: "cgroupsv2",
    ]
}
