// "Did you mean …?": the known name that is nearest to what was written.

/// The nearest of `names` to `text`, where it is near enough to be meant: case and separators count little.
func nearest(to text: String, among names: some Sequence<String>) -> String? {
    let wanted = Array(text.utf8)
    guard wanted.count <= 64 else { return nil }
    let folded = fold(wanted)
    var best: (name: String, distance: Int)?
    for name in names {
        let candidate = Array(name.utf8)
        if fold(candidate) == folded { return name }
        let limit = min(best.map { $0.distance - 1 } ?? 3, max(1, min(wanted.count, candidate.count) / 3))
        guard abs(candidate.count - wanted.count) <= limit else { continue }
        let distance = editDistance(wanted, candidate)
        if distance <= limit { best = (name, distance) }
    }
    return best?.name
}

/// Lower case, without `_` and `-`.
private func fold(_ text: [UInt8]) -> [UInt8] {
    text.compactMap { byte in
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): byte | 0x20
        case UInt8(ascii: "_"), UInt8(ascii: "-"): nil
        default: byte
        }
    }
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other.
func editDistance(_ left: [UInt8], _ right: [UInt8]) -> Int {
    var beforeLast = [Int](repeating: 0, count: right.count + 1)
    var last = Array(0...right.count)
    var current = last
    for row in left.indices {
        current[0] = row + 1
        for column in right.indices {
            let cost = left[row] == right[column] ? 0 : 1
            var value = min(last[column + 1] + 1, current[column] + 1, last[column] + cost)
            if row > 0, column > 0, left[row] == right[column - 1], left[row - 1] == right[column] {
                value = min(value, beforeLast[column - 1] + 1)
            }
            current[column + 1] = value
        }
        (beforeLast, last, current) = (last, current, beforeLast)
    }
    return last[right.count]
}
