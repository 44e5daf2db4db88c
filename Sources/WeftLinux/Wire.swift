// How the model's values look on the wire, and the kernel's numbers in the width that netlink has for them.

import CLinux
import Netlink
import WeftModel

/// A shorthand for attribute types, which the kernel's headers declare as enumerations of many names.
extension UInt16 {
    @inline(__always)
    init(_ type: some RawRepresentable<UInt32>) { self = UInt16(truncatingIfNeeded: type.rawValue) }
}

extension IPAddress.Family {
    /// AF_INET or AF_INET6.
    var number: UInt8 { self == .v4 ? UInt8(AF_INET) : UInt8(AF_INET6) }

    @inline(__always)
    init?(number: some BinaryInteger) {
        switch Int32(truncatingIfNeeded: number) {
        case AF_INET: self = .v4
        case AF_INET6: self = .v6
        default: return nil
        }
    }
}

extension Encoder {
    /// An attribute with the 4 or 16 bytes of an address.
    mutating func attribute(_ type: UInt16, _ address: IPAddress) {
        switch address.family {
        case .v4: attribute(type, address.v4Bits.bigEndian)
        case .v6: attribute(type, pair: address.high.bigEndian, address.low.bigEndian)
        }
    }

    /// The header of RTM_*LINK (struct ifinfomsg).
    mutating func putLinkHeader(index: UInt32 = 0, flags: UInt32 = 0, change: UInt32 = 0) {
        put(UInt8(AF_UNSPEC))
        put(UInt8(0))
        put(UInt16(0))
        put(index)
        put(flags)
        put(change)
    }

    /// The header of RTM_*ADDR (struct ifaddrmsg).
    mutating func putAddressHeader(family: UInt8, length: UInt8, flags: UInt8, scope: UInt8, index: UInt32) {
        put(family)
        put(length)
        put(flags)
        put(scope)
        put(index)
    }

    /// The header of RTM_*ROUTE (struct rtmsg). The table goes into an attribute as well, for numbers over 255.
    mutating func putRouteHeader(
        family: UInt8, length: UInt8 = 0, table: UInt32 = 0, proto: UInt8 = 0, scope: UInt8 = 0, type: UInt8 = 0,
        flags: UInt32 = 0
    ) {
        put(family)
        put(length)
        put(UInt8(0))
        put(UInt8(0))
        put(table < 256 ? UInt8(table) : UInt8(RT_TABLE_UNSPEC.rawValue))
        put(proto)
        put(scope)
        put(type)
        put(flags)
        if table != 0 { attribute(UInt16(RTA_TABLE), table) }
    }

    /// The header of generic netlink (struct genlmsghdr).
    mutating func putGenericHeader(command: UInt8, version: UInt8) {
        put(command)
        put(version)
        put(UInt16(0))
    }
}

extension Attributes {
    /// The current attribute as an address of `family`.
    @inline(__always)
    mutating func address(_ family: IPAddress.Family) -> IPAddress {
        switch family {
        case .v4:
            return IPAddress(v4: UInt32(bigEndian: uint32()))
        case .v6:
            let high = UInt64(bigEndian: load(at: 0, as: UInt64.self))
            let low = UInt64(bigEndian: load(at: 8, as: UInt64.self))
            return IPAddress(v6: high, low)
        }
    }

    /// The 32 bytes at `offset` of the current attribute as a public key.
    @inline(__always)
    mutating func publicKey(at offset: Int = 0) -> PublicKey {
        PublicKey(
            bigEndianWords: UInt64(bigEndian: load(at: offset, as: UInt64.self)),
            UInt64(bigEndian: load(at: offset &+ 8, as: UInt64.self)),
            UInt64(bigEndian: load(at: offset &+ 16, as: UInt64.self)),
            UInt64(bigEndian: load(at: offset &+ 24, as: UInt64.self)))
    }
}
