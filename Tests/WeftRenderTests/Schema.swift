// As much of JSON Schema as the schemas here use: enough to hold real output against them.

import FoundationEssentials
import Testing

/// Any JSON.
indirect enum JSONValue: Decodable, Equatable {
    case null
    case bool(Bool)
    case number(Double)
    case text(String)
    case list([JSONValue])
    case object([String: JSONValue])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .text(value)
        } else if let value = try? container.decode([JSONValue].self) {
            self = .list(value)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }

    subscript(key: String) -> JSONValue? {
        if case .object(let members) = self { members[key] } else { nil }
    }

    var list: [JSONValue]? { if case .list(let items) = self { items } else { nil } }
    var object: [String: JSONValue]? { if case .object(let members) = self { members } else { nil } }
    var text: String? { if case .text(let text) = self { text } else { nil } }
}

/// A schema, with what real output has shown of it.
struct Schema {
    let root: JSONValue
    /// Where schemas that this one refers to stand, below `Sources`.
    private let folder: String
    /// Properties that some output had, as paths of the schema.
    private(set) var seen: Set<String> = []
    private(set) var problems: [String] = []

    /// - Parameter path: below `Sources`.
    init(_ path: String) throws {
        let sources = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Sources")
        folder = path.components(separatedBy: "/").dropLast().joined(separator: "/")
        root = try JSONDecoder().decode(JSONValue.self, from: try Data(contentsOf: sources.appending(path: path)))
    }

    mutating func check(_ text: String) throws {
        check(try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8)), root, at: "$", of: "#", strict: true)
    }

    /// - Parameters:
    ///   - path: where `value` stands.
    ///   - name: where `schema` stands.
    ///   - strict: whether a property without a schema is a problem.
    private mutating func check(
        _ value: JSONValue, _ schema: JSONValue, at path: String, of name: String, strict: Bool
    ) {
        let known: Set = [
            "$schema", "$defs", "title", "$ref", "type", "const", "enum", "required", "properties", "items", "minimum",
            "pattern", "allOf", "if", "then",
        ]
        for keyword in (schema.object ?? [:]).keys where !known.contains(keyword) {
            problems.append("\(name): unknown keyword \(keyword)")
        }
        if let reference = schema["$ref"]?.text, reference.hasPrefix("#/$defs/") {
            let key = String(reference.dropFirst("#/$defs/".count))
            guard let target = root["$defs"]?[key] else { return problems.append("\(name): no \(reference)") }
            check(value, target, at: path, of: reference, strict: strict)
        } else if let reference = schema["$ref"]?.text {
            guard var other = try? Schema("\(folder)/\(reference)") else {
                return problems.append("\(name): no \(reference)")
            }
            other.check(value, other.root, at: path, of: "#", strict: strict)
            problems += other.problems
        }
        if let constant = schema["const"], constant != value { problems.append("\(path): is not \(constant)") }
        if let allowed = schema["enum"]?.list, !allowed.contains(value) {
            problems.append("\(path): not in \(allowed)")
        }
        if let type = schema["type"]?.text, !Self.matches(value, type) { problems.append("\(path): is not \(type)") }
        if case .number(let least)? = schema["minimum"], case .number(let number) = value, number < least {
            problems.append("\(path): under \(least)")
        }
        if let pattern = schema["pattern"]?.text, let text = value.text {
            let matches = (try? Regex(pattern)).map { text.contains($0) } ?? false
            if !matches { problems.append("\(path): \(text) does not match \(pattern)") }
        }
        for (index, item) in (value.list ?? []).enumerated() {
            if let items = schema["items"] { check(item, items, at: "\(path)[\(index)]", of: name, strict: strict) }
        }
        checkMembers(value, schema, at: path, of: name, strict: strict)
        for part in schema["allOf"]?.list ?? [] { checkCondition(value, part, at: path, of: name) }
        checkCondition(value, schema, at: path, of: name)
    }

    private mutating func checkMembers(
        _ value: JSONValue, _ schema: JSONValue, at path: String, of name: String, strict: Bool
    ) {
        guard let members = value.object else { return }
        for required in schema["required"]?.list ?? [] where members[required.text ?? ""] == nil {
            problems.append("\(path): no \(required.text ?? "")")
        }
        guard let properties = schema["properties"]?.object else { return }
        for (key, member) in members {
            if let property = properties[key] {
                if strict { seen.insert("\(name).\(key)") }
                check(member, property, at: "\(path).\(key)", of: "\(name).\(key)", strict: strict)
            } else if strict {
                problems.append("\(path).\(key): undocumented")
            }
        }
    }

    private mutating func checkCondition(_ value: JSONValue, _ schema: JSONValue, at path: String, of name: String) {
        guard let condition = schema["if"], let consequence = schema["then"] else { return }
        var trial = self
        trial.problems = []
        trial.check(value, condition, at: path, of: name, strict: false)
        if trial.problems.isEmpty { check(value, consequence, at: path, of: name, strict: false) }
    }

    private static func matches(_ value: JSONValue, _ type: String) -> Bool {
        switch (value, type) {
        case (.bool, "boolean"), (.text, "string"), (.list, "array"), (.object, "object"): true
        case (.number(let number), "integer"): number == number.rounded()
        default: false
        }
    }

    /// Every property that the schema has, as paths.
    var properties: Set<String> {
        var result: Set<String> = []
        func walk(_ schema: JSONValue, _ name: String) {
            for (key, property) in schema["properties"]?.object ?? [:] {
                result.insert("\(name).\(key)")
                walk(property, "\(name).\(key)")
            }
            if let items = schema["items"] { walk(items, name) }
        }
        walk(root, "#")
        for (key, definition) in root["$defs"]?.object ?? [:] { walk(definition, "#/$defs/\(key)") }
        return result
    }
}
