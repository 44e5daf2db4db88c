// A YAML document as a flat arena: one array of nodes in document order, one pool of bytes for all scalars.

package import WeftDiagnostics

/// One document. Children of a node follow it directly; `next` skips over a whole subtree, so a walk allocates nothing.
@frozen
package struct YAMLTree: Sendable {
    /// Names a node of one tree: its index in document order.
    @frozen
    package struct ID: Hashable, Sendable {
        @usableFromInline let index: UInt32

        @inlinable
        init(_ index: UInt32) { self.index = index }
    }

    @frozen
    package enum Kind: UInt8, Sendable {
        case scalar, sequence, mapping
        /// An alias, or a key that is not text: an error stands for it already, so readers pass over it.
        case refused
    }

    @usableFromInline
    @frozen
    struct Node: Sendable {
        @usableFromInline var start: SourcePosition
        @usableFromInline var end: SourcePosition
        /// The scalar's bytes in the pool.
        @usableFromInline var text: UInt32
        /// Bytes of a scalar; items of a sequence; pairs of a mapping.
        @usableFromInline var count: UInt32
        /// The index after the last descendant.
        @usableFromInline var next: UInt32
        @usableFromInline var kind: Kind
        @usableFromInline var isPlain: Bool
        @usableFromInline var isFlow: Bool

        @inlinable
        init(kind: Kind, start: SourcePosition, end: SourcePosition, next: UInt32) {
            self.kind = kind
            self.start = start
            self.end = end
            self.next = next
            text = 0
            count = 0
            isPlain = false
            isFlow = false
        }
    }

    /// The index of the file in the `SourceFiles` that were read.
    package let file: UInt32
    @usableFromInline var nodes: [Node] = []
    @usableFromInline var pool: [UInt8] = []

    init(file: UInt32) {
        self.file = file
    }

    /// A tree of nothing, to start from.
    package static var empty: YAMLTree { YAMLTree(file: 0) }

    @inlinable package var root: ID { ID(0) }
    @inlinable package var nodeCount: Int { nodes.count }

    @inlinable package func kind(_ id: ID) -> Kind { nodes[Int(id.index)].kind }

    /// Items of a sequence, pairs of a mapping, bytes of a scalar.
    @inlinable package func count(_ id: ID) -> Int { Int(nodes[Int(id.index)].count) }

    /// Whether a scalar was written without quotes, or a block style, around it.
    @inlinable package func isPlain(_ id: ID) -> Bool { nodes[Int(id.index)].isPlain }

    /// Whether a collection was written in brackets or braces.
    @inlinable package func isFlow(_ id: ID) -> Bool { nodes[Int(id.index)].isFlow }

    /// From the first character to the one after the last; quotes and brackets belong to it.
    @inlinable
    package func place(_ id: ID) -> SourceRange {
        let node = nodes[Int(id.index)]
        return SourceRange(file: file, start: node.start, end: node.end)
    }

    /// The scalar's text, with quotes and escapes resolved. Empty for a collection.
    @inlinable
    @_lifetime(borrow self)
    package func text(_ id: ID) -> Span<UInt8> {
        let node = nodes[Int(id.index)]
        guard node.kind == .scalar else { return pool.span.extracting(first: 0) }
        let start = Int(node.text)
        return pool.span.extracting(start..<start + Int(node.count))
    }

    /// As `text`, copied.
    @inlinable
    package func string(_ id: ID) -> String {
        let node = nodes[Int(id.index)]
        guard node.kind == .scalar else { return "" }
        let start = Int(node.text)
        return String(decoding: pool[start..<start + Int(node.count)], as: UTF8.self)
    }

    /// Whether nothing was written: an empty value, `~` or `null`, without quotes.
    @inlinable
    package func isNull(_ id: ID) -> Bool {
        let node = nodes[Int(id.index)]
        guard node.kind == .scalar, node.isPlain else { return false }
        switch node.count {
        case 0: return true
        case 1: return pool[Int(node.text)] == UInt8(ascii: "~")
        case 4:
            let text = string(id)
            return text == "null" || text == "Null" || text == "NULL"
        default: return false
        }
    }

    @inlinable
    package func items(_ id: ID) -> Items { Items(tree: self, id: id) }

    @inlinable
    package func pairs(_ id: ID) -> Pairs { Pairs(tree: self, id: id) }

    /// Goes from child to child of a collection of one kind; of anything else there is none.
    @frozen
    @usableFromInline
    struct Children: Sendable {
        @usableFromInline let tree: YAMLTree
        @usableFromInline var index: UInt32
        @usableFromInline let end: UInt32

        @inlinable
        init(_ tree: YAMLTree, _ id: ID, of kind: Kind) {
            self.tree = tree
            let node = tree.nodes[Int(id.index)]
            index = id.index + 1
            end = node.kind == kind ? node.next : index
        }

        @inlinable
        mutating func next() -> ID? {
            guard index < end else { return nil }
            let id = ID(index)
            index = tree.nodes[Int(index)].next
            return id
        }
    }

    /// The items of a sequence; empty for anything else.
    @frozen
    package struct Items: Sequence, IteratorProtocol {
        @usableFromInline var children: Children

        @inlinable
        init(tree: YAMLTree, id: ID) { children = Children(tree, id, of: .sequence) }

        @inlinable
        package mutating func next() -> ID? { children.next() }
    }

    /// The keys and values of a mapping, as written; empty for anything else.
    @frozen
    package struct Pairs: Sequence, IteratorProtocol {
        @usableFromInline var children: Children

        @inlinable
        init(tree: YAMLTree, id: ID) { children = Children(tree, id, of: .mapping) }

        @inlinable
        package mutating func next() -> (key: ID, value: ID)? {
            guard let key = children.next(), let value = children.next() else { return nil }
            return (key, value)
        }
    }
}
