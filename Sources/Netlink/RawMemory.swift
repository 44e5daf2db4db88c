// All raw loads and stores. Everything else sees bytes through spans and checks lengths before it comes here.

import Glibc

/// Bytes of a fixed size that never move, so that no secret is left behind in an old copy of them.
@safe
package final class Buffer {
    @usableFromInline let start: UnsafeMutableRawPointer
    /// In bytes.
    package let capacity: Int

    /// Zeroed, and aligned for netlink headers.
    package init(capacity: Int) {
        self.capacity = capacity
        unsafe start = .allocate(byteCount: capacity, alignment: 16)
        unsafe start.initializeMemory(as: UInt8.self, repeating: 0, count: capacity)
    }

    deinit {
        unsafe start.deallocate()
    }

    /// The first `count` bytes.
    @_lifetime(borrow self)
    package func bytes(_ count: Int) -> RawSpan {
        precondition(count >= 0 && count <= capacity)
        let span = unsafe RawSpan(_unsafeStart: start, byteCount: count)
        return unsafe _overrideLifetime(span, borrowing: self)
    }

    /// All of it, to be filled. Nobody may read the buffer meanwhile.
    @_lifetime(borrow self)
    package func writableBytes() -> MutableRawSpan {
        let span = unsafe MutableRawSpan(_unsafeStart: start, byteCount: capacity)
        return unsafe _overrideLifetime(span, borrowing: self)
    }

    /// Overwrites the first `count` bytes in a way that the optimiser keeps.
    package func erase(_ count: Int) {
        precondition(count >= 0 && count <= capacity)
        unsafe explicit_bzero(start, count)
    }

    /// Stores an integer in host order; `offset + size` must lie within the capacity.
    @inlinable
    func store<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, at offset: Int) {
        unsafe start.storeBytes(of: value, toByteOffset: offset, as: Value.self)
    }

    /// Copies `bytes` to `offset`; the end must lie within the capacity.
    func store(_ bytes: RawSpan, at offset: Int) {
        unsafe bytes.withUnsafeBytes { source in
            guard let base = source.baseAddress else { return }
            unsafe (start + offset).copyMemory(from: base, byteCount: source.count)
        }
    }

    /// Zeroes `count` bytes from `offset`; the end must lie within the capacity.
    func clear(_ count: Int, at offset: Int) {
        unsafe (start + offset).initializeMemory(as: UInt8.self, repeating: 0, count: count)
    }
}

extension RawSpan {
    /// Loads an integer in host order; `offset + size` must lie within the span.
    @inlinable @inline(__always)
    func uncheckedLoad<Value: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: Value.Type) -> Value {
        unsafe unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: type)
    }

    /// The bytes from `start` to before `end`, which must both lie within the span, in order.
    @inlinable @inline(__always)
    @_lifetime(copy self)
    func uncheckedSlice(_ start: Int, _ end: Int) -> RawSpan {
        unsafe extracting(unchecked: Range(uncheckedBounds: (start, end)))
    }
}

extension RawSpan {
    /// The same bytes as a span of octets.
    package var octets: Span<UInt8> {
        @_lifetime(copy self)
        get { Span(_bytes: self) }
    }
}
