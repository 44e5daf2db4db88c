// One packet's way through a mesh's own table: what the closed vocabulary of rules means.

/// A packet as Weft's rules see it.
package struct FirewallPacket: Hashable, Sendable {
    package var source: IPAddress
    package var destination: IPAddress
    /// 6: TCP, 17: UDP.
    package var transport: UInt8
    package var sourcePort: UInt16
    package var destinationPort: UInt16
    /// Where it came in; nil where this host sends it.
    package var input: String?
    /// Where it goes out; nil where it is for this host.
    package var output: String?
    package var mark: UInt32 = 0
    /// Whether its flow is an old one.
    package var isEstablished = false
    /// Whether it answers who began the flow.
    package var isReply = false

    package init(
        from source: IPAddress, to destination: IPAddress, transport: UInt8, sourcePort: UInt16,
        destinationPort: UInt16,
        input: String? = nil, output: String? = nil
    ) {
        self.source = source
        self.destination = destination
        self.transport = transport
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
        self.input = input
        self.output = output
    }
}

extension Firewall {
    /// Whether a kill switch does what it is for, in both families.
    package var isShut: Bool { IPAddress.Family.allCases.allSatisfy(isShut) }

    /// Whether packets of a family are refused that this host sends neither by `lo` nor by the mesh's interface, by the
    /// rules as they are. Judged by some that nobody's `allow` holds all of.
    package func isShut(_ family: IPAddress.Family) -> Bool {
        if strangers.contains("flags dormant") { return false }
        let places = family == .v4 ? ["192.0.2.1", "198.51.100.1", "203.0.113.1"] : ["2001:db8::1", "3fff::1"]
        return places.compactMap { IPAddress($0) }.contains { place in
            let packet = FirewallPacket(
                from: place, to: place, transport: 6, sourcePort: 40_000, destinationPort: 443, output: "another")
            return refusal(of: packet, at: .output) != nil
        }
    }

    /// What keeps a packet from passing a hook: the comment of the rule that stops it. Nil where nothing does.
    package func refusal(of packet: FirewallPacket, at hook: FirewallChain.Base.Hook) -> String? {
        let bases = chains.filter { $0.base?.hook == hook && $0.base?.kind != .nat }
            .sorted { ($0.base?.priority ?? 0) < ($1.base?.priority ?? 0) }
        for chain in bases {
            var walk = Walk(packet: packet, firewall: self)
            switch walk.fate(in: chain, depth: 0) {
            case .stopped(let comment): return comment
            case .goesOn: if chain.base?.dropsByDefault == true { return chain.name }
            case .accepted: break
            }
        }
        return nil
    }

    private struct Walk {
        enum Fate {
            case accepted
            case stopped(String)
            case goesOn
        }

        var packet: FirewallPacket
        let firewall: Firewall
        /// NFT_REG32_00 and on, four bytes each.
        private var registers = [UInt8](repeating: 0, count: 16 * 4)

        init(packet: FirewallPacket, firewall: Firewall) {
            self.packet = packet
            self.firewall = firewall
        }

        mutating func fate(in chain: FirewallChain, depth: Int) -> Fate {
            // The kernel's own limit of jumps.
            if depth > 16 { return .goesOn }
            for rule in chain.rules {
                guard let verdict = verdict(of: rule) else { continue }
                switch verdict {
                case .accept: return .accepted
                case .drop: return .stopped(rule.comment)
                case .return: return .goesOn
                case .jump(let name), .goto(let name):
                    guard let next = firewall.chains.first(where: { $0.name == name }) else { continue }
                    let fate = fate(in: next, depth: depth + 1)
                    if case .goesOn = fate, case .jump = verdict { continue }
                    return fate
                }
            }
            return .goesOn
        }

        /// Nil where the rule does not match, or decides nothing.
        private mutating func verdict(of rule: FirewallRule) -> FirewallExpression.Verdict? {
            for expression in rule.expressions {
                switch expression {
                case .meta(let meta, let register): put(bytes(of: meta), register)
                case .setMeta(let meta, let register):
                    if meta == .mark { packet.mark = word(at: register) }
                case .conntrack(let key, let register): put(bytes(of: key), register)
                case .tuple(let direction, let field, let register):
                    guard let bytes = bytes(of: field, direction) else { return nil }
                    put(bytes, register)
                case .payload(let base, let offset, let length, let register):
                    put(Array(header(base).dropFirst(Int(offset)).prefix(Int(length))), register)
                case .bitwise(let mask, let register):
                    for (index, byte) in mask.enumerated() { registers[Int(register) * 4 + index] &= byte }
                case .compare(let comparison, let bytes, let register):
                    let start = Int(register) * 4
                    let isEqual = registers[start..<min(start + bytes.count, registers.count)].elementsEqual(bytes)
                    if isEqual != (comparison == .equal) { return nil }
                case .lookup(let set, let isInverted, let register):
                    if contains(set, register) == isInverted { return nil }
                case .countByMap(let set, let register): if !contains(set, register) { return nil }
                case .addressType(let side, let register):
                    // RTN_LOCAL and RTN_UNICAST.
                    let isLocal = side == .source ? packet.input == nil : packet.output == nil
                    put(Self.host(isLocal ? 2 : 1), register)
                case .masquerade: return .accept
                case .reject: return .drop
                case .verdict(let verdict): return verdict
                case .setConntrack, .byteOrder16, .counter, .countBy, .routeTCPMSS, .writeTCPMSS: break
                case .unknown: return nil
                }
            }
            return nil
        }

        // MARK: Registers

        private mutating func put(_ bytes: [UInt8], _ register: UInt8) {
            let start = Int(register) * 4
            guard start + (bytes.count + 3) & ~3 <= registers.count else { return }
            for index in 0..<(bytes.count + 3) & ~3 {
                registers[start + index] = index < bytes.count ? bytes[index] : 0
            }
        }

        private func word(at register: UInt8) -> UInt32 {
            let start = Int(register) * 4
            return registers[start..<start + 4].withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
        }

        private static func host(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

        private func bytes(of meta: FirewallExpression.Meta) -> [UInt8] {
            func padded(_ name: String?) -> [UInt8] {
                let bytes = Array((name ?? "").utf8.prefix(15))
                return bytes + [UInt8](repeating: 0, count: 16 - bytes.count)
            }
            return switch meta {
            case .inputInterface: padded(packet.input)
            case .outputInterface: padded(packet.output)
            case .family: [packet.source.family == .v4 ? 2 : 10]
            case .transport: [packet.transport]
            case .mark: Self.host(packet.mark)
            }
        }

        private func bytes(of key: FirewallExpression.Conntrack) -> [UInt8] {
            switch key {
            // NF_CT_STATE_BIT of IP_CT_ESTABLISHED and of IP_CT_NEW.
            case .state: Self.host(packet.isEstablished ? 2 : 8)
            case .status: Self.host(packet.isEstablished ? 8 : 0)
            case .direction: [packet.isReply ? 1 : 0]
            case .transport: [packet.transport]
            case .mark: Self.host(0)
            }
        }

        /// Nil in the other family. Nothing is translated here: the two tuples are each other's reverse.
        private func bytes(
            of field: FirewallExpression.TupleField, _ direction: FirewallExpression.TupleDirection
        ) -> [UInt8]? {
            let isHeader = (direction == .reply) == packet.isReply
            let (source, destination) =
                isHeader ? (packet.source, packet.destination) : (packet.destination, packet.source)
            let (sourcePort, destinationPort) =
                isHeader
                ? (packet.sourcePort, packet.destinationPort) : (packet.destinationPort, packet.sourcePort)
            return switch (field, source.family) {
            case (.source4, .v4), (.source6, .v6): Self.bytes(source)
            case (.destination4, .v4), (.destination6, .v6): Self.bytes(destination)
            case (.sourcePort, _): [UInt8(sourcePort >> 8), UInt8(sourcePort & 0xFF)]
            case (.destinationPort, _): [UInt8(destinationPort >> 8), UInt8(destinationPort & 0xFF)]
            default: nil
            }
        }

        /// As far as rules look into it: addresses and ports.
        private func header(_ base: FirewallExpression.PayloadBase) -> [UInt8] {
            var bytes = [UInt8](repeating: 0, count: 40)
            switch base {
            case .network:
                let (source, destination) = (Self.bytes(packet.source), Self.bytes(packet.destination))
                let start = source.count == 4 ? 12 : 8
                bytes.replaceSubrange(start..<start + source.count, with: source)
                bytes.replaceSubrange(
                    start + source.count..<start + source.count + destination.count, with: destination)
            case .transport:
                for (index, port) in [packet.sourcePort, packet.destinationPort].enumerated() {
                    bytes[index * 2] = UInt8(port >> 8)
                    bytes[index * 2 + 1] = UInt8(port & 0xFF)
                }
            }
            return bytes
        }

        private static func bytes(_ address: IPAddress) -> [UInt8] {
            func bytes<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
                withUnsafeBytes(of: number.bigEndian) { Array($0) }
            }
            return address.family == .v4 ? bytes(address.v4Bits) : bytes(address.high) + bytes(address.low)
        }

        // MARK: Sets

        private func contains(_ name: String, _ register: UInt8) -> Bool {
            guard let set = firewall.sets.first(where: { $0.name == name }) else { return false }
            let start = Int(register) * 4
            return set.elements.contains { element in
                var offset = 0
                for field in set.fields {
                    let end = offset + field.paddedSize
                    guard start + end <= registers.count else { return false }
                    let value = registers[start + offset..<start + end]
                    let (lower, upper) = (element.lower.bytes(offset..<end), element.upper.bytes(offset..<end))
                    if value.lexicographicallyPrecedes(lower) || upper.lexicographicallyPrecedes(value) { return false }
                    offset = end
                }
                return true
            }
        }
    }
}

extension FirewallKey {
    /// Whole words of it, in network order.
    fileprivate func bytes(_ range: Range<Int>) -> [UInt8] {
        stride(from: range.lowerBound, to: range.upperBound, by: 4).flatMap { offset in
            withUnsafeBytes(of: value(at: offset).bigEndian) { Array($0) }
        }
    }
}
