// Reads answers in place: cursors over a datagram, its messages, and their attributes.

public import CLinux

/// One message of a datagram. It cannot outlive the buffer it lies in.
package struct Message: ~Escapable {
    package let type: UInt16
    package let flags: UInt16
    package let sequence: UInt32
    package let port: UInt32
    /// All after the netlink header.
    package let payload: RawSpan

    @inlinable
    @_lifetime(copy bytes)
    init(_ bytes: RawSpan, from start: Int, length: Int) {
        type = bytes.uncheckedLoad(at: start + 4, as: UInt16.self)
        flags = bytes.uncheckedLoad(at: start + 6, as: UInt16.self)
        sequence = bytes.uncheckedLoad(at: start + 8, as: UInt32.self)
        port = bytes.uncheckedLoad(at: start + 12, as: UInt32.self)
        payload = bytes.uncheckedSlice(start + MemoryLayout<nlmsghdr>.size, start + length)
    }

    /// Whether the kernel saw a change while it was dumping.
    @inlinable package var isInterrupted: Bool { flags & UInt16(NLM_F_DUMP_INTR) != 0 }
}

/// A cursor over the messages of a datagram.
package struct Messages: ~Escapable {
    @usableFromInline let bytes: RawSpan
    @usableFromInline var position = 0
    @usableFromInline var length = 0
    /// Whether reading ended before the datagram did.
    package var isMalformed = false

    @_lifetime(copy bytes)
    package init(_ bytes: RawSpan) {
        self.bytes = bytes
    }

    /// Goes to the next message; false at the end.
    package mutating func next() -> Bool {
        position += (length + 3) & ~3
        length = 0
        let rest = bytes.byteCount - position
        if rest <= 0 { return false }
        guard rest >= MemoryLayout<nlmsghdr>.size else {
            isMalformed = true
            return false
        }
        let stated = Int(bytes.uncheckedLoad(at: position, as: UInt32.self))
        guard stated >= MemoryLayout<nlmsghdr>.size, stated <= rest else {
            isMalformed = true
            return false
        }
        length = stated
        return true
    }

    /// The message that `next` went to.
    package var current: Message {
        @_lifetime(copy self)
        get { Message(bytes, from: position, length: length) }
    }
}

/// A cursor over attributes. Reading never throws: what is shorter than it must be reads as zero, and `isMalformed` is
/// asked once at the end.
///
/// Public, because only what is public is inlined across modules (package declarations are not, in Swift 6.3), and a
/// pass reads some two hundred thousand attributes.
///
///     while attributes.next() {
///         switch attributes.type {
///         case IFLA_MTU: mtu = attributes.uint32()
///         default: break
///         }
///     }
@frozen
public struct Attributes: ~Escapable {
    @usableFromInline let bytes: RawSpan
    /// Where the attributes end. A nest is read in the same span as what it is in.
    @usableFromInline let limit: Int
    /// Where the current one's payload begins and ends; the next one begins there, on a multiple of four.
    @usableFromInline var start: Int
    @usableFromInline var end: Int
    /// The current attribute's type, without the flags for nesting and byte order.
    public var type: UInt16 = 0
    /// Whether something was shorter than it must be, or longer than what it lies in.
    public var isMalformed = false

    /// - Parameter offset: where the attributes begin: after the fixed header. A multiple of four.
    @inlinable @inline(__always)
    @_lifetime(copy bytes)
    public init(_ bytes: RawSpan, from offset: Int = 0) {
        self.bytes = bytes
        limit = bytes.byteCount
        start = offset
        end = offset
        if offset > 0, offset > limit { isMalformed = true }
    }

    /// Whether there are that many bytes is for the caller to see; where nothing is skipped, that costs nothing.
    @inlinable @inline(__always)
    @_lifetime(copy bytes)
    init(_ bytes: RawSpan, from offset: Int, to limit: Int) {
        self.bytes = bytes
        self.limit = limit
        start = offset
        end = offset
    }

    /// Goes to the next attribute; false at the end.
    @inlinable @inline(__always)
    public mutating func next() -> Bool {
        let position = (end &+ 3) & ~3
        let rest = limit &- position
        if rest < MemoryLayout<nlattr>.size { return false }
        let length = Int(bytes.uncheckedLoad(at: position, as: UInt16.self))
        guard length >= MemoryLayout<nlattr>.size, length <= rest else {
            isMalformed = true
            return false
        }
        type =
            bytes.uncheckedLoad(at: position &+ 2, as: UInt16.self) & ~UInt16(NLA_F_NESTED | NLA_F_NET_BYTEORDER)
        start = position &+ MemoryLayout<nlattr>.size
        end = position &+ length
        return true
    }

    /// Where the current attribute's payload begins, from the start of the span; also of a nested one.
    @inlinable @inline(__always) public var offset: Int { start }

    /// In bytes, of the current attribute.
    @inlinable @inline(__always) public var count: Int { end &- start }

    /// The current attribute's bytes.
    @inlinable @inline(__always)
    public var payload: RawSpan {
        @_lifetime(copy self)
        get { bytes.uncheckedSlice(start, end) }
    }

    /// The attributes in the current one, from `offset` on.
    @inlinable @inline(__always)
    @_lifetime(copy self)
    public func nested(from offset: Int = 0) -> Attributes {
        var nested = Attributes(bytes, from: start &+ offset, to: end)
        if offset > 0, offset > count { nested.isMalformed = true }
        return nested
    }

    /// Takes over that a nest within was not well formed.
    @inlinable @inline(__always)
    public mutating func check(_ nested: borrowing Attributes) {
        if nested.isMalformed { isMalformed = true }
    }

    /// Marks the message as one that cannot be believed.
    @inlinable @inline(__always)
    public mutating func reject() { isMalformed = true }

    /// The integer at `offset` in the current attribute, in host order.
    @inlinable @inline(__always)
    public mutating func load<Value: FixedWidthInteger & BitwiseCopyable>(
        at offset: Int = 0, as type: Value.Type
    ) -> Value {
        guard offset &+ MemoryLayout<Value>.size <= end &- start else {
            isMalformed = true
            return 0
        }
        return bytes.uncheckedLoad(at: start &+ offset, as: type)
    }

    /// The current attribute as an integer of 8 bits, in host order.
    @inlinable @inline(__always) public mutating func uint8() -> UInt8 { load(as: UInt8.self) }
    /// The current attribute as an integer of 16 bits, in host order.
    @inlinable @inline(__always) public mutating func uint16() -> UInt16 { load(as: UInt16.self) }
    /// The current attribute as an integer of 32 bits, in host order.
    @inlinable @inline(__always) public mutating func uint32() -> UInt32 { load(as: UInt32.self) }
    /// The current attribute as an integer of 64 bits, in host order.
    @inlinable @inline(__always) public mutating func uint64() -> UInt64 { load(as: UInt64.self) }

    /// The current attribute as text, up to its first NUL; bad UTF-8 is repaired.
    public func text() -> String {
        var result: [UInt8] = []
        for offset in start..<end {
            let byte = bytes.uncheckedLoad(at: offset, as: UInt8.self)
            if byte == 0 { break }
            result.append(byte)
        }
        return String(decoding: result, as: UTF8.self)
    }
}

/// Loads from a fixed header, with the length checked.
extension RawSpan {
    /// The integer at `offset` in host order; nil where the span is too short.
    @inlinable @inline(__always)
    public func load<Value: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: Value.Type) -> Value? {
        guard offset >= 0, byteCount &- offset >= MemoryLayout<Value>.size else { return nil }
        return uncheckedLoad(at: offset, as: type)
    }

    /// Forty bytes from `offset` on, in host order, with one look at the length; nil where the span is too short.
    @inlinable @inline(__always)
    public func fiveWords(at offset: Int) -> (UInt64, UInt64, UInt64, UInt64, UInt64)? {
        guard offset >= 0, byteCount &- offset >= 40 else { return nil }
        return (
            uncheckedLoad(at: offset, as: UInt64.self), uncheckedLoad(at: offset &+ 8, as: UInt64.self),
            uncheckedLoad(at: offset &+ 16, as: UInt64.self), uncheckedLoad(at: offset &+ 24, as: UInt64.self),
            uncheckedLoad(at: offset &+ 32, as: UInt64.self)
        )
    }
}
