// Lines with a sign in the first column, which a `diff` block of a forge or a mail reader colours.

import WeftPlan

/// What the first column says.
enum Sign: String {
    case none = " "
    case add = "+"
    case change = "~"
    case remove = "-"
    /// An allowed IP that another peer takes.
    case move = "→"
    case obstacle = "!"

    /// None where only a claim ends, and the setting stays as others need it.
    init(_ operation: Operation) {
        if case .sysctl(.leave) = operation { self = .none } else { self.init(operation.action) }
    }

    init(_ action: Operation.Action) {
        switch action {
        case .add: self = .add
        case .change: self = .change
        case .remove: self = .remove
        }
    }

    var paint: Paint? {
        switch self {
        case .none: nil
        case .add: .add
        case .change, .move: .change
        case .remove, .obstacle: .remove
        }
    }
}

/// A text as it grows, line by line.
struct Page {
    let options: TextOptions
    private(set) var lines: [String] = []

    init(_ options: TextOptions) {
        self.options = options
    }

    var text: String { lines.map { $0 + "\n" }.joined() }

    /// A line without a sign, from the first column on.
    mutating func plain(_ text: String, _ paint: Paint? = nil) {
        lines.append(options.painted(text, paint))
    }

    mutating func blank() {
        if let last = lines.last, !last.isEmpty { lines.append("") }
    }

    /// A section's title; of one that is a single object, with its effect.
    mutating func section(_ title: String, _ effect: String = "") {
        blank()
        lines.append("  " + options.painted(title, .heading) + effect)
    }

    /// A line with a sign; `depth` 1 is an object, 2 what belongs to it.
    mutating func item(_ sign: Sign, depth: Int = 1, _ text: String) {
        let indent = String(repeating: " ", count: 1 + 2 * depth)
        lines.append(options.painted(sign.rawValue, sign.paint) + indent + text)
    }

    /// The effect of an operation, to stand at the end of its line.
    func effect(of planned: PlannedOperation) -> String {
        "  " + options.painted(planned.effectPhrase, planned.effect.paint)
    }

    /// Prefixes and the like, wrapped below an object. Without `full`, what goes beyond `limit` is only counted.
    mutating func list(_ sign: Sign, depth: Int = 2, _ items: [String], noun: String, limit: Int = 12) {
        var shown = items
        var rest = 0
        if !options.full, items.count > limit + 1 {
            shown = Array(items.prefix(limit))
            rest = items.count - limit
        }
        for line in wrapped(shown, width: options.width - 2 - 2 * depth) { item(sign, depth: depth, line) }
        if rest > 0 { more(sign, depth: depth, counted(rest, "more \(noun)")) }
    }

    /// A line that counts what is folded away.
    mutating func more(_ sign: Sign, depth: Int = 1, _ text: String) {
        item(sign, depth: depth, options.painted("… \(text) (--full lists them)", .faint))
    }
}
