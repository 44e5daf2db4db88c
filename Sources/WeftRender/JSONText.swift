// JSON made safe to print on a terminal.

extension String {
    /// JSON in which every character that a terminal would obey, or a reader could not see, is written as `\u009B`.
    /// Encoders escape only what the format demands, U+0000 to U+001F. The text must be JSON: outside of strings it has
    /// no such characters but white space, so it means the same.
    package var safeJSON: String {
        if utf8.allSatisfy({ $0 < 0x7F }) { return self }
        var result = ""
        result.reserveCapacity(utf8.count)
        for scalar in unicodeScalars {
            if scalar == "\n" || scalar.isPrintable {
                result.unicodeScalars.append(scalar)
                continue
            }
            for unit in String(scalar).utf16 {
                let digits = String(unit, radix: 16, uppercase: true)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            }
        }
        return result
    }
}
