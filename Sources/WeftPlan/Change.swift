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
    /// and routes by prefix. Where they do not, one side is taken to have one object more, which is put aside, and the two
    /// are in step again. Only what was put aside is looked up by key.
    @inlinable
    package init(desired: [Object], live: [Object]) {
        // Spans lend elements where arrays copy them, and a copy of a peer counts references.
        let desired = desired.span
        let live = live.span
        var (wanted, found) = (0, 0)
        var (wantedAside, foundAside): ([Int], [Int]) = ([], [])
        var isInStep = true
        while wanted < desired.count, found < live.count {
            if desired[wanted].key == live[found].key {
                if !Object.isSatisfied(desired, at: wanted, by: live, at: found) {
                    changed.append(Change(live: live[found], desired: desired[wanted]))
                }
                wanted += 1
                found += 1
                continue
            }
            if isInStep { (isInStep, inStep) = (false, wanted) }
            let isOneMoreLive = found + 1 < live.count && desired[wanted].key == live[found + 1].key
            let isOneMoreWanted =
                !isOneMoreLive && wanted + 1 < desired.count && desired[wanted + 1].key == live[found].key
            if !isOneMoreWanted {
                foundAside.append(found)
                found += 1
            }
            if !isOneMoreLive {
                wantedAside.append(wanted)
                wanted += 1
            }
        }
        if isInStep { inStep = wanted }
        wantedAside += wanted..<desired.count
        foundAside += found..<live.count
        if wantedAside.isEmpty, foundAside.isEmpty { return }
        var rest: [Object.Key: Int] = [:]
        rest.reserveCapacity(foundAside.count)
        for index in foundAside { rest[live[index].key] = index }
        for index in wantedAside {
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
