// Text from elsewhere, made safe to print: what a terminal would obey, or a reader could not see, is spelt out.

extension String {
    /// The text with control, format and unassigned characters written as `\n`, `\t` or `\u{1B}`, so that an
    /// interface's alias can neither move the cursor nor turn the reading direction.
    package var visible: String {
        if utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }) { return self }
        var result = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case "\r": result += "\\r"
            default:
                if scalar.isPrintable {
                    result.unicodeScalars.append(scalar)
                } else {
                    result += "\\u{\(String(scalar.value, radix: 16, uppercase: true))}"
                }
            }
        }
        return result
    }
}

extension Unicode.Scalar {
    /// Whether it stands for itself on every terminal.
    var isPrintable: Bool {
        switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: false
        default: true
        }
    }
}
