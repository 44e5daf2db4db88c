// Documents as JSON text.

internal import FoundationEssentials
internal import WeftRender

/// Pretty, with sorted keys and without escaped slashes: two runs differ only where the documents do.
func encodeJSON(_ document: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(document), as: UTF8.self).safeJSON
}

/// On one line.
func encodeLine(_ document: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(document), as: UTF8.self).safeJSON
}
