// Text from a file, as a message may repeat it: short, and never what has the shape of a key.

import WeftDiagnostics

/// A name or value cut to a length that a message can hold. What may be a secret reads `(hidden)`.
package func shown(_ text: some StringProtocol) -> String {
    var string = String(text)
    if isKeyShapedText(string.utf8Span.span) { return "(hidden)" }
    // Before it is cut, so that half a key is not shown for want of the other half.
    string = hidingKeys(string)
    return string.count > 60 ? "\(string.prefix(57))…" : string
}

/// Whether a text looks like 32 bytes of base64 or hex, as keys of all kinds do: 43 or 44 characters of base64, or 64 of
/// hex.
package func isKeyShapedText(_ text: Span<UInt8>) -> Bool {
    guard text.count == 43 || text.count == 44 || text.count == 64 else { return false }
    for index in text.indices {
        switch text[index] {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "="),
            UInt8(ascii: "-"), UInt8(ascii: "_"):
            continue
        default: return false
        }
    }
    return true
}
