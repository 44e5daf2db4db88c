// The problems of one reading: collected, capped for each file, and put in order.

import WeftDiagnostics

/// Collects diagnostics. A broken generator can make a million of them; each file keeps the first ones and a count.
struct Problems {
    private var list: [Diagnostic] = []
    private var counts: [UInt32: Int] = [:]
    private var errors: [UInt32: Int] = [:]
    private var secrets: [SourceRange] = []
    private(set) var hasErrors = false
    /// How many there are, also of those that are not kept.
    private(set) var total = 0

    /// Stored for each file while reading; places may come in any order, so more than are shown.
    private static let storedPerFile = 2000
    /// Shown for each file.
    private static let shownPerFile = 100

    mutating func add(_ diagnostic: Diagnostic) {
        if diagnostic.severity == .error { hasErrors = true }
        let file = diagnostic.place?.file ?? .max
        counts[file, default: 0] += 1
        total += 1
        if diagnostic.severity == .error { errors[file, default: 0] += 1 }
        if counts[file, default: 0] <= Self.storedPerFile { list.append(diagnostic) }
    }

    mutating func error(
        _ id: String, _ message: String, at place: SourceRange?, notes: [Diagnostic.Note] = [],
        fixIts: [Diagnostic.FixIt] = []
    ) {
        add(Diagnostic(id, .error, message, at: place, notes: notes, fixIts: fixIts))
    }

    mutating func warning(
        _ id: String, _ message: String, at place: SourceRange?, notes: [Diagnostic.Note] = [],
        fixIts: [Diagnostic.FixIt] = []
    ) {
        add(Diagnostic(id, .warning, message, at: place, notes: notes, fixIts: fixIts))
    }

    mutating func note(_ id: String, _ message: String, at place: SourceRange?, notes: [Diagnostic.Note] = []) {
        add(Diagnostic(id, .note, message, at: place, notes: notes))
    }

    /// Counts one more error in a file that has so many that none more will be shown; false where it has not. Spares the
    /// work of explaining it.
    mutating func isCounted(in file: UInt32) -> Bool {
        guard counts[file, default: 0] >= Self.storedPerFile else { return false }
        counts[file, default: 0] += 1
        total += 1
        errors[file, default: 0] += 1
        return true
    }

    /// Marks a place that no formatter may show.
    mutating func hide(_ place: SourceRange) {
        secrets.append(place)
    }

    /// All problems by place; what has none comes first. Errors are kept before the rest where a file has too many.
    func sorted() -> [Diagnostic] {
        var sorted = list.sorted { left, right in
            switch (left.place, right.place) {
            case (nil, nil): (left.severity, left.message) < (right.severity, right.message)
            case (nil, _): true
            case (_, nil): false
            case (let first?, let second?):
                (first, left.severity, left.id, left.message) < (second, right.severity, right.id, right.message)
            }
        }
        sorted = capped(sorted)
        if !secrets.isEmpty {
            for index in sorted.indices { sorted[index].secrets = secrets }
        }
        return sorted
    }

    private func capped(_ sorted: [Diagnostic]) -> [Diagnostic] {
        guard counts.values.contains(where: { $0 > Self.shownPerFile }) else { return sorted }
        var result: [Diagnostic] = []
        var shown: [UInt32: Int] = [:]
        var shownErrors: [UInt32: Int] = [:]
        var lastPlace: [UInt32: SourceRange] = [:]
        for diagnostic in sorted {
            let file = diagnostic.place?.file ?? .max
            let isCrowded = counts[file, default: 0] > Self.shownPerFile
            // In a crowded file that has errors, only they are shown.
            if isCrowded, errors[file, default: 0] > 0, diagnostic.severity != .error { continue }
            guard shown[file, default: 0] < Self.shownPerFile else { continue }
            shown[file, default: 0] += 1
            if diagnostic.severity == .error { shownErrors[file, default: 0] += 1 }
            lastPlace[file] = diagnostic.place
            result.append(diagnostic)
        }
        for (file, count) in counts.sorted(by: { $0.key < $1.key }) where count > shown[file, default: 0] {
            let more = count - shown[file, default: 0]
            let moreErrors = errors[file, default: 0] - shownErrors[file, default: 0]
            result.append(
                Diagnostic(
                    Diagnostic.unshownID, moreErrors > 0 ? .error : .note,
                    "\(more) more problems in this file, \(moreErrors) of them errors, are not shown",
                    at: lastPlace[file].map { SourceRange(file: file, start: $0.start, end: $0.start) }))
        }
        return result
    }
}
