// Rules, sets and chains in the words of nft(8), read from their expressions.

import WeftModel

extension FirewallRule {
    /// As `nft list` prints it: `oifname != "wg0" meta mark != 0x7712 counter reject with icmpx admin-prohibited`.
    var phrase: String {
        var words = FirewallWords()
        for expression in expressions { words.read(expression) }
        let text = words.text
        return comment.isEmpty ? text : "\(text) comment \"\(comment.visible)\""
    }
}

/// Reads a rule's expressions one after another, as the kernel runs them: what is loaded is remembered by its register
/// until something compares it, looks it up or writes it.
private struct FirewallWords {
    private var words: [String] = []
    /// What lies in each register: its name, and how its values are written.
    private var loaded: [UInt8: (name: String, kind: Kind)] = [:]
    /// 4 or 6 where the rule has said so.
    private var family: UInt8?
    /// The protocol that the rule has asked for.
    private var transport: UInt8?
    /// How it asked.
    private var transportWords: String?

    private enum Kind {
        case interface, family, transport, mark, state, status, direction, address, port, flags, number, addressType
    }

    var text: String { words.joined(separator: " ") }

    mutating func read(_ expression: FirewallExpression) {
        switch expression {
        case .meta(let meta, let register): loaded[register] = Self.load(meta)
        case .conntrack(let key, let register): loaded[register] = Self.load(key)
        case .tuple(let direction, let field, let register):
            let kind: Kind = field == .sourcePort || field == .destinationPort ? .port : .address
            loaded[register] = ("ct \(direction.rawValue) \(field.rawValue)", kind)
        case .payload(let base, let offset, let length, let register):
            // `udp dport 53` says the protocol itself.
            if base == .transport, transport != nil, let last = words.last, last == transportWords {
                words.removeLast()
            }
            loaded[register] = load(base, offset, length)
        case .addressType(let side, let register):
            loaded[register] = ("fib \(side == .source ? "saddr" : "daddr") type", .addressType)
        case .routeTCPMSS(let register): loaded[register] = ("rt mtu", .number)
        case .bitwise(let mask, let register):
            guard let value = loaded[register] else { break }
            let text = Self.value(mask, value.kind)
            loaded[register] = ("\(value.name) & \(value.kind == .flags ? "(\(text))" : text)", value.kind)
        case .byteOrder16: break
        case .compare(let comparison, let bytes, let register): compare(comparison, bytes, register)
        case .lookup(let set, let isInverted, let register):
            words.append("\(take(from: register)) \(isInverted ? "!= " : "")@\(set.visible)")
        case .countByMap(let set, let register):
            words.append("counter name \(take(from: register)) map @\(set.visible)")
        case .setMeta(let meta, let register):
            words.append("\(Self.load(meta).name) set \(take(from: register))")
        case .setConntrack(let key, let register): words.append("\(Self.load(key).name) set \(take(from: register))")
        case .writeTCPMSS(let register): words.append("tcp option maxseg size set \(take(from: register))")
        case .counter: words.append("counter")
        case .countBy(let name): words.append("counter name \"\(name.visible)\"")
        case .masquerade: words.append("masquerade")
        case .reject(.prohibited): words.append("reject with icmpx admin-prohibited")
        case .reject(.reset): words.append("reject with tcp reset")
        case .verdict(let verdict): words.append(Self.word(verdict))
        case .unknown(let name): words.append("(\(name.visible), which weft never writes)")
        }
    }

    // MARK: What is loaded

    private static func load(_ meta: FirewallExpression.Meta) -> (name: String, kind: Kind) {
        switch meta {
        case .inputInterface, .outputInterface: (meta.rawValue, .interface)
        case .family: ("meta nfproto", .family)
        case .transport: ("meta l4proto", .transport)
        case .mark: ("meta mark", .mark)
        }
    }

    private static func load(_ key: FirewallExpression.Conntrack) -> (name: String, kind: Kind) {
        switch key {
        case .state: ("ct state", .state)
        case .status: ("ct status", .status)
        case .direction: ("ct direction", .direction)
        case .transport: ("ct protocol", .transport)
        case .mark: ("ct mark", .mark)
        }
    }

    private func load(
        _ base: FirewallExpression.PayloadBase, _ offset: UInt32, _ length: UInt32
    ) -> (name: String, kind: Kind) {
        switch (base, offset, length) {
        case (.network, 12, 4) where family != 10: ("ip saddr", .address)
        case (.network, 16, 4) where family != 10: ("ip daddr", .address)
        case (.network, 8, 16): ("ip6 saddr", .address)
        case (.network, 24, 16): ("ip6 daddr", .address)
        case (.transport, 0, 2): ("\(protocolWord) sport", .port)
        case (.transport, 2, 2): ("\(protocolWord) dport", .port)
        case (.transport, 0, 4) where transport == 6 || transport == 17: ("\(protocolWord) sport . dport", .number)
        case (.transport, 0, 1) where transport == 58: ("icmpv6 type", .number)
        case (.transport, 0, 1) where transport == 1: ("icmp type", .number)
        case (.transport, 13, 1): ("tcp flags", .flags)
        default: ("@\(base == .network ? "nh" : "th"),\(offset * 8),\(length * 8)", .number)
        }
    }

    private var protocolWord: String {
        switch transport {
        case 6: "tcp"
        case 17: "udp"
        default: "th"
        }
    }

    // MARK: What is done with it

    private mutating func compare(
        _ comparison: FirewallExpression.Comparison, _ bytes: [UInt8], _ register: UInt8
    ) {
        let (name, kind) = loaded.removeValue(forKey: register) ?? ("register \(register)", .number)
        if comparison == .equal, let byte = bytes.first, bytes.count == 1 {
            if kind == .family { family = byte }
            if kind == .transport { transport = byte }
        }
        let equals = name.contains(" & ") ? "== " : ""
        words.append("\(name) \(comparison == .equal ? equals : "!= ")\(Self.value(bytes, kind))")
        if kind == .transport, transport == bytes.first, comparison == .equal { transportWords = words.last }
    }

    /// What a concatenation is made of: all that was loaded from `register` on.
    private mutating func take(from register: UInt8) -> String {
        let registers = loaded.keys.filter { $0 >= register }.sorted()
        let names = registers.compactMap { loaded.removeValue(forKey: $0)?.name }
        return names.isEmpty ? "register \(register)" : names.joined(separator: " . ")
    }

    private static func word(_ verdict: FirewallExpression.Verdict) -> String {
        switch verdict {
        case .accept: "accept"
        case .drop: "drop"
        case .return: "return"
        case .jump(let chain): "jump \(chain.visible)"
        case .goto(let chain): "goto \(chain.visible)"
        }
    }

    // MARK: Values

    private static func value(_ bytes: [UInt8], _ kind: Kind) -> String {
        switch kind {
        case .interface:
            let name = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            return "\"\(name.visible)\""
        case .family where bytes.count == 1: return [2: "ipv4", 10: "ipv6"][bytes[0]] ?? "\(bytes[0])"
        case .transport where bytes.count == 1:
            return [1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp"][bytes[0]] ?? "\(bytes[0])"
        case .direction where bytes.count == 1: return [0: "original", 1: "reply"][bytes[0]] ?? "\(bytes[0])"
        case .mark: return "0x" + String(hostOrder(bytes), radix: 16)
        case .state:
            let names: [UInt32: String] = [1: "invalid", 2: "established", 4: "related", 8: "new", 64: "untracked"]
            return names[hostOrder(bytes)] ?? "\(hostOrder(bytes))"
        case .status:
            let names: [UInt32: String] = [8: "confirmed", 16: "snat", 32: "dnat"]
            return names[hostOrder(bytes)] ?? "\(hostOrder(bytes))"
        case .addressType:
            return [1: "unicast", 2: "local", 3: "broadcast", 5: "multicast"][hostOrder(bytes)] ?? "\(hostOrder(bytes))"
        case .flags:
            let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"]
            let set = names.indices.filter { number(bytes) >> UInt128($0) & 1 == 1 }.map { names[$0] }
            return set.isEmpty ? "0" : set.joined(separator: " | ")
        case .address: return address(bytes) ?? "\(number(bytes))"
        case .port, .number, .family, .transport, .direction: return "\(number(bytes))"
        }
    }

    private static func hostOrder(_ bytes: [UInt8]) -> UInt32 {
        guard bytes.count == 4 else { return UInt32(truncatingIfNeeded: number(bytes)) }
        return bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
    }

    private static func number(_ bytes: [UInt8]) -> UInt128 { bytes.prefix(16).reduce(0) { $0 << 8 | UInt128($1) } }

    private static func address(_ bytes: [UInt8]) -> String? {
        switch bytes.count {
        case 4: IPAddress(v4: UInt32(truncatingIfNeeded: number(bytes))).description
        case 16:
            IPAddress(
                v6: UInt64(truncatingIfNeeded: number(bytes) >> 64), UInt64(truncatingIfNeeded: number(bytes))
            ).description
        default: nil
        }
    }
}

extension FirewallChain {
    /// `chain forward  filter hook forward priority 0`.
    var phrase: String { base.map { "chain \(name.visible)  \($0.phrase)" } ?? "chain \(name.visible)" }
}

extension FirewallChain.Base {
    var phrase: String {
        "\(kind.rawValue) hook \(hook.rawValue) priority \(priority)" + (dropsByDefault ? ", policy drop" : "")
    }
}

extension FirewallSet {
    /// `ipv4_addr . ipv4_addr . inet_proto . inet_service : counter`.
    var type: String { fields.map(\.word).joined(separator: " . ") + (hasCounters ? " : counter" : "") }

    /// `map ports4  ipv4_addr . … : counter`.
    var phrase: String { "\(hasCounters ? "map" : "set") \(name.visible)  \(type)" }

    /// `10.80.0.1-10.80.0.9 . 10.80.0.1 . tcp . 22 : "access-0badcafe"`.
    func phrase(of element: Element) -> String {
        var offset = 0
        let parts = fields.map { field -> String in
            defer { offset += field.paddedSize }
            let (first, last) = (element.lower.word(field, at: offset), element.upper.word(field, at: offset))
            if first == last { return first }
            if field == .address4 || field == .address6,
                let prefix = prefix(element.lower, element.upper, field, at: offset)
            {
                return prefix
            }
            return "\(first)-\(last)"
        }
        return parts.joined(separator: " . ") + (hasCounters ? " : \"\(element.counter.visible)\"" : "")
    }

    private func prefix(_ lower: FirewallKey, _ upper: FirewallKey, _ field: Field, at offset: Int) -> String? {
        let (first, last) = (lower.number(field, at: offset), upper.number(field, at: offset))
        let size = last &- first
        guard size & (size &+ 1) == 0, first & size == 0 else { return nil }
        return "\(lower.word(field, at: offset))/\(field.size * 8 - size.nonzeroBitCount)"
    }
}

extension FirewallSet.Field {
    fileprivate var word: String {
        switch self {
        case .address4: "ipv4_addr"
        case .address6: "ipv6_addr"
        case .transport: "inet_proto"
        case .port: "inet_service"
        }
    }
}

extension FirewallKey {
    fileprivate func number(_ field: FirewallSet.Field, at offset: Int) -> UInt128 {
        stride(from: offset, to: offset + field.paddedSize, by: 4).reduce(0) { $0 << 32 | UInt128(value(at: $1)) }
    }

    fileprivate func word(_ field: FirewallSet.Field, at offset: Int) -> String {
        let number = number(field, at: offset)
        switch field {
        case .address4: return IPAddress(v4: UInt32(truncatingIfNeeded: number)).description
        case .address6:
            return IPAddress(v6: UInt64(truncatingIfNeeded: number >> 64), UInt64(truncatingIfNeeded: number))
                .description
        case .transport:
            let value = UInt8(truncatingIfNeeded: number >> 24)
            return [1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp"][value] ?? "\(value)"
        case .port: return "\(UInt16(truncatingIfNeeded: number >> 16))"
        }
    }
}
