// A model of nf_tables: runs a table's rules on one packet, register by register, as the kernel does.

package import WeftModel

/// A packet on its way through a host, with all that rules can ask about it.
package struct ModelPacket: Sendable {
    package var source: IPAddress
    package var destination: IPAddress
    /// Empty where there is none.
    package var inputInterface = ""
    package var outputInterface = ""
    package var transport: UInt8 = 6
    /// The protocol of the flow that an ICMP error is about; nil where the packet is of the flow itself.
    package var flowTransport: UInt8?
    /// The first bytes of the TCP, UDP or ICMP header.
    package var header: [UInt8] = []
    package var mark: UInt32 = 0
    package var connectionMark: UInt32 = 0
    /// Bits of NF_CT_STATE_BIT.
    package var state: UInt32 = 8
    package var isReply = false
    /// Whether connection tracking knows the packet's flow at all.
    package var isTracked = true
    /// The packet's flow as its opener sent it; nil where nothing has translated it.
    package var original: Tuple?
    /// The packet's flow as its answers are sent; nil where nothing has translated it.
    package var reply: Tuple?
    /// What others' NAT makes of the source where the packet leaves; nil where it stays as it is.
    package var masqueradedAs: IPAddress?
    package var isFromHere = false
    package var isForHere = false
    /// The largest segment that the route out can carry.
    package var routeMSS: UInt16 = 1380
    /// What a rule has written into TCP's option.
    package private(set) var writtenMSS: UInt16?
    package private(set) var isMasqueraded = false

    package init(_ source: IPAddress, _ destination: IPAddress) {
        self.source = source
        self.destination = destination
    }

    /// Gives the packet a TCP or UDP header's ports, and TCP's flags.
    package mutating func setPorts(_ source: UInt16, _ destination: UInt16, flags: UInt8 = 0) {
        header = [source, destination].flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }
        header += [UInt8](repeating: 0, count: 9) + [flags, 0, 0, 0, 0, 0, 0]
    }

    fileprivate var networkHeader: [UInt8] {
        let start = [UInt8](repeating: 0, count: source.family == .v4 ? 12 : 8)
        return start + Self.bytes(source) + Self.bytes(destination)
    }

    private static func bytes(_ address: IPAddress) -> [UInt8] {
        var key = FirewallKey()
        key.append(address)
        return (0..<key.count / 4).flatMap { word in
            let value = key.value(at: word * 4)
            return (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(24 - 8 * $0)) }
        }
    }

    /// A flow in one direction.
    package struct Tuple: Sendable {
        package var source: IPAddress
        package var destination: IPAddress
        package var sourcePort: UInt16
        package var destinationPort: UInt16

        package init(_ source: IPAddress, _ sourcePort: UInt16, _ destination: IPAddress, _ destinationPort: UInt16) {
            self.source = source
            self.destination = destination
            self.sourcePort = sourcePort
            self.destinationPort = destinationPort
        }
    }

    fileprivate func tuple(_ direction: FirewallExpression.TupleDirection) -> Tuple {
        if let translated = direction == .original ? original : reply { return translated }
        func port(_ offset: Int) -> UInt16 {
            header.count < offset + 2 ? 0 : UInt16(header[offset]) << 8 | UInt16(header[offset + 1])
        }
        return (direction == .reply) == isReply
            ? Tuple(source, port(0), destination, port(2)) : Tuple(destination, port(2), source, port(0))
    }

    fileprivate var isDestinationTranslated: Bool {
        let (sent, answered) = (tuple(.original), tuple(.reply))
        return sent.destination != answered.source || sent.destinationPort != answered.sourcePort
    }

    fileprivate func value(
        of field: FirewallExpression.TupleField, _ direction: FirewallExpression.TupleDirection
    ) -> [UInt8]? {
        let tuple = tuple(direction)
        return switch (field, source.family) {
        case (.source4, .v4), (.source6, .v6): Self.bytes(tuple.source)
        case (.destination4, .v4), (.destination6, .v6): Self.bytes(tuple.destination)
        case (.sourcePort, _): [UInt8(tuple.sourcePort >> 8), UInt8(tuple.sourcePort & 0xFF)]
        case (.destinationPort, _): [UInt8(tuple.destinationPort >> 8), UInt8(tuple.destinationPort & 0xFF)]
        default: nil
        }
    }

    /// As `srcnat` leaves it.
    fileprivate mutating func translateSource() {
        guard let name = masqueradedAs else { return }
        original = tuple(.original)
        (source, isFromHere) = (name, true)
    }

    fileprivate mutating func masquerade() { isMasqueraded = true }
    fileprivate mutating func write(mss: UInt16) { writtenMSS = mss }
}

/// One mesh's table, as the kernel runs it.
package struct ModelFirewall {
    package enum Verdict: Hashable, Sendable { case accepted, dropped, refused }

    package let firewall: Firewall
    /// How often each named counter has counted.
    package private(set) var counts: [String: Int] = [:]

    package init(_ firewall: Firewall?) { self.firewall = firewall ?? Firewall() }

    /// Leads a packet through all chains of a hook.
    package mutating func run(_ packet: inout ModelPacket, _ hook: FirewallChain.Base.Hook) -> Verdict {
        let chains = firewall.chains.filter { $0.base?.hook == hook }
        for chain in chains.sorted(by: { ($0.base?.priority ?? 0) < ($1.base?.priority ?? 0) }) {
            if hook == .postrouting, let priority = chain.base?.priority, priority > 100 { packet.translateSource() }
            if let verdict = run(chain, &packet), verdict != .accepted { return verdict }
        }
        return .accepted
    }

    /// Leads a packet that is passed on through the hooks of its way.
    package mutating func forward(_ packet: inout ModelPacket) -> Verdict {
        for hook in [FirewallChain.Base.Hook.prerouting, .forward, .postrouting] {
            let verdict = run(&packet, hook)
            if verdict != .accepted { return verdict }
        }
        return .accepted
    }

    /// Leads a packet of the host's own out.
    package mutating func send(_ packet: inout ModelPacket) -> Verdict {
        let verdict = run(&packet, .output)
        return verdict == .accepted ? run(&packet, .postrouting) : verdict
    }

    /// Leads a packet to the host in.
    package mutating func receive(_ packet: inout ModelPacket) -> Verdict {
        let verdict = run(&packet, .prerouting)
        return verdict == .accepted ? run(&packet, .input) : verdict
    }

    /// Nil where the packet has come to the chain's end.
    private mutating func run(_ chain: FirewallChain, _ packet: inout ModelPacket) -> Verdict? {
        for rule in chain.rules {
            switch run(rule, &packet) {
            case .next: continue
            case .done(let verdict): return verdict
            case .jump(let name):
                guard let target = firewall.chains.first(where: { $0.name == name }) else { return .dropped }
                if let verdict = run(target, &packet) { return verdict }
            case .back: return nil
            }
        }
        return nil
    }

    private enum Step { case next, back, done(Verdict), jump(String) }

    private mutating func run(_ rule: FirewallRule, _ packet: inout ModelPacket) -> Step {
        var registers = [UInt8](repeating: 0, count: 64)
        func store(_ bytes: [UInt8], _ register: UInt8) {
            // What is shorter than four bytes leaves zeros behind it.
            let padded = bytes + [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
            for (offset, byte) in padded.enumerated() { registers[Int(register) * 4 + offset] = byte }
        }
        func load(_ register: UInt8, _ count: Int) -> [UInt8] {
            Array(registers[Int(register) * 4..<Int(register) * 4 + count])
        }
        func number(_ register: UInt8) -> UInt32 { load(register, 4).withUnsafeBytes { $0.load(as: UInt32.self) } }
        for expression in rule.expressions {
            switch expression {
            case .meta(let meta, let register): store(value(of: meta, packet), register)
            case .setMeta(.mark, let register): packet.mark = number(register)
            case .conntrack(let what, let register):
                guard packet.isTracked else { return .next }
                store(value(of: what, packet), register)
            case .tuple(let direction, let field, let register):
                guard packet.isTracked, let bytes = packet.value(of: field, direction) else { return .next }
                store(bytes, register)
            case .setConntrack(.mark, let register): packet.connectionMark = number(register)
            case .payload(let base, let offset, let length, let register):
                let bytes = base == .network ? packet.networkHeader : packet.header
                guard bytes.count >= Int(offset + length) else { return .next }
                store(Array(bytes[Int(offset)..<Int(offset + length)]), register)
            case .bitwise(let mask, let register):
                store(zip(load(register, mask.count), mask).map { $0 & $1 }, register)
            case .byteOrder16(let register): store(load(register, 2).reversed(), register)
            case .compare(let comparison, let bytes, let register):
                if (load(register, bytes.count) == bytes) != (comparison == .equal) { return .next }
            case .lookup(let name, let isInverted, let register):
                if (find(name, registers, register) != nil) == isInverted { return .next }
            case .counter: continue
            case .countBy(let name): counts[name, default: 0] += 1
            case .countByMap(let name, let register):
                guard let element = find(name, registers, register) else { return .next }
                counts[element.counter, default: 0] += 1
            case .addressType(let side, let register):
                let isLocal = side == .source ? packet.isFromHere : packet.isForHere
                store(Self.bytes(isLocal ? 2 : 1), register)
            case .routeTCPMSS(let register): store(withUnsafeBytes(of: packet.routeMSS) { Array($0) }, register)
            case .writeTCPMSS(let register):
                let bytes = load(register, 2)
                packet.write(mss: UInt16(bytes[0]) << 8 | UInt16(bytes[1]))
            case .masquerade:
                packet.masquerade()
                return .done(.accepted)
            case .reject: return .done(.refused)
            case .verdict(.accept): return .done(.accepted)
            case .verdict(.drop): return .done(.dropped)
            case .verdict(.return): return .back
            case .verdict(.jump(let name)), .verdict(.goto(let name)): return .jump(name)
            case .setMeta, .setConntrack, .unknown: return .done(.dropped)
            }
        }
        return .next
    }

    private func value(of meta: FirewallExpression.Meta, _ packet: ModelPacket) -> [UInt8] {
        func padded(_ name: String) -> [UInt8] {
            Array(name.utf8) + [UInt8](repeating: 0, count: 16 - name.utf8.count)
        }
        return switch meta {
        case .inputInterface: padded(packet.inputInterface)
        case .outputInterface: padded(packet.outputInterface)
        case .family: [packet.source.family == .v4 ? 2 : 10]
        case .transport: [packet.transport]
        case .mark: Self.bytes(packet.mark)
        }
    }

    private func value(of what: FirewallExpression.Conntrack, _ packet: ModelPacket) -> [UInt8] {
        switch what {
        case .state: Self.bytes(packet.state)
        // Confirmed, from the first packet that got through on; and whether the destination was translated.
        case .status:
            Self.bytes(
                (packet.isReply || packet.state & 2 != 0 ? 8 : 0) | (packet.isDestinationTranslated ? 0x20 : 0))
        case .direction: [packet.isReply ? 1 : 0]
        case .transport: [packet.flowTransport ?? packet.transport]
        case .mark: Self.bytes(packet.connectionMark)
        }
    }

    private static func bytes(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

    /// The element that holds a key, field by field.
    private func find(_ name: String, _ registers: [UInt8], _ register: UInt8) -> FirewallSet.Element? {
        guard let set = firewall.sets.first(where: { $0.name == name }) else { return nil }
        let size = set.fields.reduce(0) { $0 + $1.paddedSize }
        let start = Int(register) * 4
        let words = stride(from: start, to: start + size, by: 4).map { offset in
            registers[offset..<offset + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        }
        return set.elements.first { element in
            var word = 0
            return set.fields.allSatisfy { field in
                let count = field.paddedSize / 4
                defer { word += count }
                let range = word..<word + count
                let key = range.map { words[$0] }
                let lower = range.map { element.lower.value(at: $0 * 4) }
                let upper = range.map { element.upper.value(at: $0 * 4) }
                return !key.lexicographicallyPrecedes(lower) && !upper.lexicographicallyPrecedes(key)
            }
        }
    }
}
