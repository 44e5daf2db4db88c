// Writes requests. Nothing throws while writing: what does not fit is remembered, and `finish` says so.

import CLinux

/// Messages one after another in a buffer of fixed size. Attributes are padded to four bytes.
///
///     encoder.begin(type, flags)
///     encoder.put(header fields…)
///     encoder.attribute(IFLA_MTU, UInt32(1420))
///     encoder.nest(IFLA_LINKINFO) { $0.attribute(IFLA_INFO_KIND, "wireguard") }
///     encoder.end()
package struct Encoder: ~Copyable {
    private let buffer: Buffer
    /// Bytes written so far.
    package private(set) var count = 0
    /// How far may be written; at most the buffer's capacity.
    private let limit: Int
    private var messageStart = 0
    /// Set by the first write that did not fit. Rewinding to before that write clears it.
    package private(set) var hasOverflowed = false
    /// Whether secrets were written: the buffer is then erased by `clear`.
    private var holdsSecrets = false

    /// An attribute's length field has 16 bits.
    package static let attributeLimit = 0xFFFF

    /// - Parameter capacity: in bytes, of all messages together.
    package init(capacity: Int) {
        buffer = Buffer(capacity: capacity)
        limit = capacity
    }

    deinit {
        if holdsSecrets { buffer.erase(buffer.capacity) }
    }

    // MARK: Messages

    /// Starts a message; sequence and port are filled in when it is sent.
    package mutating func begin(_ type: UInt16, flags: UInt16) {
        messageStart = count
        put(UInt32(0))
        put(type)
        put(flags)
        put(UInt64(0))
    }

    /// Ends the message and writes down its length.
    package mutating func end() {
        guard !hasOverflowed else { return }
        buffer.store(UInt32(count - messageStart), at: messageStart)
    }

    /// The encoded messages, if all of them fitted.
    @_lifetime(borrow self)
    package func finish() throws(NetlinkError) -> RawSpan {
        guard !hasOverflowed else { throw .tooLong }
        let span = buffer.bytes(count)
        return unsafe _overrideLifetime(span, borrowing: self)
    }

    /// As `finish`, for an encoder that lies in an object.
    func withMessages(_ body: (RawSpan) throws(NetlinkError) -> Void) throws(NetlinkError) {
        try body(try finish())
    }

    /// Starts over, and erases what secrets there were.
    package mutating func clear() {
        if holdsSecrets { buffer.erase(min(count, buffer.capacity)) }
        holdsSecrets = false
        count = 0
        messageStart = 0
        hasOverflowed = false
    }

    /// Fills in the header of the message at `start`.
    mutating func address(messageAt start: Int, sequence: UInt32, port: UInt32, adding flags: UInt16) {
        guard start + MemoryLayout<nlmsghdr>.size <= count else { return }
        let old = buffer.bytes(count).uncheckedLoad(at: start + 6, as: UInt16.self)
        buffer.store(old | flags, at: start + 6)
        buffer.store(sequence, at: start + 8)
        buffer.store(port, at: start + 12)
    }

    /// Numbers all messages from `sequence`, and asks for the acknowledgement of the last but one.
    ///
    /// - Returns: how many there are.
    mutating func address(from sequence: UInt32, port: UInt32) -> Int {
        var (start, previous, messages) = (0, 0, 0)
        while start + MemoryLayout<nlmsghdr>.size <= count {
            let length = Int(buffer.bytes(count).uncheckedLoad(at: start, as: UInt32.self))
            address(messageAt: start, sequence: sequence &+ UInt32(messages), port: port, adding: 0)
            messages += 1
            let next = start + (length + 3) & ~3
            if next >= count, messages > 2 {
                let number = sequence &+ UInt32(max(messages - 2, 0))
                address(messageAt: previous, sequence: number, port: port, adding: UInt16(NLM_F_ACK))
            }
            (previous, start) = (start, next)
        }
        return messages
    }

    // MARK: Fields and attributes

    /// Writes an integer in host order.
    package mutating func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
        guard let offset = reserve(MemoryLayout<Value>.size) else { return }
        buffer.store(value, at: offset)
    }

    /// An attribute that holds an integer in host order.
    package mutating func attribute<Value: FixedWidthInteger & BitwiseCopyable>(_ type: UInt16, _ value: Value) {
        guard let offset = reserveAttribute(type, MemoryLayout<Value>.size) else { return }
        buffer.store(value, at: offset)
    }

    /// An attribute that holds two integers, each in host order.
    package mutating func attribute(_ type: UInt16, pair first: UInt64, _ second: UInt64) {
        guard let offset = reserveAttribute(type, 16) else { return }
        buffer.store(first, at: offset)
        buffer.store(second, at: offset + 8)
    }

    /// An attribute that holds bytes.
    package mutating func attribute(_ type: UInt16, bytes: RawSpan) {
        guard let offset = reserveAttribute(type, bytes.byteCount) else { return }
        buffer.store(bytes, at: offset)
    }

    /// An attribute that holds the fields that `body` puts: a C structure.
    package mutating func structure(_ type: UInt16, _ body: (inout Encoder) -> Void) {
        let start = mark
        put(UInt16(0))
        put(type)
        body(&self)
        close(start)
    }

    /// As `attribute(_:bytes:)`; the buffer is erased after use.
    package mutating func attribute(_ type: UInt16, secret: Span<UInt8>) {
        holdsSecrets = true
        attribute(type, bytes: unsafe secret.bytes)
    }

    /// An attribute that holds text with its terminating NUL.
    package mutating func attribute(_ type: UInt16, _ text: String) {
        let text = text
        let bytes = unsafe text.utf8Span.span.bytes
        guard let offset = reserveAttribute(type, bytes.byteCount + 1) else { return }
        buffer.store(bytes, at: offset)
        buffer.store(UInt8(0), at: offset + bytes.byteCount)
    }

    /// An attribute that holds `count` zero bytes.
    package mutating func attribute(_ type: UInt16, zeros count: Int) {
        guard let offset = reserveAttribute(type, count) else { return }
        buffer.clear(count, at: offset)
    }

    // MARK: Nests

    /// An attribute that holds what `body` writes.
    package mutating func nest(_ type: UInt16, _ body: (inout Encoder) -> Void) {
        let start = open(type)
        body(&self)
        close(start)
    }

    /// Starts a nest. What `close` gets must be what this returned.
    package mutating func open(_ type: UInt16) -> Mark {
        let mark = self.mark
        put(UInt16(0))
        put(type | UInt16(NLA_F_NESTED))
        return mark
    }

    /// Ends a nest and writes down its length.
    package mutating func close(_ start: Mark) {
        guard !hasOverflowed else { return }
        let length = count - start.count
        guard length <= Self.attributeLimit else {
            hasOverflowed = true
            return
        }
        buffer.store(UInt16(length), at: start.count)
    }

    // MARK: Undoing

    /// A place to rewind to.
    package struct Mark: Sendable {
        fileprivate let count: Int
        fileprivate let messageStart: Int
        fileprivate let hasOverflowed: Bool
    }

    package var mark: Mark { Mark(count: count, messageStart: messageStart, hasOverflowed: hasOverflowed) }

    /// Forgets all that was written since `mark`, and that some of it did not fit.
    package mutating func rewind(to mark: Mark) {
        if holdsSecrets, count > mark.count { buffer.clear(count - mark.count, at: mark.count) }
        count = mark.count
        messageStart = mark.messageStart
        hasOverflowed = mark.hasOverflowed
    }

    /// Bytes in the nest that began at `mark`, with its header.
    package func length(since mark: Mark) -> Int { count - mark.count }

    /// Writes `body` if all of it fits, into the buffer and into the enclosing nest that began at `outer`; else nothing.
    package mutating func attempt(within outer: Mark? = nil, _ body: (inout Encoder) -> Void) -> Bool {
        let start = mark
        body(&self)
        if !hasOverflowed, outer.map({ length(since: $0) <= Self.attributeLimit }) ?? true { return true }
        rewind(to: start)
        return false
    }

    private mutating func reserve(_ size: Int) -> Int? {
        guard !hasOverflowed, size <= limit - count else {
            hasOverflowed = true
            return nil
        }
        let offset = count
        count += size
        return offset
    }

    private mutating func reserveAttribute(_ type: UInt16, _ size: Int) -> Int? {
        let header = MemoryLayout<nlattr>.size
        guard size <= Self.attributeLimit - header else {
            hasOverflowed = true
            return nil
        }
        let padded = (size + 3) & ~3
        guard let offset = reserve(header + padded) else { return nil }
        buffer.store(UInt16(header + size), at: offset)
        buffer.store(type, at: offset + 2)
        if padded != size { buffer.store(UInt32(0), at: offset + header + padded - 4) }
        return offset + header
    }
}
