// What a test must know of a netlink datagram to interfere with it: its messages' headers, and whether it changes something.

import CLinux
package import Netlink

/// The header of one message of a datagram (struct nlmsghdr), with the place where the next one begins.
package struct MessageHeader: Hashable, Sendable {
    package var type: UInt16
    package var flags: UInt16
    package var sequence: UInt32
    /// The header's own 16 bytes.
    package var bytes: [UInt8]
    /// From the datagram's start, in bytes.
    package var start: Int
    package var next: Int

    package static let size = 16

    /// Reads the headers of a whole datagram; what is cut off is left out.
    package static func all(of datagram: [UInt8]) -> [MessageHeader] {
        var headers: [MessageHeader] = []
        var start = 0
        while start + size <= datagram.count {
            func load<Value: FixedWidthInteger>(_ offset: Int, _ type: Value.Type) -> Value {
                datagram.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: start + offset, as: type) }
            }
            let length = Int(load(0, UInt32.self))
            guard length >= size, start + length <= datagram.count else { break }
            let next = start + (length + 3) & ~3
            headers.append(
                MessageHeader(
                    type: load(4, UInt16.self), flags: load(6, UInt16.self), sequence: load(8, UInt32.self),
                    bytes: Array(datagram[start..<start + size]), start: start, next: next))
            start = next
        }
        return headers
    }

    package var isDump: Bool { Int32(flags) & Int32(NLM_F_DUMP) == Int32(NLM_F_DUMP) }

    private static let questions = Set(
        [
            NFT_MSG_GETTABLE, NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETSET, NFT_MSG_GETSETELEM, NFT_MSG_GETOBJ,
            NFT_MSG_GETFLOWTABLE, NFT_MSG_GETGEN,
        ].map { UInt16($0.rawValue) })

    /// Whether the request changes something in the kernel.
    package func isMutation(on bus: Bus) -> Bool {
        switch bus {
        // Each kind of object has four numbers: new, delete, get, set (see rtnetlink(7)).
        case .route: type & 3 != UInt16(RTM_GETLINK) & 3
        // Asking for a family's number is the one request that is neither a dump nor a change.
        case .generic: !isDump && type != UInt16(GENL_ID_CTRL)
        // What stands between a begin and an end: new or delete. These two alone change nothing.
        case .netfilter: type >> 8 == UInt16(NFNL_SUBSYS_NFTABLES) && !Self.questions.contains(type & 0xFF)
        // They are only asked about.
        case .sockets: false
        }
    }

    /// The kernel's refusal of this message (struct nlmsgerr), as a datagram to `port`.
    package func refusal(_ errno: Int32, to port: UInt32) -> [UInt8] {
        var answer: [UInt8] = []
        func put<Value: FixedWidthInteger>(_ value: Value) { withUnsafeBytes(of: value) { answer += Array($0) } }
        put(UInt32(Self.size + 4 + Self.size))
        put(UInt16(NLMSG_ERROR))
        put(UInt16(0))
        put(sequence)
        put(port)
        put(-errno)
        return answer + bytes
    }
}
