// Sets and their elements as nf_tables tells of them.

import CLinux
import Glibc
import Netlink
import WeftModel

/// Takes the named sets of one table, without their elements. Sets without a name belong to rules, and go with these.
struct SetReading: MessageConsumer {
    private(set) var sets: [FirewallSet] = []
    private(set) var strangers: [String] = []

    mutating func reset() { self = SetReading() }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWSET) else { return true }
        var words = NftSetWords()
        var keyLength: UInt32 = 0
        var lengths: [UInt32] = []
        // What is strange, and nft has no word for.
        var oddities: [String] = []
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            switch nft_set_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_SET_NAME: words.name = String(kernelText: attributes.payload)
            case NFTA_SET_FLAGS: words.flags = attributes.number()
            case NFTA_SET_KEY_TYPE: words.keyType = attributes.number()
            case NFTA_SET_KEY_LEN: keyLength = attributes.number()
            case NFTA_SET_OBJ_TYPE: words.objectType = attributes.number()
            case NFTA_SET_DESC: if !Self.read(attributes.payload, &lengths, &words, &oddities) { return false }
            case NFTA_SET_TIMEOUT: words.timeout = UInt64(bigEndian: attributes.uint64())
            case NFTA_SET_GC_INTERVAL: words.collection = attributes.number()
            case NFTA_SET_POLICY:
                if attributes.number() != NFT_SET_POL_PERFORMANCE.rawValue { words.more.append("policy memory") }
            case NFTA_SET_EXPR, NFTA_SET_EXPRESSIONS: words.more.append("with statements")
            case NFTA_SET_DATA_TYPE: words.dataType = attributes.number()
            case NFTA_SET_USERDATA:
                let isWhole = NftNote.each(attributes.payload) { type, value in
                    switch type {
                    case NftNote.autoMerge:
                        if value.load(at: 0, as: UInt32.self) != 0 { words.more.append("auto-merge") }
                    case NftNote.setComment: words.more.append("comment \"\(String(kernelText: value))\"")
                    case _ where NftNote.harmlessOfSet.contains(type): break
                    default: oddities.append("note \(type)")
                    }
                }
                if !isWhole { oddities.append("notes") }
            // Newer kernels than the headers tell how the set is kept and how full it is. That, and what yet newer ones may
            // add, is no configuration: that comes with a flag.
            default: break
            }
        }
        if attributes.isMalformed { return false }
        if words.flags & NFT_SET_ANONYMOUS.rawValue != 0 { return true }
        if oddities.isEmpty, let set = words.own(keyLength: keyLength, lengths) {
            sets.append(set)
        } else {
            // What the elements of another kind of set mean is not known: it is made anew anyway.
            words.more += oddities
            strangers.append(words.text)
        }
        return true
    }

    /// Reads a set's description: how many elements it may have, and how long the fields of its keys are.
    private static func read(
        _ description: RawSpan, _ lengths: inout [UInt32], _ words: inout NftSetWords, _ oddities: inout [String]
    ) -> Bool {
        var attributes = Attributes(description)
        while attributes.next() {
            switch nft_set_desc_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_SET_DESC_SIZE: words.size = attributes.number()
            case NFTA_SET_DESC_CONCAT:
                var list = attributes.nested()
                while list.next() {
                    var field = list.nested()
                    while field.next() {
                        if field.type == UInt16(NFTA_SET_FIELD_LEN) { lengths.append(field.number()) }
                    }
                    list.check(field)
                }
                attributes.check(list)
            default: oddities.append("description")
            }
        }
        return !attributes.isMalformed
    }
}

extension NftSetWords {
    /// The set as one of Weft's; nil where it is any other.
    ///
    /// - Parameter lengths: of the key's fields, in bytes; empty where the kernel does not say.
    fileprivate func own(keyLength: UInt32, _ lengths: [UInt32]) -> FirewallSet? {
        guard let fields = FirewallSet.fields(keyType: keyType), timeout == 0, collection == 0, size == 0, more.isEmpty
        else { return nil }
        let set = FirewallSet(name, fields, hasCounters: flags & NFT_SET_OBJECT.rawValue != 0)
        let expected = set.isConcatenation ? fields.map { UInt32($0.size) } : []
        guard flags == set.flags, !set.hasCounters || objectType == UInt32(NFT_OBJECT_COUNTER),
            keyLength == UInt32(set.keyLength), lengths == expected || lengths.isEmpty
        else { return nil }
        return set
    }
}

/// Takes the elements of one set.
struct ElementReading: MessageConsumer {
    private let isConcatenation: Bool
    private let keyLength: Int
    /// Boxes of ranges; in the kernel's order.
    private var elements: [FirewallSet.Element] = []
    /// Of a set with one field: where ranges begin and end.
    private var points: [Point] = []
    /// What elements have that Weft's never have: `timeout`.
    private(set) var oddities: Set<String> = []
    /// The counter that the last element named, and its bytes: most likely the next one names it too.
    private var counter = ""
    private var counterWords: (UInt64, UInt64) = (0, 0)

    /// Where a range begins, or the first key behind it.
    fileprivate struct Point: Comparable {
        var key: FirewallKey
        var counter: String
        var isEnd: Bool

        static func == (left: Point, right: Point) -> Bool { left.key == right.key && left.isEnd == right.isEnd }
        /// Where one range ends and another begins, it ends first.
        static func < (left: Point, right: Point) -> Bool {
            left.key == right.key ? left.isEnd && !right.isEnd : left.key < right.key
        }
    }

    /// - Parameter expected: how many there were last time.
    init(_ set: FirewallSet, expecting expected: Int = 0) {
        isConcatenation = set.isConcatenation
        keyLength = set.keyLength
        if isConcatenation { elements.reserveCapacity(expected) } else { points.reserveCapacity(expected * 2) }
    }

    mutating func reset() {
        elements.removeAll(keepingCapacity: true)
        points.removeAll(keepingCapacity: true)
        oddities = []
    }

    /// All that were taken, ascending; nil where one came twice: then the answer cannot be believed.
    mutating func finish() -> [FirewallSet.Element]? {
        guard isConcatenation else { return ranges() }
        if elements.isAscending { return elements }
        elements.sort { $0.key < $1.key }
        return elements.isAscending ? elements : nil
    }

    /// A range ends before the next point, whichever that is; the last one at the end of all keys.
    private mutating func ranges() -> [FirewallSet.Element]? {
        // The kernel begins at the highest.
        points.reverse()
        if !points.isAscending {
            points.sort()
            guard points.isAscending else { return nil }
        }
        var elements: [FirewallSet.Element] = []
        elements.reserveCapacity(points.count / 2)
        let points = points.span
        let last = FirewallKey.last(of: keyLength)
        for index in points.indices where !points[index].isEnd {
            let upper = index + 1 < points.count ? points[index + 1].key.previous(of: keyLength) : nil
            elements.append(
                FirewallSet.Element(points[index].key, upper ?? last, counter: points[index].counter))
        }
        return elements
    }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWSETELEM) else { return true }
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            guard attributes.type == UInt16(NFTA_SET_ELEM_LIST_ELEMENTS) else { continue }
            var list = attributes.nested()
            while list.next() {
                if !take(element: list.payload) { return false }
            }
            attributes.check(list)
        }
        return !attributes.isMalformed
    }

    @inline(__always)
    private mutating func take(element: RawSpan) -> Bool {
        var (lower, upper) = (FirewallKey(), FirewallKey())
        var name = ""
        var flags: UInt32 = 0
        var attributes = Attributes(element)
        while attributes.next() {
            switch nft_set_elem_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_SET_ELEM_KEY: if !read(attributes.payload, into: &lower) { return false }
            case NFTA_SET_ELEM_KEY_END: if !read(attributes.payload, into: &upper) { return false }
            case NFTA_SET_ELEM_OBJREF: name = counter(named: attributes.payload)
            case NFTA_SET_ELEM_FLAGS: flags = attributes.number()
            case NFTA_SET_ELEM_USERDATA: read(notes: attributes.payload)
            case NFTA_SET_ELEM_PAD: break
            case NFTA_SET_ELEM_DATA: oddities.insert("data")
            case NFTA_SET_ELEM_TIMEOUT, NFTA_SET_ELEM_EXPIRATION: oddities.insert("timeout")
            case NFTA_SET_ELEM_EXPR, NFTA_SET_ELEM_EXPRESSIONS: oddities.insert("statements")
            default: oddities.insert("attribute \(attributes.type)")
            }
        }
        if attributes.isMalformed { return false }
        let isEnd = flags & NFT_SET_ELEM_INTERVAL_END.rawValue != 0
        if flags & ~NFT_SET_ELEM_INTERVAL_END.rawValue != 0 || lower.count == 0 {
            // `*`: what no other element matches.
            oddities.insert(flags & NFT_SET_ELEM_CATCHALL.rawValue != 0 ? "* as its key" : "flags \(flags)")
            return true
        }
        if isConcatenation {
            elements.append(FirewallSet.Element(lower, upper.count == 0 ? lower : upper, counter: name))
        } else {
            points.append(Point(key: lower, counter: name, isEnd: isEnd))
        }
        return true
    }

    /// Reads NFTA_DATA_VALUE, which is all that a key consists of.
    @inline(__always)
    private func read(_ data: RawSpan, into key: inout FirewallKey) -> Bool {
        var attributes = Attributes(data)
        guard attributes.next(), attributes.type == UInt16(NFTA_DATA_VALUE), attributes.count == keyLength else {
            return false
        }
        switch keyLength {
        case 16:
            let (first, second) = (word(&attributes, 0), word(&attributes, 8))
            key = FirewallKey(first, second, 0, 0, 0, count: 16)
        case 40:
            let (first, second) = (word(&attributes, 0), word(&attributes, 8))
            let (third, fourth) = (word(&attributes, 16), word(&attributes, 24))
            key = FirewallKey(first, second, third, fourth, word(&attributes, 32), count: 40)
        case 4:
            let word = UInt32(bigEndian: attributes.load(at: 0, as: UInt32.self))
            key = FirewallKey(UInt64(word) << 32, 0, 0, 0, 0, count: 4)
        default:
            for offset in stride(from: 0, to: keyLength & ~3, by: 4) {
                key.append(UInt32(bigEndian: attributes.load(at: offset, as: UInt32.self)))
            }
            if keyLength & 3 != 0 {
                var word: UInt32 = 0
                for offset in keyLength & ~3..<keyLength {
                    word |= UInt32(attributes.load(at: offset, as: UInt8.self)) << UInt32(24 - 8 * (offset & 3))
                }
                key.append(word)
            }
        }
        return !attributes.isMalformed
    }

    @inline(__always)
    private func word(_ attributes: inout Attributes, _ offset: Int) -> UInt64 {
        UInt64(bigEndian: attributes.load(at: offset, as: UInt64.self))
    }

    /// The name of a counter. Elements in a row mostly have the same: it is compared as two words, and made once.
    private mutating func counter(named bytes: RawSpan) -> String {
        guard bytes.byteCount == 16, let first = bytes.load(at: 0, as: UInt64.self),
            let second = bytes.load(at: 8, as: UInt64.self)
        else { return String(kernelText: bytes) }
        if (first, second) != counterWords {
            counterWords = (first, second)
            counter = String(kernelText: bytes)
        }
        return counter
    }

    private mutating func read(notes: RawSpan) {
        var found: Set<String> = []
        let isWhole = NftNote.each(notes) { type, _ in
            switch type {
            case NftNote.comment: found.insert("comment")
            // What it says of a range's end is seen from there being none.
            case NftNote.elementFlags: break
            default: found.insert("note \(type)")
            }
        }
        if !isWhole { found.insert("notes") }
        oddities.formUnion(found)
    }
}

extension Array where Element == FirewallSet.Element {
    fileprivate var isAscending: Bool {
        let elements = span
        for index in 1..<Swift.max(1, elements.count) {
            // Ranges that do not overlap are told apart by where they begin, mostly.
            if elements[index - 1].key.lower < elements[index].key.lower { continue }
            if !(elements[index - 1].key < elements[index].key) { return false }
        }
        return true
    }
}

extension Array where Element == ElementReading.Point {
    fileprivate var isAscending: Bool {
        let points = span
        for index in 1..<Swift.max(1, points.count) {
            let (left, right) = (points[index - 1].key, points[index].key)
            if left < right { continue }
            if left != right || !points[index - 1].isEnd || points[index].isEnd { return false }
        }
        return true
    }
}

extension FirewallKey {
    /// The key after or before this one, of a set with one field of `length` bytes; nil beyond the last and the first.
    func next(of length: Int) -> FirewallKey? { stepping(length) { $0.addingReportingOverflow($1) } }
    func previous(of length: Int) -> FirewallKey? { stepping(length) { $0.subtractingReportingOverflow($1) } }

    /// A field has at most 16 bytes: those that are highest here.
    @inline(__always)
    private func stepping(
        _ length: Int, _ step: (UInt128, UInt128) -> (partialValue: UInt128, overflow: Bool)
    ) -> FirewallKey? {
        let (value, overflow) = step(UInt128(word0) << 64 | UInt128(word1), 1 << UInt128(128 - 8 * length))
        if overflow { return nil }
        var key = self
        key.word0 = UInt64(truncatingIfNeeded: value >> 64)
        key.word1 = UInt64(truncatingIfNeeded: value)
        return key
    }

    /// The highest key of a field of `length` bytes.
    static func last(of length: Int) -> FirewallKey {
        var key = FirewallKey()
        for offset in stride(from: 0, to: length, by: 4) {
            let rest = length - offset
            key.append(rest >= 4 ? .max : ~(UInt32.max >> UInt32(8 * rest)))
        }
        return key
    }
}
