// Single values: booleans, numbers, text and lists, with what was expected and what was found.

import WeftDiagnostics
import WeftModel
import YAML

extension Reader {
    /// What stands at a node, in words: `the number 12`, `a list`. A key is never repeated.
    func found(_ id: YAMLTree.ID) -> String {
        switch tree.kind(id) {
        case .sequence: return "a list"
        case .mapping: return "a mapping"
        case .refused: return "something refused"
        case .scalar: break
        }
        if tree.isNull(id) { return "nothing" }
        if isKeyShaped(id) { return "what looks like a key" }
        let text = shown(tree.string(id))
        guard tree.isPlain(id) else { return "the text \"\(text)\"" }
        switch PlainMeaning(tree.text(id)) {
        case .boolean, .decimal, .otherBase, .otherNumber, .leadingZero, .underscored: return "`\(text)`"
        default: return "\"\(text)\""
        }
    }

    mutating func wrongType(_ what: String, _ expected: String, _ id: YAMLTree.ID, fixIts: [Diagnostic.FixIt] = []) {
        guard tree.kind(id) != .refused else { return }
        if isKeyShaped(id) { problems.hide(tree.place(id)) }
        problems.error(
            "topology.wrong-type", "\(what) must be \(expected), not \(found(id))", at: tree.place(id), fixIts: fixIts)
    }

    func replace(_ id: YAMLTree.ID, with text: String) -> Diagnostic.FixIt {
        Diagnostic.FixIt("write \(text)", replace: tree.place(id), with: text)
    }

    /// `true` or `false`, and none of YAML's other spellings.
    mutating func boolean(_ id: YAMLTree.ID, _ what: String) -> Bool? {
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            wrongType(what, "true or false", id)
            return nil
        }
        guard case .boolean(let value) = PlainMeaning(tree.text(id)) else {
            wrongType(what, "true or false", id)
            return nil
        }
        if tree.isPlain(id), tree.count(id) == (value ? 4 : 5), tree.text(id)[0] >= UInt8(ascii: "a"),
            tree.string(id) == (value ? "true" : "false")
        {
            return value
        }
        wrongType(what, "true or false", id, fixIts: [replace(id, with: value ? "true" : "false")])
        return nil
    }

    /// A whole number in decimal digits.
    mutating func number(_ id: YAMLTree.ID, _ what: String, _ range: ClosedRange<UInt32>) -> UInt32? {
        let expected = "a number from \(range.lowerBound) to \(range.upperBound)"
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            wrongType(what, expected, id)
            return nil
        }
        let meaning = PlainMeaning(tree.text(id))
        let text = tree.string(id)
        guard case .decimal = meaning else {
            reportNotDecimal(id, what, expected, meaning, text)
            return nil
        }
        let value = UInt64(text) ?? .max
        guard let small = UInt32(exactly: value), range.contains(small) else {
            problems.error(
                "topology.out-of-range", "\(what) must be \(expected), not \(shown(text))", at: tree.place(id))
            return nil
        }
        guard tree.isPlain(id) else {
            wrongType(what, expected, id, fixIts: [replace(id, with: text)])
            return nil
        }
        return small
    }

    private mutating func reportNotDecimal(
        _ id: YAMLTree.ID, _ what: String, _ expected: String, _ meaning: PlainMeaning, _ text: String
    ) {
        let place = tree.place(id)
        let value: UInt64?
        let reason: String
        switch meaning {
        case .leadingZero:
            (value, reason) = (UInt64(text), "with a leading zero it is octal to some YAML readers")
        case .otherBase:
            let digits = text.dropFirst(2).filter { $0 != "_" }
            let radix =
                text.dropFirst().first.map { $0 == "x" || $0 == "X" ? 16 : $0 == "o" || $0 == "O" ? 8 : 2 } ?? 16
            (value, reason) = (UInt64(digits, radix: radix), "write it in decimal")
        case .underscored:
            (value, reason) = (UInt64(text.filter { $0 != "_" }), "write it without underscores")
        case .sexagesimal(let number):
            (value, reason) = (number, "to YAML 1.1 this is a number in base 60")
        case .otherNumber:
            (value, reason) = (wholeNumber(text), "write it as plain digits")
        default:
            wrongType(what, expected, id)
            return
        }
        let fixIts = value.map { [replace(id, with: String($0))] } ?? []
        problems.error(
            "topology.number", "\(what) must be \(expected), not `\(shown(text))`: \(reason)", at: place, fixIts: fixIts
        )
    }

    /// The value of `1e3` or `25.0`, where it is a whole number.
    private func wholeNumber(_ text: String) -> UInt64? {
        guard let value = Double(text), value >= 0, value < 1e15, value == value.rounded() else { return nil }
        return UInt64(value)
    }

    /// Text. Without quotes it must not be anything else to any YAML reader.
    mutating func text(_ id: YAMLTree.ID, _ what: String) -> String? {
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            wrongType(what, "text", id)
            return nil
        }
        guard isText(id, what) else { return nil }
        return tree.string(id)
    }

    /// Whether a scalar is safe as text; reports it where not.
    mutating func isText(_ id: YAMLTree.ID, _ what: String) -> Bool {
        guard tree.isPlain(id) else { return true }
        let meaning = PlainMeaning(tree.text(id))
        guard meaning != .text else { return true }
        let reading: String
        switch meaning {
        case .text: return true
        case .null: reading = "nothing"
        case .boolean: reading = "a boolean"
        case .sexagesimal: reading = "a number in base 60"
        case .timestamp: reading = "a date"
        default: reading = "a number"
        }
        let text = tree.string(id)
        problems.error(
            "topology.needs-quotes",
            "\(what) is text, but `\(shown(text))` without quotes is \(reading) to YAML readers",
            at: tree.place(id), fixIts: [replace(id, with: "\"\(text)\"")])
        return false
    }

    /// A list. A single value where a list belongs is an error that shows the list.
    mutating func list(_ id: YAMLTree.ID, _ what: String, ofValues: Bool = true, ofAddresses: Bool = false)
        -> YAMLTree.Items
    {
        // Of anything but a list, `items` is empty.
        if tree.kind(id) == .sequence { return tree.items(id) }
        var fixIts: [Diagnostic.FixIt] = []
        if ofValues, tree.kind(id) == .scalar, !tree.isNull(id), !isKeyShaped(id),
            !ofAddresses || tree.string(id).contains(where: { $0 == "." || $0 == ":" })
        {
            // Commas make it a list already, but for the brackets.
            let place = tree.place(id)
            if tree.isPlain(id) { fixIts = [replace(id, with: "[\(tree.string(id))]")] }
            if place.start.line != place.end.line { fixIts = [] }
        }
        wrongType(what, "a list", id, fixIts: fixIts)
        return tree.items(id)
    }

    mutating func isMapping(_ id: YAMLTree.ID, _ what: String) -> Bool {
        if tree.kind(id) == .mapping { return true }
        wrongType(what, "a mapping", id)
        return false
    }
}
