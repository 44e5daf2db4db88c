// How text output is to look: colour, width, and whether long lists are written out.

/// Whether text carries colour.
package enum Style: Hashable, Sendable {
    case plain
    /// With the terminal's own sixteen colours (ECMA-48 select graphic rendition).
    case ansi
}

/// What a text renderer is asked for.
package struct TextOptions: Hashable, Sendable {
    package var style: Style
    /// Columns within which lists are wrapped. A single word that is longer stays whole.
    package var width: Int
    /// Whether long lists are written out, which are folded otherwise.
    package var full: Bool

    package init(style: Style = .plain, width: Int = 100, full: Bool = false) {
        self.style = style
        self.width = max(40, width)
        self.full = full
    }
}

/// What a piece of text is coloured for.
enum Paint: String {
    case add = "32"
    case change = "33"
    case remove = "31"
    case heading = "1"
    case faint = "2"
}

extension TextOptions {
    func painted(_ text: String, _ paint: Paint?) -> String {
        guard style == .ansi, let paint, !text.isEmpty else { return text }
        return "\u{1B}[\(paint.rawValue)m\(text)\u{1B}[0m"
    }
}
