// Elements of sets and maps as boxes: what of some of them is in none of the others.

import WeftModel

/// An element of a set: a range for each address, and in a map of flows for protocol and port too, whether or not its
/// keys have them.
struct FlowBox {
    var family: IPAddress.Family
    var ranges: [ClosedRange<UInt128>]

    /// - Parameter transport: the protocol, where the keys do not have it; nil: all.
    init(_ element: FirewallSet.Element, _ fields: [FirewallSet.Field], of transport: UInt8?) {
        family = fields.contains(.address6) ? .v6 : .v4
        ranges = []
        var offset = 0
        for field in fields {
            ranges.append(element.lower.number(field, at: offset)...element.upper.number(field, at: offset))
            offset += field.paddedSize
        }
        if fields.contains(.transport) { return }
        ranges += [transport.map { UInt128($0)...UInt128($0) } ?? 0...0xFF, 0...0xFFFF]
    }

    func overlaps(_ other: Self) -> Bool {
        family == other.family && ranges.count == other.ranges.count
            && zip(ranges, other.ranges).allSatisfy { $0.overlaps($1) }
    }

    /// What is left without `other`, in disjoint boxes.
    func subtracting(_ other: Self) -> [Self] {
        guard overlaps(other) else { return [self] }
        var result: [Self] = []
        var rest = self
        for (index, hole) in other.ranges.enumerated() {
            let range = rest.ranges[index]
            if range.lowerBound < hole.lowerBound {
                result.append(rest.with(range.lowerBound...hole.lowerBound - 1, at: index))
            }
            if hole.upperBound < range.upperBound {
                result.append(rest.with(hole.upperBound + 1...range.upperBound, at: index))
            }
            rest.ranges[index] = range.clamped(to: hole)
        }
        return result
    }

    private func with(_ range: ClosedRange<UInt128>, at index: Int) -> Self {
        var result = self
        result.ranges[index] = range
        return result
    }
}

/// Many boxes, found by their first range: ten thousand of them have some hundred sources.
struct FlowBoxes {
    private let byFirst: [ClosedRange<UInt128>: [FlowBox]]

    init(_ boxes: [FlowBox]) { byFirst = Dictionary(grouping: boxes) { $0.ranges[0] } }

    /// What of a box is in none of these.
    func uncovered(of box: FlowBox) -> [FlowBox] {
        var rest = [box]
        for (first, others) in byFirst where first.overlaps(box.ranges[0]) {
            for other in others where other.overlaps(box) {
                rest = rest.flatMap { $0.subtracting(other) }
                if rest.isEmpty { return [] }
            }
        }
        return rest
    }
}

extension FirewallKey {
    fileprivate func number(_ field: FirewallSet.Field, at offset: Int) -> UInt128 {
        switch field {
        case .address4: UInt128(value(at: offset))
        case .address6:
            stride(from: 0, to: 16, by: 4).reduce(0) { $0 << 32 | UInt128(value(at: offset + $1)) }
        case .transport: UInt128(value(at: offset) >> 24)
        case .port: UInt128(value(at: offset) >> 16)
        }
    }
}

extension IPPrefix {
    /// All addresses of the network, as numbers.
    var numbers: ClosedRange<UInt128> {
        let first = UInt128(address.high) << 64 | UInt128(address.low)
        let free = family.bitWidth - Int(length)
        return first...(free == 128 ? .max : first | ((1 << UInt128(free)) - 1))
    }
}
