// The one shape of everything that Weft configures.
// Public where it must be inlined in other modules: package declarations are not, in Swift 6.3. Documented as if package.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// A thing on a host that has an identity and a configuration. A host's state is collections of these, and the diff
/// is one generic function over them.
public protocol ConfiguredObject: Sendable {
    associatedtype Key: Hashable & Comparable & Sendable

    /// What tells this object from others of its kind on one interface.
    var key: Key { get }

    /// Whether `live`, which has the same key, needs no change. Statistics and what the kernel chooses for itself
    /// take no part in it.
    func isSatisfied(by live: Self) -> Bool

    /// As `isSatisfied(by:)`, for objects where they lie. A type whose copies count references compares its fields
    /// here, one by one: reading a field through a span copies nothing else.
    static func isSatisfied(_ desired: Span<Self>, at index: Int, by live: Span<Self>, at liveIndex: Int) -> Bool
}

extension ConfiguredObject {
    @inlinable
    public static func isSatisfied(
        _ desired: Span<Self>, at index: Int, by live: Span<Self>, at liveIndex: Int
    ) -> Bool {
        desired[index].isSatisfied(by: live[liveIndex])
    }
}
