// Addresses, prefixes and public keys, straight from the bytes; what is wrong with one, and what it probably means.

import WeftDiagnostics
import WeftModel
import YAML

extension Reader {
    /// An address without a length; `/32` and `/128` say the same.
    mutating func address(_ id: YAMLTree.ID, _ what: String) -> Located<IPAddress>? {
        guard let written = writtenPrefix(id, what, "an IP address") else { return nil }
        if let length = written.length, length != written.address.family.bitWidth {
            problems.error(
                "topology.address-with-length",
                "\(what) is one address, without a length: `mesh.addresses` says the network",
                at: tree.place(id), fixIts: [replace(id, with: written.address.description)])
            return nil
        }
        guard isPlainFamily(written.address, id, what) else { return nil }
        return Located(written.address, at: tree.place(id))
    }

    /// A network in CIDR notation, or one address. Host bits are an error.
    ///
    /// - Parameter isRange: it is a network, and never one address. After that error it is given as it was probably meant,
    ///   so that what depends on it is not an error too.
    mutating func prefix(_ id: YAMLTree.ID, _ what: String, isRange: Bool = false) -> Located<IPPrefix>? {
        guard let written = writtenPrefix(id, what, "an IP network like 10.0.0.0/24") else { return nil }
        guard isPlainFamily(written.address, id, what) else { return nil }
        guard !written.hasHostBits else {
            problems.error(
                "topology.host-bits",
                "\(written.address)/\(written.length ?? 0) has bits set after its length: the network is \(written.prefix)",
                at: tree.place(id),
                fixIts: [replace(id, with: written.prefix.description)]
                    + (isRange ? [] : [replace(id, with: IPPrefix(host: written.address).description)]))
            return isRange ? Located(written.prefix, at: tree.place(id)) : nil
        }
        return Located(written.prefix, at: tree.place(id))
    }

    private mutating func writtenPrefix(_ id: YAMLTree.ID, _ what: String, _ expected: String) -> IPPrefix.Written? {
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            wrongType(what, expected, id)
            return nil
        }
        if let written = IPPrefix.parse(tree.text(id)) { return written }
        reportNotAddress(id, what, expected)
        return nil
    }

    private mutating func isPlainFamily(_ address: IPAddress, _ id: YAMLTree.ID, _ what: String) -> Bool {
        guard address.family == .v6, address.high == 0, address.low >> 32 == 0xFFFF else { return true }
        let four = IPAddress(v4: UInt32(truncatingIfNeeded: address.low))
        problems.error(
            "topology.mapped-address", "\(what) is an IPv4 address in IPv6 clothes: write \(four)", at: tree.place(id),
            fixIts: [replace(id, with: four.description)])
        return false
    }

    private mutating func reportNotAddress(_ id: YAMLTree.ID, _ what: String, _ expected: String) {
        let text = tree.string(id)
        let place = tree.place(id)
        func report(_ reason: String, _ fixIts: [Diagnostic.FixIt] = []) {
            problems.error("topology.not-an-address", "\(what): \(reason)", at: place, fixIts: fixIts)
        }
        guard !isKeyShaped(id) else {
            wrongType(what, expected, id)
            return
        }
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        if text.contains(",") {
            report("one address for each list item: put a comma between items outside of quotes")
        } else if text.contains(" ") {
            report("\"\(shown(text))\" holds a blank: one address for each list item")
        } else if text.contains("%") {
            report("\"\(shown(text))\": an address with a zone (%) is not accepted")
        } else if parts.count == 2, let address = IPAddress(parts[0]) {
            let width = address.family.bitWidth
            if let mask = IPAddress(parts[1]), mask.family == .v4, let length = maskLength(mask), address.family == .v4
            {
                report("write the length of the mask", [replace(id, with: "\(address)/\(length)")])
            } else if let length = Int(parts[1]), length > width {
                report("/\(shown(parts[1])) is longer than the \(width) bits of an \(name(address.family)) address")
            } else if let length = Int(parts[1]), length >= 0, !parts[1].hasPrefix("-"), !parts[1].hasPrefix("+") {
                report("a length without leading zeros", [replace(id, with: "\(address)/\(length)")])
            } else {
                report("\"\(shown(parts[1]))\" is not a prefix length")
            }
        } else if text.hasPrefix("[") {
            report("brackets stand around the address of an endpoint only, not in \"\(shown(text))\"")
        } else if let reason = fourPartsReason(parts[0]) {
            report(reason)
        } else if !text.contains(":"), text.contains(where: \.isLetter) {
            report("must be \(expected), not \"\(shown(text))\": names are not looked up here")
        } else {
            report("must be \(expected), not \(found(id))")
        }
    }

    private func name(_ family: IPAddress.Family) -> String { family == .v4 ? "IPv4" : "IPv6" }

    /// The length of a contiguous netmask.
    private func maskLength(_ mask: IPAddress) -> Int? {
        let length = (~mask.v4Bits).leadingZeroBitCount
        return IPAddress(v4: length == 0 ? 0 : UInt32.max << UInt32(32 - length)) == mask ? length : nil
    }

    /// 32 bytes of canonical base64. What the key is worth is judged by validation.
    mutating func publicKey(_ id: YAMLTree.ID) -> Located<PublicKey>? {
        let place = tree.place(id)
        guard tree.kind(id) == .scalar, !tree.isNull(id), tree.count(id) > 0 else {
            if tree.kind(id) == .scalar {
                problems.error(
                    "topology.no-public-key", "`publicKey` is empty", at: place,
                    notes: [Diagnostic.Note("`weft key public` on the host prints it")])
            } else {
                wrongType("`publicKey`", "44 characters of base64", id)
            }
            return nil
        }
        do throws(KeyTextError) {
            return Located(try PublicKey(base64: tree.text(id)), at: place)
        } catch {
            reportKey(error, id)
            return nil
        }
    }

    private mutating func reportKey(_ error: KeyTextError, _ id: YAMLTree.ID) {
        let place = tree.place(id)
        // What is no public key may be anything, and is not shown.
        problems.hide(place)
        let text = Array(tree.string(id).utf8)
        let isHex = text.count == 64 && text.allSatisfy { hexDigit($0) != nil }
        let message: String
        switch error {
        case .wrongLength where isHex: message = "it is hexadecimal: write the 44 characters of base64 that `wg` shows"
        case .wrongLength(43): message = "it has 43 characters: the \"=\" at the end is missing"
        case .wrongLength(let count): message = "it has \(count) characters, a key has 44"
        case .badCharacter(43): message = "the last character must be \"=\""
        case .badCharacter(let index) where text[index] == UInt8(ascii: "-") || text[index] == UInt8(ascii: "_"):
            message = "character \(index + 1) is from the URL-safe alphabet: \"-\" is \"+\" and \"_\" is \"/\" here"
        case .badCharacter(let index): message = "character \(index + 1) does not belong to base64"
        case .notCanonical: message = "its 43rd character has bits set that mean nothing: a character was mistyped"
        }
        problems.error(
            "topology.public-key", "`publicKey` is not a key: \(message)", at: place,
            notes: [Diagnostic.Note("the value may be a secret, so it is not shown")])
    }
}

/// Why a text of digits and dots is no IPv4 address; nil where it is something else.
func fourPartsReason(_ text: String) -> String? {
    guard !text.isEmpty, text.utf8.allSatisfy({ decimalDigit($0) != nil || $0 == UInt8(ascii: ".") }) else {
        return nil
    }
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 else { return "\"\(shown(text))\" has \(parts.count) of an IPv4 address's four parts" }
    for part in parts {
        if part.isEmpty { return "\"\(shown(text))\" has an empty part" }
        if part.count > 1, part.hasPrefix("0") {
            return "\"\(shown(text))\": a part with a leading zero is octal to some programs: write it without"
        }
        if (Int(part) ?? 256) > 255 { return "\"\(shown(text))\": \(shown(part)) is more than 255" }
    }
    return nil
}
