// Rules' expressions as nf_tables takes them: each writes itself, with the kernel's defaults written out.

import CLinux
import Glibc
import Netlink
import WeftModel

extension FirewallExpression {
    /// Puts one element of a rule's list of expressions. What is unknown is never sent: it only comes from the kernel.
    func put(_ encoder: inout Encoder) {
        encoder.nest(NFTA_LIST_ELEM) { element in
            element.text(NFTA_EXPR_NAME, kernelName)
            element.nest(NFTA_EXPR_DATA) { putData(&$0) }
        }
    }

    /// The kernel's name of the expression.
    var kernelName: String {
        switch self {
        case .meta, .setMeta: "meta"
        case .conntrack, .setConntrack, .tuple: "ct"
        case .payload: "payload"
        case .bitwise: "bitwise"
        case .byteOrder16: "byteorder"
        case .compare: "cmp"
        case .lookup: "lookup"
        case .counter: "counter"
        case .countBy, .countByMap: "objref"
        case .addressType: "fib"
        case .routeTCPMSS: "rt"
        case .writeTCPMSS: "exthdr"
        case .masquerade: "masq"
        case .reject: "reject"
        case .verdict: "immediate"
        case .unknown(let name): name
        }
    }

    private func putData(_ encoder: inout Encoder) {
        func register(_ type: some RawRepresentable<UInt32>, _ register: Register) {
            encoder.number(type, RegisterNumber.encode(register))
        }
        switch self {
        case .meta(let key, let target):
            encoder.number(NFTA_META_KEY, key.number)
            register(NFTA_META_DREG, target)
        case .setMeta(let key, let source):
            encoder.number(NFTA_META_KEY, key.number)
            register(NFTA_META_SREG, source)
        case .conntrack(let key, let target):
            encoder.number(NFTA_CT_KEY, key.number)
            register(NFTA_CT_DREG, target)
        case .setConntrack(let key, let source):
            encoder.number(NFTA_CT_KEY, key.number)
            register(NFTA_CT_SREG, source)
        case .tuple(let direction, let field, let target):
            encoder.number(NFTA_CT_KEY, field.number)
            encoder.attribute(UInt16(NFTA_CT_DIRECTION), direction.number)
            register(NFTA_CT_DREG, target)
        case .payload(let base, let offset, let length, let target):
            encoder.number(NFTA_PAYLOAD_BASE, base.number)
            encoder.number(NFTA_PAYLOAD_OFFSET, offset)
            encoder.number(NFTA_PAYLOAD_LEN, length)
            register(NFTA_PAYLOAD_DREG, target)
        case .bitwise(let mask, let place):
            register(NFTA_BITWISE_SREG, place)
            register(NFTA_BITWISE_DREG, place)
            encoder.number(NFTA_BITWISE_LEN, UInt32(mask.count))
            encoder.number(NFTA_BITWISE_OP, weft_nft_bitwise_bool)
            encoder.value(NFTA_BITWISE_MASK, mask)
            encoder.value(NFTA_BITWISE_XOR, [UInt8](repeating: 0, count: mask.count))
        case .byteOrder16(let place):
            register(NFTA_BYTEORDER_SREG, place)
            register(NFTA_BYTEORDER_DREG, place)
            encoder.number(NFTA_BYTEORDER_OP, NFT_BYTEORDER_HTON.rawValue)
            encoder.number(NFTA_BYTEORDER_LEN, 2)
            encoder.number(NFTA_BYTEORDER_SIZE, 2)
        case .compare(let comparison, let bytes, let place):
            register(NFTA_CMP_SREG, place)
            encoder.number(NFTA_CMP_OP, comparison.number)
            encoder.value(NFTA_CMP_DATA, bytes)
        case .lookup(let set, let isInverted, let place):
            encoder.text(NFTA_LOOKUP_SET, set)
            register(NFTA_LOOKUP_SREG, place)
            encoder.number(NFTA_LOOKUP_FLAGS, isInverted ? NFT_LOOKUP_F_INV.rawValue : 0)
        case .counter:
            encoder.attribute(UInt16(NFTA_COUNTER_BYTES), UInt64(0))
            encoder.attribute(UInt16(NFTA_COUNTER_PACKETS), UInt64(0))
        case .countBy(let counter):
            encoder.number(NFTA_OBJREF_IMM_TYPE, UInt32(NFT_OBJECT_COUNTER))
            encoder.text(NFTA_OBJREF_IMM_NAME, counter)
        case .countByMap(let set, let place):
            register(NFTA_OBJREF_SET_SREG, place)
            encoder.text(NFTA_OBJREF_SET_NAME, set)
        case .addressType(let side, let target):
            encoder.number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE.rawValue)
            encoder.number(NFTA_FIB_FLAGS, side.number)
            register(NFTA_FIB_DREG, target)
        case .routeTCPMSS(let target):
            encoder.number(NFTA_RT_KEY, NFT_RT_TCPMSS.rawValue)
            register(NFTA_RT_DREG, target)
        case .writeTCPMSS(let source):
            encoder.attribute(UInt16(NFTA_EXTHDR_TYPE), UInt8(TCPOPT_MAXSEG))
            // Behind the option's kind and length.
            encoder.number(NFTA_EXTHDR_OFFSET, 2)
            encoder.number(NFTA_EXTHDR_LEN, 2)
            // No flags, although they read back as 0: the kernel takes none where it writes.
            encoder.number(NFTA_EXTHDR_OP, NFT_EXTHDR_OP_TCPOPT.rawValue)
            register(NFTA_EXTHDR_SREG, source)
        case .masquerade, .unknown:
            break
        case .reject(.prohibited):
            encoder.number(NFTA_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH.rawValue)
            encoder.attribute(UInt16(NFTA_REJECT_ICMP_CODE), UInt8(NFT_REJECT_ICMPX_ADMIN_PROHIBITED.rawValue))
        case .reject(.reset):
            encoder.number(NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST.rawValue)
            encoder.attribute(UInt16(NFTA_REJECT_ICMP_CODE), UInt8(0))
        case .verdict(let verdict):
            encoder.number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT.rawValue)
            encoder.nest(NFTA_IMMEDIATE_DATA) { data in
                data.nest(NFTA_DATA_VERDICT) { nest in
                    nest.number(NFTA_VERDICT_CODE, UInt32(bitPattern: verdict.code))
                    if let chain = verdict.chain { nest.text(NFTA_VERDICT_CHAIN, chain) }
                }
            }
        }
    }
}

// MARK: The kernel's numbers

extension FirewallExpression.Meta {
    /// NFT_META_*
    var number: UInt32 {
        switch self {
        case .inputInterface: NFT_META_IIFNAME.rawValue
        case .outputInterface: NFT_META_OIFNAME.rawValue
        case .family: NFT_META_NFPROTO.rawValue
        case .transport: NFT_META_L4PROTO.rawValue
        case .mark: NFT_META_MARK.rawValue
        }
    }

    init?(number: UInt32) {
        guard let key = Self.allCases.first(where: { $0.number == number }) else { return nil }
        self = key
    }
}

extension FirewallExpression.Conntrack {
    /// NFT_CT_*
    var number: UInt32 {
        switch self {
        case .state: NFT_CT_STATE.rawValue
        case .status: NFT_CT_STATUS.rawValue
        case .direction: NFT_CT_DIRECTION.rawValue
        case .transport: NFT_CT_PROTOCOL.rawValue
        case .mark: NFT_CT_MARK.rawValue
        }
    }

    init?(number: UInt32) {
        guard let key = Self.allCases.first(where: { $0.number == number }) else { return nil }
        self = key
    }
}

extension FirewallExpression.TupleDirection {
    /// IP_CT_DIR_*
    var number: UInt8 {
        switch self {
        case .original: UInt8(IP_CT_DIR_ORIGINAL.rawValue)
        case .reply: UInt8(IP_CT_DIR_REPLY.rawValue)
        }
    }

    init?(number: UInt32) {
        guard let direction = Self.allCases.first(where: { $0.number == number }) else { return nil }
        self = direction
    }
}

extension FirewallExpression.TupleField {
    /// NFT_CT_*
    var number: UInt32 {
        switch self {
        case .source4: NFT_CT_SRC_IP.rawValue
        case .destination4: NFT_CT_DST_IP.rawValue
        case .source6: NFT_CT_SRC_IP6.rawValue
        case .destination6: NFT_CT_DST_IP6.rawValue
        case .sourcePort: NFT_CT_PROTO_SRC.rawValue
        case .destinationPort: NFT_CT_PROTO_DST.rawValue
        }
    }

    init?(number: UInt32) {
        guard let field = Self.allCases.first(where: { $0.number == number }) else { return nil }
        self = field
    }
}

extension FirewallExpression.PayloadBase {
    var number: UInt32 {
        switch self {
        case .network: NFT_PAYLOAD_NETWORK_HEADER.rawValue
        case .transport: NFT_PAYLOAD_TRANSPORT_HEADER.rawValue
        }
    }

    init?(number: UInt32) {
        switch number {
        case Self.network.number: self = .network
        case Self.transport.number: self = .transport
        default: return nil
        }
    }
}

extension FirewallExpression.AddressSide {
    /// NFTA_FIB_F_*
    var number: UInt32 {
        switch self {
        case .source: NFTA_FIB_F_SADDR.rawValue
        case .destination: NFTA_FIB_F_DADDR.rawValue
        }
    }

    init?(number: UInt32) {
        switch number {
        case Self.source.number: self = .source
        case Self.destination.number: self = .destination
        default: return nil
        }
    }
}

extension FirewallExpression.Comparison {
    var number: UInt32 {
        switch self {
        case .equal: NFT_CMP_EQ.rawValue
        case .notEqual: NFT_CMP_NEQ.rawValue
        }
    }

    init?(number: UInt32) {
        switch number {
        case Self.equal.number: self = .equal
        case Self.notEqual.number: self = .notEqual
        default: return nil
        }
    }
}

extension FirewallExpression.Verdict {
    /// NF_* or NFT_*
    var code: Int32 {
        switch self {
        case .accept: NF_ACCEPT
        case .drop: NF_DROP
        case .return: NFT_RETURN.rawValue
        case .jump: NFT_JUMP.rawValue
        case .goto: NFT_GOTO.rawValue
        }
    }

    var chain: String? {
        switch self {
        case .accept, .drop, .return: nil
        case .jump(let chain), .goto(let chain): chain
        }
    }

    init?(code: Int32, chain: String?) {
        switch (code, chain) {
        case (NF_ACCEPT, nil): self = .accept
        case (NF_DROP, nil): self = .drop
        case (NFT_RETURN.rawValue, nil): self = .return
        case (NFT_JUMP.rawValue, let chain?): self = .jump(chain)
        case (NFT_GOTO.rawValue, let chain?): self = .goto(chain)
        default: return nil
        }
    }
}
