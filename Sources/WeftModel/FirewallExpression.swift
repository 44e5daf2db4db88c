// The closed vocabulary of Weft's rules: each expression is one of nf_tables' own, with the fields that Weft uses.

/// One step of a rule. What the kernel tells that this cannot hold is `unknown`, and equal to nothing that is wanted.
package enum FirewallExpression: Hashable, Sendable {
    /// A place for four bytes (NFT_REG32_00 + index); what is longer goes on into the next ones. 0…15.
    package typealias Register = UInt8

    package enum Meta: String, Hashable, Sendable, CaseIterable {
        /// 16 bytes, the name padded with zeros.
        case inputInterface = "iifname", outputInterface = "oifname"
        /// One byte: 2 or 10.
        case family = "nfproto"
        /// One byte: 6 is TCP.
        case transport = "l4proto"
        /// Four bytes in host order.
        case mark
    }

    package enum Conntrack: String, Hashable, Sendable, CaseIterable {
        /// Bits of what NF_CT_STATE_BIT gives, four bytes in host order.
        case state
        /// Bits of IPS_*, four bytes in host order: 8 is a flow of which a packet has passed already.
        case status
        /// One byte: 0 original, 1 reply.
        case direction
        /// One byte: 6 is TCP. Of an ICMP error it is the protocol of the flow that the error is about.
        case transport = "protocol"
        /// Four bytes in host order.
        case mark
    }

    /// One of the two tuples that connection tracking has of a flow: as its opener sent it, and as its answers are sent.
    package enum TupleDirection: String, Hashable, Sendable, CaseIterable {
        case original, reply
    }

    /// A field of such a tuple. One of the other family ends the rule, and so does a packet that belongs to no flow.
    package enum TupleField: String, Hashable, Sendable, CaseIterable {
        /// Four bytes.
        case source4 = "ip saddr", destination4 = "ip daddr"
        /// Sixteen bytes.
        case source6 = "ip6 saddr", destination6 = "ip6 daddr"
        /// Two bytes.
        case sourcePort = "proto-src", destinationPort = "proto-dst"
    }

    package enum PayloadBase: String, Hashable, Sendable {
        case network, transport
    }

    package enum AddressSide: String, Hashable, Sendable {
        case source, destination
    }

    package enum Comparison: String, Hashable, Sendable {
        case equal, notEqual
    }

    package enum Verdict: Hashable, Sendable {
        case accept, drop, `return`
        case jump(String)
        case goto(String)
    }

    /// What a sender is told (NFT_REJECT_ICMPX_*).
    package enum Rejection: String, Hashable, Sendable {
        /// `admin-prohibited`: ICMP 3/13, ICMPv6 1/1.
        case prohibited
        /// A TCP reset.
        case reset
    }

    case meta(Meta, into: Register = 0)
    case setMeta(Meta, from: Register = 0)
    case conntrack(Conntrack, into: Register = 0)
    case setConntrack(Conntrack, from: Register = 0)
    case tuple(TupleDirection, TupleField, into: Register = 0)
    /// Offset and length in bytes.
    case payload(PayloadBase, offset: UInt32, length: UInt32, into: Register = 0)
    /// `register = register & mask`; the mask is as long as what it masks.
    case bitwise(mask: [UInt8], at: Register = 0)
    /// Host to network order, in units of two bytes.
    case byteOrder16(at: Register = 0)
    /// Bytes as they lie in the register: marks and conntrack states in host order, all else in network order.
    case compare(Comparison, [UInt8], at: Register = 0)
    case lookup(set: String, isInverted: Bool = false, at: Register = 0)
    /// Counts what has come so far.
    case counter
    /// Counts into a named counter.
    case countBy(String)
    /// Counts into the counter that a map has for the key; a key that it does not hold ends the rule.
    case countByMap(set: String, at: Register = 0)
    /// `fib saddr|daddr type`: four bytes in host order, RTN_*.
    case addressType(AddressSide, into: Register = 0)
    /// The largest TCP segment that the route allows: two bytes in host order.
    case routeTCPMSS(into: Register = 0)
    /// Writes two bytes, in network order, into TCP's maximum segment size option.
    case writeTCPMSS(from: Register = 0)
    case masquerade
    case reject(Rejection)
    case verdict(Verdict)
    /// Anything else, by its name: `limit`.
    case unknown(String)
}
