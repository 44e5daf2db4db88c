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
    /// How many places, from the first on, have objects of the same key on both sides.
    @usableFromInline package internal(set) var inStep = 0

    package var isEmpty: Bool { added.isEmpty && changed.isEmpty && removed.isEmpty }

    /// Compares two collections in which no key stands twice. Both are walked in step for as long as their keys agree,
    /// which after a clean apply is to the end: the kernel lists what it was given in the order in which it was given,
    /// and routes by prefix. Only what is left then is looked up by key.
    @inlinable
    package init(desired: [Object], live: [Object]) {
        // Spans lend elements where arrays copy them, and a copy of a peer counts references.
        let desired = desired.span
        let live = live.span
        let shorter = min(desired.count, live.count)
        var place = 0
        while place < shorter, desired[place].key == live[place].key {
            if !Object.isSatisfied(desired, at: place, by: live, at: place) {
                changed.append(Change(live: live[place], desired: desired[place]))
            }
            place += 1
        }
        inStep = place
        if place == desired.count, place == live.count { return }
        var rest: [Object.Key: Int] = [:]
        rest.reserveCapacity(live.count - place)
        for index in place..<live.count { rest[live[index].key] = index }
        for index in place..<desired.count {
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
