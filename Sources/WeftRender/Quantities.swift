// Numbers as people read them: counts, bytes, durations, and lists of words.

extension BinaryInteger {
    /// With commas at the thousands: `10,000`.
    var grouped: String {
        let digits = String(magnitude)
        var result = ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index).isMultiple(of: 3) { result.append(",") }
            result.append(digit)
        }
        return self < 0 ? "-" + result : result
    }
}

/// `1 route`, `2 routes`, `10,000 routes`.
func counted(_ count: Int, _ noun: String, plural: String? = nil) -> String {
    "\(count.grouped) \(count == 1 ? noun : plural ?? noun + "s")"
}

/// Bytes as `wg show` prints them: `0 B`, `1.20 KiB`, `3.40 TiB`.
func byteText(_ bytes: UInt64) -> String {
    if bytes < 1024 { return "\(bytes) B" }
    var shift: UInt64 = 10
    var units = ["KiB", "MiB", "GiB", "TiB"][...]
    while units.count > 1, bytes >> (shift + 10) > 0 {
        shift += 10
        units.removeFirst()
    }
    let rest = bytes & ((1 << shift) - 1)
    let hundredths = (bytes >> shift) * 100 + (rest * 100 + (1 << (shift - 1))) >> shift
    let decimals = hundredths % 100
    return "\(hundredths / 100).\(decimals < 10 ? "0" : "")\(decimals) \(units.first ?? "")"
}

/// The two largest units of a duration: `23s`, `1m 23s`, `2h 5m`, `3d 4h`.
func durationText(seconds: Int64) -> String {
    let seconds = max(0, seconds)
    switch seconds {
    case ..<60: return "\(seconds)s"
    case ..<3600: return "\(seconds / 60)m \(seconds % 60)s"
    case ..<86_400: return "\(seconds / 3600)h \(seconds / 60 % 60)m"
    default: return "\((seconds / 86_400).grouped)d \(seconds / 3600 % 24)h"
    }
}

/// `a`, `a and b`, `a, b and c`; of more than `limit`, the first ones and `and 7 more`.
func enumerated(_ words: [String], limit: Int = 3) -> String {
    if words.count > limit + 1 {
        return words.prefix(limit).joined(separator: ", ") + " and \((words.count - limit).grouped) more"
    }
    guard let last = words.last, words.count > 1 else { return words.first ?? "" }
    return words.dropLast().joined(separator: ", ") + " and " + last
}

extension String {
    /// How many columns of a terminal it takes, once it is visible text.
    var columns: Int {
        utf8.allSatisfy { $0 < 0x80 } ? utf8.count : unicodeScalars.reduce(0) { $0 + DisplayCell($1).width }
    }

    /// Filled with blanks on the right to `width` columns.
    package func padded(to width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - columns))
    }

    /// The text as far as it fits into `width` columns; what is cut off is marked. Colours take no room, and end with it.
    func cut(to width: Int) -> String {
        var text = ""
        // As far as there is room for the mark as well.
        var marked = ""
        var room = width
        var isPaint = false
        for scalar in unicodeScalars {
            if scalar == "\u{1B}" { isPaint = true }
            if isPaint {
                if scalar == "m" { isPaint = false }
            } else {
                if room > 0 { marked = text }
                room -= DisplayCell(scalar).width
                if room < 0 { return width > 0 ? marked + "…" + (marked.contains("\u{1B}") ? "\u{1B}[0m" : "") : "" }
            }
            text.unicodeScalars.append(scalar)
        }
        return text
    }

    /// Filled with blanks on the left to `width` columns.
    func aligned(to width: Int) -> String {
        String(repeating: " ", count: max(0, width - columns)) + self
    }
}

/// The items joined by commas, in lines of at most `width` characters, each with as many whole items as fit.
func wrapped(_ items: [String], width: Int) -> [String] {
    var lines: [String] = []
    var line = ""
    for (index, item) in items.enumerated() {
        let word = index == items.count - 1 ? item : item + ","
        if line.isEmpty {
            line = word
        } else if line.columns + 1 + word.columns <= width {
            line += " " + word
        } else {
            lines.append(line)
            line = word
        }
    }
    if !line.isEmpty { lines.append(line) }
    return lines
}
