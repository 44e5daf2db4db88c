// Secrets on their way from the kernel: 32 bytes in a receive buffer become a tag.

import Netlink
import WeftKeys
import WeftModel

enum SecretBytes {
    /// The tag of a preshared key as it lies in the buffer, 32 bytes from `offset` on.
    static func tag(of bytes: RawSpan, at offset: Int) -> SecretTag {
        SecretTagger.tag(bytes.octets.extracting(offset..<offset + 32))
    }

    /// The tag of a private key, clamped first: that is the form in which every device keeps it, whatever it was given.
    static func tag(ofPrivateKey bytes: RawSpan) -> SecretTag? {
        guard bytes.byteCount == 32 else { return nil }
        let copy = Buffer(capacity: 32)
        defer { copy.erase(32) }
        var clamped = copy.writableBytes()
        var bits: UInt8 = 0
        for index in 0..<32 {
            var byte = bytes.octets[index]
            bits |= byte
            if index == 0 { byte &= 248 }
            if index == 31 { byte = byte & 127 | 64 }
            clamped.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
        }
        return bits == 0 ? nil : SecretTagger.tag(copy.bytes(32).octets)
    }
}
