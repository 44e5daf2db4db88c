// Rules' expressions as nf_tables tells of them: whatever is not exactly one of ours is unknown.

import CLinux
import Glibc
import Netlink
import WeftModel

/// The attributes of one expression. Each is taken out once; what is left over at the end was not understood.
private struct ExpressionFields: ~Escapable {
    private let bytes: RawSpan
    /// Start and end of each attribute's payload, by type.
    private var places = InlineArray<16, (start: UInt16, end: UInt16)>(repeating: (0, 0))
    /// A bit for each attribute that was not taken out yet.
    private var rest: UInt16 = 0
    private(set) var isMalformed: Bool

    @inline(__always)
    @_lifetime(copy bytes)
    init(_ bytes: RawSpan) {
        self.bytes = bytes
        var position = Attributes(bytes)
        while position.next() {
            // Of a type that nobody knew when this was written: it stays behind as the type 0, which nobody takes.
            let type = position.type < 16 ? Int(position.type) : 0
            // An attribute, and all that is in it, has less than 65,536 bytes.
            places[type] = (
                UInt16(truncatingIfNeeded: position.offset),
                UInt16(truncatingIfNeeded: position.offset &+ position.count)
            )
            rest |= 1 << UInt16(type)
        }
        isMalformed = position.isMalformed
    }

    var isSpent: Bool { rest == 0 && !isMalformed }

    @inline(__always)
    @_lifetime(copy self)
    private mutating func take(_ type: some RawRepresentable<UInt32>) -> RawSpan? {
        let index = Int(type.rawValue)
        guard rest & 1 << UInt16(index) != 0 else { return nil }
        rest &= ~(1 << UInt16(index))
        return bytes.extracting(Int(places[index].start)..<Int(places[index].end))
    }

    /// Takes it out whatever it says.
    mutating func ignore(_ type: some RawRepresentable<UInt32>) { rest &= ~(1 << UInt16(type.rawValue)) }

    mutating func number(_ type: some RawRepresentable<UInt32>) -> UInt32? {
        guard let span = take(type) else { return nil }
        if span.byteCount == 1 { return span.load(at: 0, as: UInt8.self).map { UInt32($0) } }
        return span.load(at: 0, as: UInt32.self).map { UInt32(bigEndian: $0) }
    }

    /// Whether it is this number, or absent.
    mutating func isDefault(_ type: some RawRepresentable<UInt32>, _ value: UInt32) -> Bool {
        (number(type) ?? value) == value
    }

    mutating func register(_ type: some RawRepresentable<UInt32>) -> FirewallExpression.Register? {
        number(type).flatMap { RegisterNumber.decode($0) }
    }

    mutating func text(_ type: some RawRepresentable<UInt32>) -> String? {
        guard let span = take(type) else { return nil }
        return String(kernelText: span)
    }

    mutating func value(_ type: some RawRepresentable<UInt32>) -> [UInt8]? {
        guard let span = take(type) else { return nil }
        var attributes = Attributes(span)
        guard attributes.next(), attributes.type == UInt16(NFTA_DATA_VALUE) else { return nil }
        let payload = attributes.payload
        return unsafe payload.withUnsafeBytes { unsafe Array($0) }
    }

    mutating func verdict(_ type: some RawRepresentable<UInt32>) -> FirewallExpression.Verdict? {
        guard let span = take(type) else { return nil }
        var attributes = Attributes(span)
        guard attributes.next(), attributes.type == UInt16(NFTA_DATA_VERDICT) else { return nil }
        var fields = ExpressionFields(attributes.payload)
        let code = fields.number(NFTA_VERDICT_CODE)
        let chain = fields.text(NFTA_VERDICT_CHAIN)
        guard let code, fields.isSpent else { return nil }
        return FirewallExpression.Verdict(code: Int32(bitPattern: code), chain: chain)
    }
}

extension FirewallExpression {
    /// Reads one element of a rule's list of expressions; nil where it is not well formed.
    init?(_ element: RawSpan) {
        var text = RawSpan()
        var expression: FirewallExpression?
        var attributes = Attributes(element)
        while attributes.next() {
            switch nft_expr_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_EXPR_NAME: text = attributes.payload
            case NFTA_EXPR_DATA:
                if text.isEmpty { return nil }
                guard let name = ShortText(kernelText: text) else { continue }
                var fields = ExpressionFields(attributes.payload)
                if fields.isMalformed { return nil }
                expression = Self.decode(name, &fields)
                if !fields.isSpent { expression = nil }
            default: break
            }
        }
        if attributes.isMalformed || text.isEmpty { return nil }
        self = expression ?? .unknown(String(kernelText: text))
    }

    private static func decode(_ name: ShortText, _ fields: inout ExpressionFields) -> FirewallExpression? {
        switch name {
        case "meta": meta(&fields)
        case "ct": conntrack(&fields)
        case "payload": payload(&fields)
        case "bitwise": bitwise(&fields)
        case "byteorder": byteOrder(&fields)
        case "cmp": comparison(&fields)
        case "lookup": lookup(&fields)
        case "counter": counter(&fields)
        case "objref": reference(&fields)
        case "fib": addressType(&fields)
        case "rt": route(&fields)
        case "exthdr": option(&fields)
        case "masq": .masquerade
        case "reject": rejection(&fields)
        case "immediate": verdict(&fields)
        default: nil
        }
    }

    private static func meta(_ fields: inout ExpressionFields) -> FirewallExpression? {
        guard let key = fields.number(NFTA_META_KEY).flatMap({ Meta(number: $0) }) else { return nil }
        if let register = fields.register(NFTA_META_DREG) { return .meta(key, into: register) }
        return fields.register(NFTA_META_SREG).map { .setMeta(key, from: $0) }
    }

    private static func conntrack(_ fields: inout ExpressionFields) -> FirewallExpression? {
        guard let number = fields.number(NFTA_CT_KEY) else { return nil }
        if let direction = fields.number(NFTA_CT_DIRECTION) {
            guard let direction = TupleDirection(number: direction), let field = TupleField(number: number),
                let register = fields.register(NFTA_CT_DREG)
            else { return nil }
            return .tuple(direction, field, into: register)
        }
        guard let key = Conntrack(number: number) else { return nil }
        if let register = fields.register(NFTA_CT_DREG) { return .conntrack(key, into: register) }
        return fields.register(NFTA_CT_SREG).map { .setConntrack(key, from: $0) }
    }

    private static func payload(_ fields: inout ExpressionFields) -> FirewallExpression? {
        guard let base = fields.number(NFTA_PAYLOAD_BASE).flatMap({ PayloadBase(number: $0) }),
            let offset = fields.number(NFTA_PAYLOAD_OFFSET), let length = fields.number(NFTA_PAYLOAD_LEN),
            let register = fields.register(NFTA_PAYLOAD_DREG)
        else { return nil }
        return .payload(base, offset: offset, length: length, into: register)
    }

    private static func bitwise(_ fields: inout ExpressionFields) -> FirewallExpression? {
        guard let source = fields.register(NFTA_BITWISE_SREG), fields.register(NFTA_BITWISE_DREG) == source,
            fields.isDefault(NFTA_BITWISE_OP, weft_nft_bitwise_bool), let length = fields.number(NFTA_BITWISE_LEN),
            let mask = fields.value(NFTA_BITWISE_MASK), mask.count == length,
            let flipped = fields.value(NFTA_BITWISE_XOR), flipped.allSatisfy({ $0 == 0 })
        else { return nil }
        return .bitwise(mask: mask, at: source)
    }

    private static func byteOrder(_ fields: inout ExpressionFields) -> FirewallExpression? {
        guard let source = fields.register(NFTA_BYTEORDER_SREG), fields.register(NFTA_BYTEORDER_DREG) == source,
            fields.number(NFTA_BYTEORDER_OP) == NFT_BYTEORDER_HTON.rawValue, fields.number(NFTA_BYTEORDER_LEN) == 2,
            fields.number(NFTA_BYTEORDER_SIZE) == 2
        else { return nil }
        return .byteOrder16(at: source)
    }

    private static func comparison(_ fields: inout ExpressionFields) -> FirewallExpression? {
        guard let register = fields.register(NFTA_CMP_SREG),
            let comparison = fields.number(NFTA_CMP_OP).flatMap({ Comparison(number: $0) }),
            let bytes = fields.value(NFTA_CMP_DATA)
        else { return nil }
        return .compare(comparison, bytes, at: register)
    }

    private static func lookup(_ fields: inout ExpressionFields) -> FirewallExpression? {
        guard let set = fields.text(NFTA_LOOKUP_SET), let register = fields.register(NFTA_LOOKUP_SREG) else {
            return nil
        }
        let flags = fields.number(NFTA_LOOKUP_FLAGS) ?? 0
        guard flags & ~NFT_LOOKUP_F_INV.rawValue == 0 else { return nil }
        return .lookup(set: set, isInverted: flags != 0, at: register)
    }

    private static func counter(_ fields: inout ExpressionFields) -> FirewallExpression? {
        // What it has counted is no configuration.
        fields.ignore(NFTA_COUNTER_BYTES)
        fields.ignore(NFTA_COUNTER_PACKETS)
        fields.ignore(NFTA_COUNTER_PAD)
        return .counter
    }

    private static func reference(_ fields: inout ExpressionFields) -> FirewallExpression? {
        if let set = fields.text(NFTA_OBJREF_SET_NAME) {
            return fields.register(NFTA_OBJREF_SET_SREG).map { .countByMap(set: set, at: $0) }
        }
        guard fields.number(NFTA_OBJREF_IMM_TYPE) == UInt32(NFT_OBJECT_COUNTER) else { return nil }
        return fields.text(NFTA_OBJREF_IMM_NAME).map { .countBy($0) }
    }

    private static func addressType(_ fields: inout ExpressionFields) -> FirewallExpression? {
        guard fields.number(NFTA_FIB_RESULT) == NFT_FIB_RESULT_ADDRTYPE.rawValue,
            let side = fields.number(NFTA_FIB_FLAGS).flatMap({ AddressSide(number: $0) }),
            let register = fields.register(NFTA_FIB_DREG)
        else { return nil }
        return .addressType(side, into: register)
    }

    private static func route(_ fields: inout ExpressionFields) -> FirewallExpression? {
        guard fields.number(NFTA_RT_KEY) == NFT_RT_TCPMSS.rawValue else { return nil }
        return fields.register(NFTA_RT_DREG).map { .routeTCPMSS(into: $0) }
    }

    private static func option(_ fields: inout ExpressionFields) -> FirewallExpression? {
        guard fields.number(NFTA_EXTHDR_OP) == NFT_EXTHDR_OP_TCPOPT.rawValue,
            fields.number(NFTA_EXTHDR_TYPE) == UInt32(TCPOPT_MAXSEG), fields.number(NFTA_EXTHDR_OFFSET) == 2,
            fields.number(NFTA_EXTHDR_LEN) == 2, fields.isDefault(NFTA_EXTHDR_FLAGS, 0)
        else { return nil }
        return fields.register(NFTA_EXTHDR_SREG).map { .writeTCPMSS(from: $0) }
    }

    private static func rejection(_ fields: inout ExpressionFields) -> FirewallExpression? {
        switch (fields.number(NFTA_REJECT_TYPE), fields.number(NFTA_REJECT_ICMP_CODE)) {
        case (NFT_REJECT_ICMPX_UNREACH.rawValue, NFT_REJECT_ICMPX_ADMIN_PROHIBITED.rawValue): .reject(.prohibited)
        // Kernels differ in whether they tell of a code that a reset does not have.
        case (NFT_REJECT_TCP_RST.rawValue, nil), (NFT_REJECT_TCP_RST.rawValue, 0): .reject(.reset)
        default: nil
        }
    }

    private static func verdict(_ fields: inout ExpressionFields) -> FirewallExpression? {
        guard fields.number(NFTA_IMMEDIATE_DREG) == NFT_REG_VERDICT.rawValue else { return nil }
        return fields.verdict(NFTA_IMMEDIATE_DATA).map { .verdict($0) }
    }
}

extension String {
    /// Text of the kernel's, up to its first NUL; bad UTF-8 is repaired.
    init(kernelText span: RawSpan) {
        self = unsafe span.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return "" }
            let count = unsafe strnlen(start.assumingMemoryBound(to: CChar.self), bytes.count)
            return unsafe String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
        }
    }
}

extension RawSpan {
    /// Whether this is what the kernel would call `text`: that, and a NUL.
    func isKernelText(_ text: String) -> Bool {
        let (expected, bytes) = (text.utf8.span, octets)
        guard bytes.count == expected.count + 1, bytes[expected.count] == 0 else { return false }
        for index in expected.indices where bytes[index] != expected[index] { return false }
        return true
    }
}
