// The one diff: two collections of objects with keys become what must be added, changed and removed.

package import WeftModel

/// What a collection needs to become another.
///
///      desired   a  b  c  d
///      live      a  b' x  d        add c · change b' → b · remove x
package struct CollectionDiff<Object: ConfiguredObject>: Sendable {
    @usableFromInline
    package struct Change: Sendable {
        package var live: Object
        package var desired: Object
    }

    package var added: [Object] = []
    package var changed: [Change] = []
    package var removed: [Object] = []

    package var isEmpty: Bool { added.isEmpty && changed.isEmpty && removed.isEmpty }

    /// Compares two collections in which no key stands twice. Both are walked in step for as long as their keys agree,
    /// which after a clean apply is to the end: the kernel lists what it was given in the order in which it was given,
    /// and routes by prefix. Only what is left then is looked up by key.
    @inlinable
    package init(desired: [Object], live: [Object]) {
        // Spans lend elements where arrays copy them, and a copy of a peer counts references.
        let desired = desired.span
        let live = live.span
        var desiredIndex = 0
        var liveIndex = 0
        while desiredIndex < desired.count, liveIndex < live.count {
            if desired[desiredIndex].key != live[liveIndex].key { break }
            if !Object.isSatisfied(desired, at: desiredIndex, by: live, at: liveIndex) {
                changed.append(Change(live: live[liveIndex], desired: desired[desiredIndex]))
            }
            desiredIndex += 1
            liveIndex += 1
        }
        if desiredIndex == desired.count, liveIndex == live.count { return }
        var rest: [Object.Key: Int] = [:]
        rest.reserveCapacity(live.count - liveIndex)
        for index in liveIndex..<live.count { rest[live[index].key] = index }
        for index in desiredIndex..<desired.count {
            guard let found = rest.removeValue(forKey: desired[index].key) else {
                added.append(desired[index])
                continue
            }
            if !desired[index].isSatisfied(by: live[found]) {
                changed.append(Change(live: live[found], desired: desired[index]))
            }
        }
        for index in rest.values.sorted() { removed.append(live[index]) }
    }
}
