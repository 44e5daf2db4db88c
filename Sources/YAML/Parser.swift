// libyaml's events, turned into a `YAMLTree`; what a topology never needs (anchors, tags, documents) is refused here.

private import CYAML
package import WeftDiagnostics

/// Reads one YAML file.
package enum YAML {
    /// Collections inside collections. libyaml's scanner is quadratic in the depth of brackets, so this is tested
    /// before it can see more of them.
    package static let depthLimit = 32

    /// Parses the file at `index` of `files`. Without a tree there is at least one error, or the file holds nothing.
    /// A tree may come with errors beside it: refused parts are marked, so that a reader can report the rest too.
    package static func parse(_ files: SourceFiles, _ index: UInt32) -> (tree: YAMLTree?, diagnostics: [Diagnostic]) {
        let bytes = files[index].bytes
        var check = SourceCheck(file: index)
        check.run(bytes)
        guard check.problems.isEmpty else { return (nil, check.problems) }
        guard var builder = TreeBuilder(file: index, source: bytes) else {
            return (nil, [Diagnostic("yaml.memory", "no memory to read the file", at: nil)])
        }
        let isComplete = unsafe builder.build()
        let tree = builder.tree
        return (isComplete && tree.nodeCount > 0 ? tree : nil, builder.diagnostics)
    }
}

/// Owns libyaml's parser for one file.
@safe
private struct TreeBuilder: ~Copyable {
    private struct Open {
        var node: Int
        var isMapping: Bool
        /// In a mapping: the next child is a key.
        var expectsKey: Bool
        /// Where this mapping's keys begin in `keys`.
        var firstKey: Int
    }

    private struct Key {
        var hash: UInt64
        var node: UInt32
    }

    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private let source: [UInt8]
    private(set) var tree: YAMLTree
    private(set) var diagnostics: [Diagnostic] = []
    private var open: [Open] = []
    private var keys: [Key] = []
    private var documents = 0

    /// More refusals than this in one file, and it is not read on.
    private static let refusalLimit = 100

    init?(file: UInt32, source: [UInt8]) {
        unsafe parser = .allocate(capacity: 1)
        self.source = source
        tree = YAMLTree(file: file)
        tree.nodes.reserveCapacity(source.count / 12 + 4)
        tree.pool.reserveCapacity(source.count)
        guard unsafe yaml_parser_initialize(parser) == 1 else {
            unsafe parser.deallocate()
            return nil
        }
        unsafe yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
    }

    deinit {
        unsafe yaml_parser_delete(parser)
        unsafe parser.deallocate()
    }

    /// Reads every event. False where reading had to stop.
    @unsafe
    mutating func build() -> Bool {
        let source = self.source
        return unsafe source.withUnsafeBufferPointer { buffer in
            // libyaml counts a byte-order mark as a column, and then takes the second line for one of another block.
            let mark = source.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
            unsafe yaml_parser_set_input_string(
                parser, buffer.baseAddress.map { unsafe $0 + mark }, buffer.count - mark)
            var event = unsafe yaml_event_t()
            while true {
                guard unsafe yaml_parser_parse(parser, &event) == 1 else {
                    let error = unsafe syntaxError()
                    // What libyaml could read of a value may have been reported already.
                    if !diagnostics.contains(where: { $0.id == error.id && $0.place?.start == error.place?.start }) {
                        diagnostics.append(error)
                    }
                    return false
                }
                let type = unsafe event.type
                let goesOn = unsafe take(&event)
                unsafe yaml_event_delete(&event)
                if !goesOn { return false }
                if type == YAML_STREAM_END_EVENT { return true }
            }
        }
    }

    @unsafe
    private mutating func take(_ event: inout yaml_event_t) -> Bool {
        switch unsafe event.type {
        case YAML_DOCUMENT_START_EVENT:
            documents += 1
            if documents > 1 {
                refuse(
                    "yaml.documents", "a second document starts here: a topology file holds one",
                    at: unsafe range(event.start_mark, event.end_mark),
                    notes: [Diagnostic.Note("put it into a file of its own: all files of the folder are merged")])
                return false
            }
            if unsafe event.data.document_start.tag_directives.start != nil {
                refuse(
                    "yaml.tag", "%TAG is not accepted in a topology", at: unsafe range(event.start_mark, event.end_mark)
                )
            }
        case YAML_SCALAR_EVENT:
            unsafe refuseProperties(event.data.scalar.anchor, event.data.scalar.tag, at: event.start_mark)
            unsafe addScalar(event)
        case YAML_SEQUENCE_START_EVENT:
            unsafe refuseProperties(
                event.data.sequence_start.anchor, event.data.sequence_start.tag, at: event.start_mark)
            return unsafe begin(
                .sequence, event, isFlow: event.data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE)
        case YAML_MAPPING_START_EVENT:
            unsafe refuseProperties(event.data.mapping_start.anchor, event.data.mapping_start.tag, at: event.start_mark)
            return unsafe begin(.mapping, event, isFlow: event.data.mapping_start.style == YAML_FLOW_MAPPING_STYLE)
        case YAML_SEQUENCE_END_EVENT, YAML_MAPPING_END_EVENT:
            unsafe end(event)
        case YAML_ALIAS_EVENT:
            let place = unsafe range(event.start_mark, event.end_mark)
            refuse(
                "yaml.alias", "aliases are not accepted in a topology", at: place,
                notes: [Diagnostic.Note("what all nodes share belongs under `defaults:`")])
            add(YAMLTree.Node(kind: .refused, start: place.start, end: place.end, next: UInt32(tree.nodes.count + 1)))
        default:
            break
        }
        return diagnostics.count < Self.refusalLimit
    }

    @unsafe
    private mutating func addScalar(_ event: yaml_event_t) {
        let scalar = unsafe event.data.scalar
        let place = unsafe range(event.start_mark, event.end_mark)
        var node = YAMLTree.Node(
            kind: .scalar, start: place.start, end: place.end, next: UInt32(tree.nodes.count + 1))
        node.text = UInt32(tree.pool.count)
        node.count = unsafe UInt32(scalar.length)
        node.isPlain = unsafe scalar.style == YAML_PLAIN_SCALAR_STYLE
        unsafe tree.pool.append(contentsOf: UnsafeBufferPointer(start: scalar.value, count: scalar.length))
        if node.isPlain, node.count > 0, tree.pool[Int(node.text)] >= 0x80 { readWithoutPrintedQuotes(&node) }
        add(node)
    }

    /// Quotes of print are an error, and what stands in them is read as it was meant.
    private mutating func readWithoutPrintedQuotes(_ node: inout YAMLTree.Node) {
        var text = String(decoding: tree.pool[Int(node.text)...], as: UTF8.self).unicodeScalars
        guard let quote = text.first, isPrintedQuote(quote.value) else { return }
        text.removeFirst()
        // Without the second one, the value ended before it did for whoever wrote it.
        let isWhole = text.last.map { isPrintedQuote($0.value) } ?? false
        if isWhole { text.removeLast() }
        let inner = String(text)
        let place = SourceRange(file: tree.file, start: node.start, end: node.end)
        // What may be a secret is not repeated.
        let isPlain = hidingKeys(inner) == inner && !inner.contains("\"") && !inner.contains("\\")
        let quoted = Diagnostic.FixIt("write \"\(shown(inner))\"", replace: place, with: "\"\(inner)\"")
        diagnostics.append(
            Diagnostic("yaml.quotes", printedQuoteMessage(quote), at: place, fixIts: isPlain && isWhole ? [quoted] : [])
        )
        tree.pool.removeSubrange(Int(node.text)...)
        tree.pool += Array(inner.utf8)
        node.count = UInt32(tree.pool.count) - node.text
        node.isPlain = false
    }

    @unsafe
    private mutating func begin(_ kind: YAMLTree.Kind, _ event: yaml_event_t, isFlow: Bool) -> Bool {
        let place = unsafe range(event.start_mark, event.end_mark)
        guard open.count < YAML.depthLimit else {
            refuse("yaml.depth", "nested more than \(YAML.depthLimit) levels deep", at: place)
            return false
        }
        if let last = open.last, last.isMapping, last.expectsKey {
            refuse("yaml.key", "a key must be a plain word, not a list or a mapping", at: place)
        }
        var node = YAMLTree.Node(kind: kind, start: place.start, end: place.end, next: 0)
        node.isFlow = isFlow
        let index = tree.nodes.count
        add(node)
        open.append(Open(node: index, isMapping: kind == .mapping, expectsKey: true, firstKey: keys.count))
        return true
    }

    @unsafe
    private mutating func end(_ event: yaml_event_t) {
        guard let closed = open.popLast() else { return }
        let count = tree.nodes.count
        tree.nodes[closed.node].next = UInt32(count)
        if tree.nodes[closed.node].isFlow {
            tree.nodes[closed.node].end = unsafe range(event.start_mark, event.end_mark).end
        } else if count > closed.node + 1 {
            // libyaml ends a block where the next one begins, blank lines and comments later.
            tree.nodes[closed.node].end = tree.nodes[count - 1].end
        }
        if closed.isMapping { findDuplicates(from: closed.firstKey) }
    }

    /// Appends a node, counts it at its parent, and remembers it if it is a key.
    private mutating func add(_ node: YAMLTree.Node) {
        let index = tree.nodes.count
        tree.nodes.append(node)
        guard let last = open.indices.last else { return }
        let parent = open[last].node
        if open[last].isMapping {
            if open[last].expectsKey {
                tree.nodes[parent].count += 1
                if node.kind == .scalar { remember(index) }
            }
            open[last].expectsKey.toggle()
        } else {
            tree.nodes[parent].count += 1
        }
    }

    private mutating func remember(_ index: Int) {
        let node = tree.nodes[index]
        let (hash, isMerge) = Self.digest(tree.text(YAMLTree.ID(UInt32(index))), isPlain: node.isPlain)
        keys.append(Key(hash: hash, node: UInt32(index)))
        if isMerge {
            refuse(
                "yaml.merge", "merge keys are not accepted in a topology",
                at: SourceRange(file: tree.file, start: node.start, end: node.end),
                notes: [Diagnostic.Note("what all nodes share belongs under `defaults:`")])
            tree.nodes[index].kind = .refused
        }
    }

    /// FNV-1a of a key, and whether it is `<<`.
    private static func digest(_ text: Span<UInt8>, isPlain: Bool) -> (hash: UInt64, isMerge: Bool) {
        var hash: UInt64 = 14_695_981_039_346_656_037
        for offset in text.indices { hash = (hash ^ UInt64(text[offset])) &* 1_099_511_628_211 }
        let angle = UInt8(ascii: "<")
        return (hash, isPlain && text.count == 2 && text[0] == angle && text[1] == angle)
    }

    private mutating func findDuplicates(from first: Int) {
        defer { keys.removeSubrange(first...) }
        let count = keys.count - first
        if count <= 12 {
            for later in first..<keys.count {
                for earlier in first..<later where keys[earlier].hash == keys[later].hash {
                    reportIfEqual(keys[earlier].node, keys[later].node)
                    break
                }
            }
            return
        }
        let sorted = keys[first...].sorted { ($0.hash, $0.node) < ($1.hash, $1.node) }
        var start = 0
        for index in 1..<sorted.count {
            if sorted[index].hash != sorted[start].hash {
                start = index
            } else {
                reportIfEqual(sorted[start].node, sorted[index].node)
            }
        }
    }

    private mutating func reportIfEqual(_ first: UInt32, _ second: UInt32) {
        let name = tree.string(YAMLTree.ID(first))
        guard name == tree.string(YAMLTree.ID(second)) else { return }
        refuse(
            "yaml.duplicate-key", "\"\(shown(name))\" is given twice", at: tree.place(YAMLTree.ID(second)),
            notes: [Diagnostic.Note("the first one is here", at: tree.place(YAMLTree.ID(first)))])
        tree.nodes[Int(second)].kind = .refused
    }

    @unsafe
    private mutating func refuseProperties(
        _ anchor: UnsafeMutablePointer<yaml_char_t>?, _ tag: UnsafeMutablePointer<yaml_char_t>?, at mark: yaml_mark_t
    ) {
        guard unsafe anchor != nil || tag != nil else { return }
        let place = range(mark, mark)
        if unsafe anchor != nil {
            refuse(
                "yaml.anchor", "anchors are not accepted in a topology", at: place,
                notes: [Diagnostic.Note("a value that starts with `&` needs quotes")])
        }
        if unsafe tag != nil {
            refuse(
                "yaml.tag", "tags are not accepted in a topology", at: place,
                notes: [Diagnostic.Note("a value that starts with `!` needs quotes")])
        }
    }

    private mutating func refuse(_ id: String, _ message: String, at place: SourceRange, notes: [Diagnostic.Note] = [])
    {
        diagnostics.append(Diagnostic(id, message, at: place, notes: notes))
    }

    private func range(_ start: yaml_mark_t, _ end: yaml_mark_t) -> SourceRange {
        SourceRange(file: tree.file, start: position(start), end: position(end))
    }

    @unsafe
    private func syntaxError() -> Diagnostic {
        let parser = unsafe self.parser.pointee
        func text(_ pointer: UnsafePointer<CChar>?) -> String {
            unsafe pointer.map { unsafe String(cString: $0) } ?? ""
        }
        let failure = SyntaxFailure(
            problem: unsafe text(parser.problem), place: unsafe position(parser.problem_mark),
            context: unsafe text(parser.context), contextPlace: unsafe position(parser.context_mark))
        return failure.diagnostic(file: tree.file, source: source)
    }
}

private func position(_ mark: yaml_mark_t) -> SourcePosition {
    SourcePosition(line: UInt32(truncatingIfNeeded: mark.line + 1), column: UInt32(truncatingIfNeeded: mark.column + 1))
}
