// NLMSG_ERROR and NLMSG_DONE: success or an error number, with the kernel's own words where it has some.

import CLinux

/// What the kernel says at the end of a request or of a dump.
struct Acknowledgement {
    /// Nil: success.
    let refusal: NetlinkError?

    /// Reads an NLMSG_ERROR message: an error number, the request's header, the request itself unless that was capped,
    /// and then attributes.
    init(_ message: Message) throws(NetlinkError) {
        guard let code = message.payload.load(at: 0, as: Int32.self) else { throw .malformed("acknowledgement") }
        var offset = MemoryLayout<Int32>.size + MemoryLayout<nlmsghdr>.size
        if message.flags & UInt16(NLM_F_CAPPED) == 0, code != 0 {
            let length = message.payload.load(at: MemoryLayout<Int32>.size, as: UInt32.self) ?? 0
            offset = MemoryLayout<Int32>.size + (Int(length) + 3) & ~3
        }
        self.init(code, message, attributesAt: offset)
    }

    /// Reads an NLMSG_DONE message: an error number, and then attributes.
    init(endOfDump message: Message) throws(NetlinkError) {
        // Kernels before 2.6 sent none at all.
        let code = message.payload.load(at: 0, as: Int32.self) ?? 0
        self.init(code, message, attributesAt: MemoryLayout<Int32>.size)
    }

    private init(_ code: Int32, _ message: Message, attributesAt offset: Int) {
        guard code != 0 else {
            refusal = nil
            return
        }
        var text = ""
        if message.flags & UInt16(NLM_F_ACK_TLVS) != 0, offset <= message.payload.byteCount {
            var attributes = Attributes(message.payload, from: offset)
            while attributes.next() {
                if attributes.type == UInt16(NLMSGERR_ATTR_MSG.rawValue) { text = attributes.text() }
            }
        }
        // A positive code for an error would be a kernel's mistake; its number is taken as it is.
        refusal = .refused(Errno(code < 0 ? -code : code), text: text)
    }
}
