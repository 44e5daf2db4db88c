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
    /// Ones for each byte of a key.
    private let mask: FirewallKey
    /// Boxes of ranges; in the kernel's order.
    private var elements: [FirewallSet.Element] = []
    /// Of a set with one field: where ranges begin and end.
    private var points: [Point] = []
    /// What elements have that Weft's never have: `timeout`.
    private(set) var oddities: Set<String> = []

    /// Where a range begins, or the first key behind it.
    fileprivate struct Point: Comparable {
        var number: UInt128
        var counterName: ShortText
        var isEnd: Bool

        static func == (left: Point, right: Point) -> Bool {
            left.number == right.number && left.isEnd == right.isEnd
        }
        /// Where one range ends and another begins, it ends first.
        static func < (left: Point, right: Point) -> Bool {
            left.number == right.number ? left.isEnd && !right.isEnd : left.number < right.number
        }
    }

    /// - Parameter expected: how many there were last time.
    init(_ set: FirewallSet, expecting expected: Int = 0) {
        isConcatenation = set.isConcatenation
        keyLength = set.keyLength
        mask = FirewallKey(onesOf: keyLength)
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

    /// What lies between the points.
    private mutating func ranges() -> [FirewallSet.Element]? {
        // The kernel begins at the highest.
        if let ranges = points.ranges(keyLength) { return ranges }
        points.sort(by: >)
        return points.ranges(keyLength)
    }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWSETELEM) else { return true }
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            guard attributes.type == UInt16(NFTA_SET_ELEM_LIST_ELEMENTS) else { continue }
            var list = attributes.nested()
            while list.next() {
                if !take(element: list, of: message.payload) { return false }
            }
            attributes.check(list)
        }
        return !attributes.isMalformed
    }

    @inline(__always)
    private mutating func take(element: borrowing Attributes, of bytes: RawSpan) -> Bool {
        // Where the keys are; 0 where there is none.
        var (lower, upper) = (0, 0)
        var counterName: ShortText = ""
        var flags: UInt32 = 0
        var attributes = element.nested()
        while attributes.next() {
            switch nft_set_elem_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_SET_ELEM_KEY:
                guard let place = place(ofValueIn: attributes) else { return false }
                lower = place
            case NFTA_SET_ELEM_KEY_END:
                guard let place = place(ofValueIn: attributes) else { return false }
                upper = place
            case NFTA_SET_ELEM_OBJREF:
                if let name = ShortText(kernelText: attributes.payload) {
                    counterName = name
                } else {
                    note(counter: attributes.payload)
                }
            case NFTA_SET_ELEM_FLAGS: flags = attributes.number()
            case let other: note(other, attributes.payload)
            }
        }
        if attributes.isMalformed { return false }
        let isEnd = flags == NFT_SET_ELEM_INTERVAL_END.rawValue
        if flags != 0 && !isEnd || lower == 0 {
            note(flags: flags)
        } else if isConcatenation {
            elements.append(
                FirewallSet.Element(
                    bytes.key(at: lower, mask), bytes.key(at: upper == 0 ? lower : upper, mask),
                    counterName: counterName))
        } else {
            points.append(
                Point(number: bytes.key(at: lower, mask).number, counterName: counterName, isEnd: isEnd))
        }
        return true
    }

    /// Where NFTA_DATA_VALUE is, which is all that a key consists of; nil where it is not, or has another length.
    @inline(__always)
    private func place(ofValueIn key: borrowing Attributes) -> Int? {
        var attributes = key.nested()
        guard attributes.next(), attributes.type == UInt16(NFTA_DATA_VALUE), attributes.count == keyLength else {
            return nil
        }
        return attributes.offset
    }

    // What Weft's elements never have. Kept out of the loop that reads thousands of them.

    @inline(never)
    private mutating func note(_ type: nft_set_elem_attributes, _ payload: RawSpan) {
        switch type {
        case NFTA_SET_ELEM_USERDATA: read(notes: payload)
        case NFTA_SET_ELEM_PAD: break
        case NFTA_SET_ELEM_DATA: oddities.insert("data")
        case NFTA_SET_ELEM_TIMEOUT, NFTA_SET_ELEM_EXPIRATION: oddities.insert("timeout")
        case NFTA_SET_ELEM_EXPR, NFTA_SET_ELEM_EXPRESSIONS: oddities.insert("statements")
        default: oddities.insert("attribute \(type.rawValue)")
        }
    }

    /// Also `*`: what no other element matches.
    @inline(never)
    private mutating func note(flags: UInt32) {
        oddities.insert(flags & NFT_SET_ELEM_CATCHALL.rawValue != 0 ? "* as its key" : "flags \(flags)")
    }

    /// One whose name is too long to be Weft's.
    @inline(never)
    private mutating func note(counter: RawSpan) { oddities.insert("counter \(String(kernelText: counter))") }

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
    /// Ascending; nil where the points do not descend. A range ends before the next point, whichever that is; the last one
    /// at the end of all keys.
    fileprivate func ranges(_ keyLength: Int) -> [FirewallSet.Element]? {
        var elements: [FirewallSet.Element] = []
        elements.reserveCapacity(count / 2 + 1)
        let points = span
        let step = FirewallKey.step(of: keyLength)
        var index = points.count
        while index > 0 {
            index &-= 1
            if index > 0, !(points[index] < points[index &- 1]) { return nil }
            if points[index].isEnd { continue }
            let next = index > 0 ? points[index &- 1].number : 0
            elements.append(
                FirewallSet.Element(
                    FirewallKey(points[index].number, of: keyLength), FirewallKey(next &- step, of: keyLength),
                    counterName: points[index].counterName))
        }
        return elements
    }
}

extension RawSpan {
    /// The key at `offset`, of as many bytes as `mask` has ones.
    @inline(__always)
    fileprivate func key(at offset: Int, _ mask: FirewallKey) -> FirewallKey {
        // All words are read whatever the length, and what is behind the key is masked out: but not behind the message.
        guard let words = fiveWords(at: offset) else { return shortKey(at: offset, mask.count) }
        return FirewallKey(
            UInt64(bigEndian: words.0) & mask.word0, UInt64(bigEndian: words.1) & mask.word1,
            UInt64(bigEndian: words.2) & mask.word2, UInt64(bigEndian: words.3) & mask.word3,
            UInt64(bigEndian: words.4) & mask.word4, count: mask.count)
    }

    /// With the padding behind it, which is zeros.
    @inline(never)
    private func shortKey(at offset: Int, _ count: Int) -> FirewallKey {
        var key = FirewallKey()
        while key.count < count {
            key.append(UInt32(bigEndian: load(at: offset + key.count, as: UInt32.self) ?? 0))
        }
        return key
    }
}

extension FirewallKey {
    /// Ones in so many bytes, with zeros to pad them.
    init(onesOf length: Int) {
        self.init()
        for offset in stride(from: 0, to: length, by: 4) {
            let rest = length - offset
            append(rest >= 4 ? .max : ~(UInt32.max >> UInt32(8 * rest)))
        }
    }
}

/// Of sets with one field, of `length` bytes: that is a number, which has the highest of 16 bytes.
extension FirewallKey {
    init(_ number: UInt128, of length: Int) {
        self.init(
            UInt64(truncatingIfNeeded: number >> 64), UInt64(truncatingIfNeeded: number), 0, 0, 0,
            count: (length + 3) & ~3)
    }

    @inline(__always) var number: UInt128 { UInt128(word0) << 64 | UInt128(word1) }

    /// What lies between a key and the next one.
    static func step(of length: Int) -> UInt128 { 1 << UInt128(128 - 8 * length) }

    /// The key after this one; nil beyond the last.
    func next(of length: Int) -> FirewallKey? {
        let (next, overflow) = number.addingReportingOverflow(Self.step(of: length))
        return overflow ? nil : FirewallKey(next, of: length)
    }
}
