// What has the shape of a key inside some text: it may be a private one, whatever stands around it.

/// Where keys stand in a text: 40 to 44 letters of base64 in both cases (a key, or what is left of one after a slip of
/// the mouse), or 64 of hexadecimal. Of no key's shape are words, paths, digits and longer texts.
///
/// - Parameter text: Scalars. A zero is passed over: a file in UTF-16 has one in each character.
/// - Returns: Ranges of indices of `text`, a closing `=` included.
package func keyShapedRanges(_ text: [UInt32]) -> [Range<Int>] {
    guard text.count >= 40 else { return [] }
    var found: [Range<Int>] = []
    var start = 0
    while start < text.count {
        guard isKeyCharacter(text[start]) else {
            start += 1
            continue
        }
        var run = KeyRun()
        var end = start
        while end < text.count, text[end] == 0 || isKeyCharacter(text[end]) {
            if text[end] != 0 { run.take(text[end]) }
            end += 1
        }
        var next = end
        if next < text.count, text[next] == equalsSign { next += 1 }
        if run.isKeyShaped { found.append(start..<next) }
        start = next
    }
    return found
}

/// A text with `(hidden)` where it held what has the shape of a key.
package func hidingKeys(_ text: String) -> String {
    guard text.utf8.count >= 40 else { return text }
    let scalars = Array(text.unicodeScalars)
    let ranges = keyShapedRanges(scalars.map(\.value))
    guard !ranges.isEmpty else { return text }
    var result = String.UnicodeScalarView()
    var index = 0
    for range in ranges {
        result.append(contentsOf: scalars[index..<range.lowerBound])
        result.append(contentsOf: "(hidden)".unicodeScalars)
        index = range.upperBound
    }
    result.append(contentsOf: scalars[index...])
    return String(result)
}

private let equalsSign: UInt32 = 0x3D

/// What has been seen of one run of base64's letters.
private struct KeyRun {
    var count = 0
    var hasUpper = false
    var hasLower = false
    var isHexadecimal = true

    mutating func take(_ value: UInt32) {
        count += 1
        switch value {
        case 0x41...0x5A: hasUpper = true
        case 0x61...0x7A: hasLower = true
        default: break
        }
        let isHexDigit =
            (0x30...0x39).contains(value) || (0x41...0x46).contains(value) || (0x61...0x66).contains(value)
        if !isHexDigit { isHexadecimal = false }
    }

    var isKeyShaped: Bool {
        ((40...44).contains(count) && hasUpper && hasLower) || (count == 64 && isHexadecimal)
    }
}

private func isKeyCharacter(_ value: UInt32) -> Bool {
    switch value {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2B, 0x2F: true
    default: false
    }
}
