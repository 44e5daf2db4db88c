// Other programs' tables in nf_tables, read as far as one must know whether a mesh's packets get through them.

import CLinux
import Glibc
import Netlink
import WeftModel

/// What a rule asks or does, as far as it matters here.
enum NeighbourExpression {
    typealias Register = FirewallExpression.Register

    enum Verdict: Hashable {
        case accept, drop, `return`
        case jump(String)
        case goto(String)
    }

    /// A header's bytes, or what nf_tables knows of the packet, go into a register.
    case load(NeighbourField, Register)
    case mask([UInt8], xor: [UInt8], from: Register, to: Register)
    /// NFT_CMP_*
    case compare(UInt32, [UInt8], Register)
    case range(from: [UInt8], to: [UInt8], isInverted: Bool, Register)
    /// Whether a set has what lies in the register; a map leads to verdicts of its own.
    case lookup(set: String, isInverted: Bool, isMap: Bool, Register)
    /// A match of iptables, with its structure as it is in memory.
    case match(String, [UInt8])
    case verdict(Verdict)
    /// The packet's source, or its target, becomes another, and the chain ends.
    case changesSource, changesTarget
    /// The packet's mark is set.
    case marks
    /// The packet belongs to no connection from here on, where it did not yet.
    case untracks
    /// A condition that holds for some packets, without regard to what they are: a rate, a quota.
    case some
    /// A condition that is not understood.
    case unknown
    /// Neither a condition nor a verdict: it counts, logs, or writes something.
    case nothing
}

/// What is loaded.
enum NeighbourField: Hashable {
    case inputName, outputName, inputIndex, outputIndex, family, protocolType, transport, mark, state
    /// Bytes of the network header, and of the one behind it.
    case network(offset: UInt32, length: UInt32)
    case header(offset: UInt32, length: UInt32)
    /// The interface that the way back leads through; zero where there is none.
    case reversePath
    /// RTN_*: local, or somewhere else.
    case sourceType, destinationType
    /// What flows of a mesh have now and then.
    case part
    /// What any packet may have, the mesh's or not.
    case any
}

struct NeighbourRule {
    var expressions: [NeighbourExpression] = []
    /// Whether its comment says that it is about weft.
    var isAboutWeft = false
}

/// Takes the rules of one table, chain by chain.
struct NeighbourRuleReading: MessageConsumer {
    private(set) var rules: [String: [NeighbourRule]] = [:]

    mutating func reset() { rules = [:] }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWRULE) else { return true }
        var chain = ""
        var rule = NeighbourRule()
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            switch nft_rule_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_RULE_CHAIN: chain = String(kernelText: attributes.payload)
            case NFTA_RULE_EXPRESSIONS:
                var list = attributes.nested()
                while list.next() {
                    var expression = list.nested()
                    var name = ""
                    var found = NeighbourExpression.unknown
                    while expression.next() {
                        switch nft_expr_attributes(rawValue: UInt32(expression.type)) {
                        case NFTA_EXPR_NAME:
                            name = String(kernelText: expression.payload)
                            found = NeighbourExpression(bare: name)
                        case NFTA_EXPR_DATA: found = NeighbourExpression(name, NeighbourFields(expression.payload))
                        default: break
                        }
                    }
                    rule.expressions.append(found)
                    list.check(expression)
                }
                attributes.check(list)
            case NFTA_RULE_USERDATA:
                _ = NftNote.each(attributes.payload) { type, value in
                    if type == NftNote.comment, String(kernelText: value).lowercased().contains("weft") {
                        rule.isAboutWeft = true
                    }
                }
            default: break
            }
        }
        rules[chain, default: []].append(rule)
        return !attributes.isMalformed
    }
}

/// The attributes of an expression, by their types.
private struct NeighbourFields {
    private var fields: [UInt16: [UInt8]] = [:]

    init(_ bytes: RawSpan) {
        var attributes = Attributes(bytes)
        while attributes.next() {
            fields[attributes.type] = unsafe attributes.payload.withUnsafeBytes { unsafe Array($0) }
        }
    }

    private init(nested bytes: [UInt8]) { self.init(unsafe bytes.span.bytes) }

    func has(_ type: some RawRepresentable<UInt32>) -> Bool { fields[UInt16(type)] != nil }

    func number(_ type: some RawRepresentable<UInt32>) -> UInt32 {
        (fields[UInt16(type)] ?? []).prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }

    func register(_ type: some RawRepresentable<UInt32>) -> NeighbourExpression.Register? {
        has(type) ? RegisterNumber.decode(number(type)) : nil
    }

    func text(_ type: some RawRepresentable<UInt32>) -> String {
        String(decoding: (fields[UInt16(type)] ?? []).prefix { $0 != 0 }, as: UTF8.self)
    }

    func bytes(_ type: some RawRepresentable<UInt32>) -> [UInt8] { fields[UInt16(type)] ?? [] }

    /// The bytes of NFTA_DATA_VALUE.
    func value(_ type: some RawRepresentable<UInt32>) -> [UInt8] {
        NeighbourFields(nested: bytes(type)).bytes(NFTA_DATA_VALUE)
    }

    /// NFTA_DATA_VERDICT; nil where it is no verdict, or one that goes on.
    func verdict(_ type: some RawRepresentable<UInt32>) -> NeighbourExpression.Verdict? {
        let data = NeighbourFields(nested: bytes(type))
        guard data.has(NFTA_DATA_VERDICT) else { return nil }
        let verdict = NeighbourFields(nested: data.bytes(NFTA_DATA_VERDICT))
        let chain = verdict.text(NFTA_VERDICT_CHAIN)
        return switch Int32(bitPattern: verdict.number(NFTA_VERDICT_CODE)) {
        case NF_ACCEPT: .accept
        case NF_DROP: .drop
        case NFT_RETURN.rawValue: .return
        case NFT_JUMP.rawValue: .jump(chain)
        case NFT_GOTO.rawValue: .goto(chain)
        default: nil
        }
    }
}

extension NeighbourExpression {
    /// One without data, or before them.
    fileprivate init(bare name: String) {
        switch name {
        case "reject": self = .verdict(.drop)
        case "masq": self = .changesSource
        case "redir": self = .changesTarget
        // What goes to a program or through a proxy is not dropped.
        case "queue", "nat", "tproxy", "synproxy", "dup", "fwd": self = .verdict(.accept)
        case "notrack": self = .untracks
        case "counter", "log", "last", "dynset", "flow_offload": self = .nothing
        case "limit", "quota", "connlimit": self = .some
        default: self = .unknown
        }
    }

    fileprivate init(_ name: String, _ fields: NeighbourFields) {
        self = Self.read(name, fields) ?? Self(bare: name)
    }

    private static func read(_ name: String, _ fields: NeighbourFields) -> NeighbourExpression? {
        switch name {
        case "meta":
            let key = fields.number(NFTA_META_KEY)
            if fields.has(NFTA_META_SREG) { return key == NFT_META_MARK.rawValue ? .marks : .nothing }
            return fields.register(NFTA_META_DREG).map { .load(NeighbourField(meta: key), $0) }
        case "ct":
            if fields.has(NFTA_CT_SREG) { return .nothing }
            let field: NeighbourField
            switch nft_ct_keys(rawValue: fields.number(NFTA_CT_KEY)) {
            case NFT_CT_STATE: field = .state
            case NFT_CT_STATUS, NFT_CT_ZONE, NFT_CT_HELPER: field = .part
            default: field = .any
            }
            return fields.register(NFTA_CT_DREG).map { .load(field, $0) }
        case "payload":
            if fields.has(NFTA_PAYLOAD_SREG) { return .nothing }
            let (offset, length) = (fields.number(NFTA_PAYLOAD_OFFSET), fields.number(NFTA_PAYLOAD_LEN))
            let field: NeighbourField
            switch nft_payload_bases(rawValue: fields.number(NFTA_PAYLOAD_BASE)) {
            case NFT_PAYLOAD_NETWORK_HEADER: field = .network(offset: offset, length: length)
            case NFT_PAYLOAD_TRANSPORT_HEADER: field = .header(offset: offset, length: length)
            default: field = .any
            }
            return fields.register(NFTA_PAYLOAD_DREG).map { .load(field, $0) }
        case "fib":
            let result = fields.number(NFTA_FIB_RESULT)
            let isWay = result == NFT_FIB_RESULT_OIF.rawValue || result == NFT_FIB_RESULT_OIFNAME.rawValue
            let isBack = fields.number(NFTA_FIB_FLAGS) & NFTA_FIB_F_SADDR.rawValue != 0
            var field = isWay && isBack ? NeighbourField.reversePath : .any
            if result == NFT_FIB_RESULT_ADDRTYPE.rawValue { field = isBack ? .sourceType : .destinationType }
            return fields.register(NFTA_FIB_DREG).map { .load(field, $0) }
        case "rt", "osf", "numgen", "xfrm", "tunnel": return fields.register(NFTA_RT_DREG).map { .load(.any, $0) }
        case "socket", "hash": return fields.register(NFTA_SOCKET_DREG).map { .load(.any, $0) }
        case "byteorder": return fields.register(NFTA_BYTEORDER_DREG).map { .load(.any, $0) }
        case "exthdr":
            if fields.has(NFTA_EXTHDR_SREG) { return .nothing }
            return fields.register(NFTA_EXTHDR_DREG).map { .load(.part, $0) }
        case "bitwise":
            guard let source = fields.register(NFTA_BITWISE_SREG), let target = fields.register(NFTA_BITWISE_DREG)
            else { return .unknown }
            guard fields.number(NFTA_BITWISE_OP) == weft_nft_bitwise_bool else { return .load(.any, target) }
            let (mask, xor) = (fields.value(NFTA_BITWISE_MASK), fields.value(NFTA_BITWISE_XOR))
            return .mask(mask, xor: xor, from: source, to: target)
        case "cmp":
            return fields.register(NFTA_CMP_SREG).map {
                .compare(fields.number(NFTA_CMP_OP), fields.value(NFTA_CMP_DATA), $0)
            }
        case "range":
            return fields.register(NFTA_RANGE_SREG).map {
                .range(
                    from: fields.value(NFTA_RANGE_FROM_DATA), to: fields.value(NFTA_RANGE_TO_DATA),
                    isInverted: fields.number(NFTA_RANGE_OP) == NFT_RANGE_NEQ.rawValue, $0)
            }
        case "lookup":
            let isMap = fields.has(NFTA_LOOKUP_DREG)
            // A map whose values go into a register, not to a verdict.
            if isMap, let target = fields.register(NFTA_LOOKUP_DREG) { return .load(.any, target) }
            return fields.register(NFTA_LOOKUP_SREG).map {
                .lookup(
                    set: fields.text(NFTA_LOOKUP_SET),
                    isInverted: fields.number(NFTA_LOOKUP_FLAGS) & NFT_LOOKUP_F_INV.rawValue != 0, isMap: isMap, $0)
            }
        case "nat":
            return fields.number(NFTA_NAT_TYPE) == NFT_NAT_DNAT.rawValue ? .changesTarget : .changesSource
        case "immediate":
            return fields.verdict(NFTA_IMMEDIATE_DATA).map { .verdict($0) }
                ?? fields.register(NFTA_IMMEDIATE_DREG).map { .load(.any, $0) } ?? .nothing
        case "match": return .match(fields.text(NFTA_MATCH_NAME), fields.bytes(NFTA_MATCH_INFO))
        case "target":
            switch fields.text(NFTA_TARGET_NAME) {
            case "REJECT", "DROP": return .verdict(.drop)
            case "ACCEPT", "NFQUEUE", "QUEUE", "TPROXY", "SYNPROXY": return .verdict(.accept)
            case "MARK", "CONNMARK": return .marks
            case "NOTRACK": return .untracks
            // struct xt_ct_target_info begins with its flags; XT_CT_NOTRACK is the first of them.
            case "CT": return (fields.bytes(NFTA_TARGET_INFO).first ?? 0) & 1 != 0 ? .untracks : .nothing
            case "MASQUERADE", "SNAT": return .changesSource
            case "DNAT", "REDIRECT": return .changesTarget
            default: return .nothing
            }
        case "objref":
            let isCounter = fields.number(NFTA_OBJREF_IMM_TYPE) == UInt32(NFT_OBJECT_COUNTER)
            return isCounter ? .nothing : .some
        default: return nil
        }
    }
}

extension NeighbourField {
    fileprivate init(meta key: UInt32) {
        switch nft_meta_keys(rawValue: key) {
        case NFT_META_IIFNAME: self = .inputName
        case NFT_META_OIFNAME: self = .outputName
        case NFT_META_IIF: self = .inputIndex
        case NFT_META_OIF: self = .outputIndex
        case NFT_META_NFPROTO: self = .family
        case NFT_META_PROTOCOL: self = .protocolType
        case NFT_META_L4PROTO: self = .transport
        case NFT_META_MARK: self = .mark
        default: self = .any
        }
    }
}

/// The elements of one set: keys that are one field, as numbers in network order; and what a map leads to.
struct NeighbourSet {
    struct Element {
        var keys: ClosedRange<UInt128>
        /// Of a map.
        var verdict: NeighbourExpression.Verdict?
    }

    var elements: [Element] = []
    /// What an element leads to that is for all other keys; a set has it as accept.
    var rest: Element?
    /// In bytes; of several fields more than any one of them has.
    var keyLength = 0
}

/// Takes the elements of one set.
struct NeighbourElementReading: MessageConsumer {
    private struct Point {
        var key: UInt128
        /// Of a range that is told whole.
        var end: UInt128?
        var isEnd: Bool
        var verdict: NeighbourExpression.Verdict?
    }

    private var points: [Point] = []
    private var keyLength = 0
    private var rest: NeighbourSet.Element?

    mutating func reset() { self = NeighbourElementReading() }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWSETELEM) else { return true }
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            guard attributes.type == UInt16(NFTA_SET_ELEM_LIST_ELEMENTS) else { continue }
            var list = attributes.nested()
            while list.next() { take(NeighbourFields(list.payload)) }
            attributes.check(list)
        }
        return !attributes.isMalformed
    }

    private mutating func take(_ fields: NeighbourFields) {
        let flags = fields.number(NFTA_SET_ELEM_FLAGS)
        let verdict = fields.has(NFTA_SET_ELEM_DATA) ? fields.verdict(NFTA_SET_ELEM_DATA) : nil
        if flags & NFT_SET_ELEM_CATCHALL.rawValue != 0 {
            rest = NeighbourSet.Element(keys: 0...UInt128.max, verdict: verdict)
            return
        }
        let key = fields.value(NFTA_SET_ELEM_KEY)
        keyLength = max(keyLength, key.count)
        points.append(
            Point(
                key: UInt128(networkOrder: key),
                end: fields.has(NFTA_SET_ELEM_KEY_END)
                    ? UInt128(networkOrder: fields.value(NFTA_SET_ELEM_KEY_END)) : nil,
                isEnd: flags & NFT_SET_ELEM_INTERVAL_END.rawValue != 0, verdict: verdict))
    }

    /// All that was taken.
    var set: NeighbourSet {
        var set = NeighbourSet(rest: rest, keyLength: keyLength)
        let sorted = points.sorted { $0.key == $1.key ? $0.isEnd && !$1.isEnd : $0.key < $1.key }
        // A set of single keys has no ends.
        let hasRanges = sorted.contains(where: \.isEnd)
        let last = keyLength >= 16 ? UInt128.max : (1 << UInt128(8 * keyLength)) - 1
        for (index, point) in sorted.enumerated() where !point.isEnd {
            var end = point.end ?? point.key
            if hasRanges { end = index + 1 < sorted.count ? sorted[index + 1].key - 1 : last }
            set.elements.append(.init(keys: point.key...max(point.key, end), verdict: point.verdict))
        }
        return set
    }
}

extension UInt128 {
    /// Of up to 16 bytes; more do not count.
    init(networkOrder bytes: some Sequence<UInt8>) { self = bytes.prefix(16).reduce(0) { $0 << 8 | UInt128($1) } }
}
