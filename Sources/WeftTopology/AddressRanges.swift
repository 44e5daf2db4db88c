// Sets of addresses or ports as closed ranges, with the algebra that access rules need.

import WeftModel

/// Disjoint closed ranges, ascending, with a gap between any two.
struct Ranges<Bound: FixedWidthInteger & Sendable>: Hashable, Sendable {
    private(set) var list: [ClosedRange<Bound>]

    init() { list = [] }

    init(_ range: ClosedRange<Bound>) { list = [range] }

    /// Merges what overlaps or touches.
    init(_ ranges: [ClosedRange<Bound>]) {
        list = []
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = list.last, last.upperBound == .max || range.lowerBound <= last.upperBound + 1 {
                list[list.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                list.append(range)
            }
        }
    }

    var isEmpty: Bool { list.isEmpty }

    /// What both have.
    func intersection(_ other: Self) -> Self {
        var result = Self()
        var (left, right) = (0, 0)
        while left < list.count, right < other.list.count {
            let lower = max(list[left].lowerBound, other.list[right].lowerBound)
            let upper = min(list[left].upperBound, other.list[right].upperBound)
            if lower <= upper { result.list.append(lower...upper) }
            if list[left].upperBound < other.list[right].upperBound { left += 1 } else { right += 1 }
        }
        return result
    }

    /// Whether both have anything in common.
    func overlaps(_ other: Self) -> Bool {
        guard let first = list.first, let last = list.last, let otherFirst = other.list.first,
            let otherLast = other.list.last, first.lowerBound <= otherLast.upperBound,
            otherFirst.lowerBound <= last.upperBound
        else { return false }
        var (left, right) = (0, 0)
        while left < list.count, right < other.list.count {
            if list[left].overlaps(other.list[right]) { return true }
            if list[left].upperBound < other.list[right].upperBound { left += 1 } else { right += 1 }
        }
        return false
    }

    /// What `self` has and `other` has not.
    func subtracting(_ other: Self) -> Self {
        var result = Self()
        var position = 0
        for range in list {
            var lower = range.lowerBound
            var isUsedUp = false
            while position < other.list.count, other.list[position].upperBound < lower { position += 1 }
            var index = position
            while index < other.list.count, other.list[index].lowerBound <= range.upperBound {
                let hole = other.list[index]
                if lower < hole.lowerBound { result.list.append(lower...hole.lowerBound - 1) }
                if hole.upperBound >= range.upperBound {
                    isUsedUp = true
                    break
                }
                lower = hole.upperBound + 1
                index += 1
            }
            if !isUsedUp { result.list.append(lower...range.upperBound) }
        }
        return result
    }
}

extension IPAddress {
    /// The address as a number.
    var number: UInt128 { UInt128(high) << 64 | UInt128(low) }

    init(_ number: UInt128, _ family: Family) {
        switch family {
        case .v4: self.init(v4: UInt32(truncatingIfNeeded: number))
        case .v6: self.init(v6: UInt64(truncatingIfNeeded: number >> 64), UInt64(truncatingIfNeeded: number))
        }
    }
}

extension IPPrefix {
    /// All addresses of the network, as numbers.
    var range: ClosedRange<UInt128> {
        let first = address.number
        let free = family.bitWidth - Int(length)
        return first...(free == 128 ? .max : first | ((1 << UInt128(free)) - 1))
    }
}

extension FirewallSet.Element {
    /// A range of addresses.
    init(_ range: ClosedRange<UInt128>, _ family: IPAddress.Family) {
        var lower = FirewallKey()
        var upper = FirewallKey()
        lower.append(IPAddress(range.lowerBound, family))
        upper.append(IPAddress(range.upperBound, family))
        self.init(lower, upper)
    }
}

extension Topology {
    /// What `internet` means in access rules: all that is neither in the mesh nor behind one of its nodes. Link-local addresses
    /// are beyond nobody; at one of them, clouds give a machine its credentials.
    func internet(_ family: IPAddress.Family) -> Ranges<UInt128> {
        let linkLocal =
            family == .v4
            ? IPPrefix(IPAddress(v4: 0xA9FE_0000), length: 16) : IPPrefix(IPAddress(v6: 0xFE80 << 48, 0), length: 10)
        let known = mesh.addresses.map(\.value) + nodes.flatMap { $0.allowedIPs.map(\.value) } + [linkLocal]
        let all = Ranges<UInt128>(0...(family == .v4 ? UInt128(UInt32.max) : UInt128.max))
        return all.subtracting(Ranges(known.filter { $0.family == family }.map(\.range)))
    }
}
