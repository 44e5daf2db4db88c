// The numbers of nf_tables: messages, nft's own types and notes, registers, and how they are put on the wire.

import CLinux
import Glibc
import Netlink
import WeftModel

extension UInt16 {
    /// The type of one of nf_tables' messages.
    init(nfTables message: nf_tables_msg_types) {
        self = UInt16(NFNL_SUBSYS_NFTABLES) << 8 | UInt16(message)
    }
}

/// What `nft` writes beside what the kernel needs, so that it can print it again. The kernel stores it and looks at none of
/// it; no header of the kernel has these numbers: they stand in libnftnl's udata.h and in nft's own datatype.h.
enum NftNote {
    /// Of a rule, a set's element or an object: text with its NUL.
    static let comment: UInt8 = 0
    /// Of a set: 2 where keys are in network order, 0 where each field has its own. Four bytes in host order.
    static let keyByteOrder: UInt8 = 0
    /// Of a set, notes that say no more than its type does, or how its file was written: the byte order of data, what key
    /// and data were written as, and whether data are ranges.
    static let harmlessOfSet: Set<UInt8> = [0, 1, 3, 4, 6]
    /// Of a set: whether ranges that touch become one. Four bytes in host order.
    static let autoMerge: UInt8 = 2
    /// Of a set: text with its NUL.
    static let setComment: UInt8 = 7
    /// Of an element: whether its range is open at its end.
    static let elementFlags: UInt8 = 1

    /// A note: one byte each for type and length, then what it says.
    static func bytes(_ type: UInt8, _ value: [UInt8]) -> [UInt8] { [type, UInt8(value.count)] + value }

    /// A comment. What is too long for it is cut off: nothing depends on it.
    static func comment(_ text: String) -> [UInt8] { bytes(comment, Array(text.utf8.prefix(128)) + [0]) }

    /// Calls `body` with type and value of each note.
    ///
    /// - Returns: false where they are not well formed.
    static func each(_ notes: RawSpan, _ body: (UInt8, RawSpan) -> Void) -> Bool {
        var position = 0
        while position < notes.byteCount {
            guard let type = notes.load(at: position, as: UInt8.self),
                let length = notes.load(at: position + 1, as: UInt8.self),
                position + 2 + Int(length) <= notes.byteCount
            else { return false }
            body(type, notes.extracting(position + 2..<position + 2 + Int(length)))
            position += 2 + Int(length)
        }
        return true
    }
}

extension FirewallSet.Field {
    /// nft's number of the type: `ipv4_addr`, `ipv6_addr`, `inet_proto`, `inet_service`.
    var typeNumber: UInt32 {
        switch self {
        case .address4: 7
        case .address6: 8
        case .transport: 12
        case .port: 13
        }
    }

    init?(typeNumber: UInt32) {
        guard let field = Self.allCases.first(where: { $0.typeNumber == typeNumber }) else { return nil }
        self = field
    }
}

extension FirewallSet {
    /// nft's number of the key's type: six bits for each field, the first one highest.
    var keyType: UInt32 { fields.reduce(0) { $0 << 6 | $1.typeNumber } }

    /// In bytes, with padding.
    var keyLength: Int { isConcatenation ? fields.reduce(0) { $0 + $1.paddedSize } : fields[0].size }

    /// Several fields: each element is a box of ranges, and not a range between two points.
    var isConcatenation: Bool { fields.count > 1 }

    /// The fields of a key of that type; nil where one of them is none of Weft's.
    static func fields(keyType: UInt32) -> [Field]? {
        var (type, fields) = (keyType, [Field]())
        while type != 0 {
            guard let field = Field(typeNumber: type & 0x3F) else { return nil }
            fields.insert(field, at: 0)
            type >>= 6
        }
        return fields.isEmpty ? nil : fields
    }

    /// NFT_SET_*
    var flags: UInt32 {
        var flags = NFT_SET_INTERVAL.rawValue
        if isConcatenation { flags |= NFT_SET_CONCAT.rawValue }
        if hasCounters { flags |= NFT_SET_OBJECT.rawValue }
        return flags
    }
}

/// Registers as the kernel numbers them. Sixteen places for four bytes; the first four quarters have old names as well, and
/// these are what it answers with.
enum RegisterNumber {
    static func encode(_ register: FirewallExpression.Register) -> UInt32 { NFT_REG32_00.rawValue + UInt32(register) }

    static func decode(_ number: UInt32) -> FirewallExpression.Register? {
        switch number {
        case NFT_REG_1.rawValue...NFT_REG_4.rawValue: UInt8((number - NFT_REG_1.rawValue) * 4)
        case NFT_REG32_00.rawValue...NFT_REG32_15.rawValue: UInt8(number - NFT_REG32_00.rawValue)
        default: nil
        }
    }
}

extension FirewallChain.Base.Hook {
    /// NF_INET_*
    var number: UInt32 {
        switch self {
        case .prerouting: NF_INET_PRE_ROUTING.rawValue
        case .input: NF_INET_LOCAL_IN.rawValue
        case .forward: NF_INET_FORWARD.rawValue
        case .output: NF_INET_LOCAL_OUT.rawValue
        case .postrouting: NF_INET_POST_ROUTING.rawValue
        }
    }

    init?(number: UInt32) {
        guard let hook = Self.allCases.first(where: { $0.number == number }) else { return nil }
        self = hook
    }
}

extension Encoder {
    /// Starts a message of nf_tables about the family `inet`.
    mutating func begin(_ message: nf_tables_msg_types, flags: Int32 = 0) {
        begin(UInt16(nfTables: message), flags: UInt16(NLM_F_REQUEST | flags))
        putNetfilterHeader(family: UInt8(NFPROTO_INET))
    }

    /// An attribute with an integer in network order, as nf_tables has all of them.
    mutating func number(_ type: some RawRepresentable<UInt32>, _ value: UInt32) {
        attribute(UInt16(type), value.bigEndian)
    }

    mutating func text(_ type: some RawRepresentable<UInt32>, _ text: String) {
        attribute(UInt16(type), text)
    }

    mutating func nest(_ type: some RawRepresentable<UInt32>, _ body: (inout Encoder) -> Void) {
        nest(UInt16(type), body)
    }

    mutating func bytes(_ type: some RawRepresentable<UInt32>, _ bytes: [UInt8]) {
        attribute(UInt16(type), bytes: unsafe bytes.span.bytes)
    }

    /// An attribute that holds a value of nf_tables (NFTA_DATA_VALUE).
    mutating func value(_ type: some RawRepresentable<UInt32>, _ bytes: [UInt8]) {
        nest(type) { $0.bytes(NFTA_DATA_VALUE, bytes) }
    }
}

extension Attributes {
    /// The current attribute as an integer in network order.
    @inline(__always) mutating func number() -> UInt32 { UInt32(bigEndian: uint32()) }
}

extension ShortText {
    /// Text of the kernel's, with its NUL; nil where it is too long.
    @inline(__always)
    init?(kernelText span: RawSpan) {
        // Weft's counters have names of fifteen bytes and a NUL.
        if span.byteCount == 16, let word0 = span.load(at: 0, as: UInt64.self),
            let word1 = span.load(at: 8, as: UInt64.self)
        {
            self.init(UInt64(littleEndian: word0), UInt64(littleEndian: word1))
        } else {
            self.init(shorterOrLonger: span)
        }
    }

    private init?(shorterOrLonger span: RawSpan) {
        let count = span.byteCount
        var words: (UInt64, UInt64) = (0, 0)
        // Two loads overlap where there is no loading all at once: what both have is the same.
        switch count {
        case 8..<16:
            words.0 = UInt64(littleEndian: span.load(at: 0, as: UInt64.self) ?? 0)
            words.1 = UInt64(littleEndian: span.load(at: count - 8, as: UInt64.self) ?? 0) >> UInt64((16 - count) * 8)
        case 4..<8:
            let first = UInt64(UInt32(littleEndian: span.load(at: 0, as: UInt32.self) ?? 0))
            let last = UInt64(UInt32(littleEndian: span.load(at: count - 4, as: UInt32.self) ?? 0))
            words.0 = first | last << UInt64((count - 4) * 8)
        case 0..<4:
            for index in 0..<count { Self.put(span.load(at: index, as: UInt8.self) ?? 0, at: index, into: &words) }
        default: return nil
        }
        self.init(words.0, words.1)
    }
}
