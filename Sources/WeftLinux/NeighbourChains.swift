// Other programs' chains in nf_tables, read as far as one must know whether a mesh's packets get through them.

import CLinux
import Glibc
import Netlink
import WeftModel

/// A chain of another program's.
struct NeighbourChain: Hashable {
    /// NFPROTO_*
    var family: UInt8
    var table: String
    var name: String
    var base: FirewallChain.Base?
}

/// What rules are looked through for.
struct NeighbourSearch: Hashable {
    var interface: String
    /// Of our link; 0 where there is none.
    var index: UInt32
    /// The tunnel's own UDP port.
    var port: UInt16?

    /// Whether bytes that are compared with an interface's name are, or begin, ours.
    func isOurName(_ bytes: [UInt8]) -> Bool {
        let name = bytes.prefix { $0 != 0 }
        // Without its end it is the beginning of names: `wg+` of iptables, `wg*` of nft.
        return name.count < bytes.count ? interface.utf8.elementsEqual(name) : interface.utf8.starts(with: name)
    }

    func isOurPort(_ bytes: [UInt8]) -> Bool { isOurPort(from: bytes, to: bytes) }

    /// In network order, both within.
    func isOurPort(from low: [UInt8], to high: [UInt8]) -> Bool {
        guard let port, low.count == 2, high.count == 2 else { return false }
        func number(_ bytes: [UInt8]) -> UInt16 { UInt16(bytes[0]) << 8 | UInt16(bytes[1]) }
        return number(low) <= port && port <= number(high)
    }
}

/// Takes the chains of all tables, of all families that carry IP.
struct NeighbourChainReading: MessageConsumer {
    private(set) var chains: [NeighbourChain] = []

    mutating func reset() { chains = [] }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWCHAIN) else { return true }
        guard let family = message.payload.load(at: 0, as: UInt8.self) else { return false }
        guard [NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6].contains(where: { UInt8($0) == family }) else { return true }
        var chain = NeighbourChain(family: family, table: "", name: "")
        var policy = UInt32(bitPattern: NF_ACCEPT)
        var type = ""
        var hook: (number: UInt32, priority: Int32)?
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            switch nft_chain_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_CHAIN_TABLE: chain.table = String(kernelText: attributes.payload)
            case NFTA_CHAIN_NAME: chain.name = String(kernelText: attributes.payload)
            case NFTA_CHAIN_POLICY: policy = attributes.number()
            case NFTA_CHAIN_TYPE: type = String(kernelText: attributes.payload)
            case NFTA_CHAIN_HOOK:
                var nested = attributes.nested()
                var place = (number: UInt32(0), priority: Int32(0))
                while nested.next() {
                    switch nft_hook_attributes(rawValue: UInt32(nested.type)) {
                    case NFTA_HOOK_HOOKNUM: place.number = nested.number()
                    case NFTA_HOOK_PRIORITY: place.priority = Int32(bitPattern: nested.number())
                    default: break
                    }
                }
                attributes.check(nested)
                hook = place
            default: break
            }
        }
        if let hook, let kind = FirewallChain.Base.Kind(rawValue: type),
            let place = FirewallChain.Base.Hook(number: hook.number)
        {
            chain.base = .init(
                kind, place, priority: hook.priority, dropsByDefault: policy == UInt32(bitPattern: NF_DROP))
        }
        chains.append(chain)
        return !attributes.isMalformed
    }
}

/// Takes the rules of one chain: whether they name our interface or our port, and where they lead.
struct NeighbourRuleReading: MessageConsumer {
    let search: NeighbourSearch
    private(set) var namesInterface = false
    private(set) var namesPort = false
    /// Chains that rules jump or go to.
    private(set) var next: Set<String> = []
    /// Sets that rules look into.
    private(set) var sets: Set<String> = []
    /// Whether a rule sends packets on by a map: to which chains is not in the rule.
    private(set) var hasMap = false
    /// Whether a rule without any condition drops or refuses.
    private(set) var refusesTheRest = false

    init(_ search: NeighbourSearch) { self.search = search }

    mutating func reset() { self = NeighbourRuleReading(search) }

    /// What the last expression put into a register.
    private enum Loaded {
        case nothing, interfaceName, interfaceIndex
        /// The destination port, which was seen to be at least this.
        case port(from: [UInt8]? = nil)
    }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWRULE) else { return true }
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        var loaded = Loaded.nothing
        var hasCondition = false
        var refuses = false
        while attributes.next() {
            switch nft_rule_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_RULE_EXPRESSIONS:
                var list = attributes.nested()
                while list.next() {
                    var expression = list.nested()
                    var name = ""
                    while expression.next() {
                        switch nft_expr_attributes(rawValue: UInt32(expression.type)) {
                        case NFTA_EXPR_NAME: name = String(kernelText: expression.payload)
                        case NFTA_EXPR_DATA:
                            var data = expression.nested()
                            take(name, &data, &loaded, &refuses)
                            expression.check(data)
                        default: break
                        }
                    }
                    switch name {
                    case "counter", "immediate", "log", "reject", "target", "notrack": break
                    default: hasCondition = true
                    }
                    if name == "reject" { refuses = true }
                    list.check(expression)
                }
                attributes.check(list)
            case NFTA_RULE_USERDATA:
                _ = NftNote.each(attributes.payload) { type, value in
                    if type == NftNote.comment, String(kernelText: value).lowercased().contains("weft") {
                        namesInterface = true
                        namesPort = true
                    }
                }
            default: break
            }
        }
        if refuses, !hasCondition { refusesTheRest = true }
        return !attributes.isMalformed
    }

    private mutating func take(
        _ name: String, _ data: inout Attributes, _ loaded: inout Loaded, _ refuses: inout Bool
    ) {
        switch name {
        case "meta": loaded = Self.metaLoads(&data)
        case "payload": loaded = Self.payloadLoads(&data)
        case "cmp":
            var (comparison, operand) = (NFT_CMP_EQ.rawValue, [UInt8]())
            while data.next() {
                switch nft_cmp_attributes(rawValue: UInt32(data.type)) {
                case NFTA_CMP_OP: comparison = data.number()
                case NFTA_CMP_DATA: operand = value(in: data)
                default: break
                }
            }
            compare(operand, comparison, &loaded)
        case "range":
            var (low, high) = ([UInt8](), [UInt8]())
            while data.next() {
                switch nft_range_attributes(rawValue: UInt32(data.type)) {
                case NFTA_RANGE_FROM_DATA: low = value(in: data)
                case NFTA_RANGE_TO_DATA: high = value(in: data)
                default: break
                }
            }
            if case .port = loaded, search.isOurPort(from: low, to: high) { namesPort = true }
        case "lookup":
            while data.next() {
                switch nft_lookup_attributes(rawValue: UInt32(data.type)) {
                case NFTA_LOOKUP_SET: sets.insert(String(kernelText: data.payload))
                case NFTA_LOOKUP_DREG: hasMap = true
                default: break
                }
            }
        case "immediate": takeVerdict(&data, &refuses)
        case "match": takeMatch(&data)
        case "target":
            while data.next() {
                guard data.type == UInt16(NFTA_TARGET_NAME) else { continue }
                let target = String(kernelText: data.payload)
                if target == "REJECT" || target == "DROP" { refuses = true }
            }
        default: break
        }
    }

    private mutating func compare(_ value: [UInt8], _ comparison: UInt32, _ loaded: inout Loaded) {
        // A range may come as two comparisons.
        if case .port(let low) = loaded {
            switch nft_cmp_ops(rawValue: comparison) {
            case NFT_CMP_GTE: return loaded = .port(from: value)
            case NFT_CMP_LTE:
                if search.isOurPort(from: low ?? [0, 0], to: value) { namesPort = true }
                return
            default: break
            }
        }
        switch loaded {
        case .interfaceName: if search.isOurName(value) { namesInterface = true }
        case .interfaceIndex:
            let index = unsafe withUnsafeBytes(of: search.index) { unsafe Array($0) }
            if search.index != 0, value == index { namesInterface = true }
        case .port: if search.isOurPort(value) { namesPort = true }
        case .nothing: break
        }
    }

    private static func metaLoads(_ data: inout Attributes) -> Loaded {
        var loaded = Loaded.nothing
        while data.next() {
            guard data.type == UInt16(NFTA_META_KEY) else { continue }
            switch nft_meta_keys(rawValue: data.number()) {
            case NFT_META_IIFNAME, NFT_META_OIFNAME: loaded = .interfaceName
            case NFT_META_IIF, NFT_META_OIF: loaded = .interfaceIndex
            default: break
            }
        }
        return loaded
    }

    private static func payloadLoads(_ data: inout Attributes) -> Loaded {
        var (base, offset, length) = (UInt32.max, UInt32.max, UInt32.max)
        while data.next() {
            switch nft_payload_attributes(rawValue: UInt32(data.type)) {
            case NFTA_PAYLOAD_BASE: base = data.number()
            case NFTA_PAYLOAD_OFFSET: offset = data.number()
            case NFTA_PAYLOAD_LEN: length = data.number()
            default: break
            }
        }
        return base == NFT_PAYLOAD_TRANSPORT_HEADER.rawValue && offset == 2 && length == 2 ? .port() : .nothing
    }

    private mutating func takeVerdict(_ data: inout Attributes, _ refuses: inout Bool) {
        while data.next() {
            guard data.type == UInt16(NFTA_IMMEDIATE_DATA) else { continue }
            var value = data.nested()
            while value.next() {
                guard value.type == UInt16(NFTA_DATA_VERDICT) else { continue }
                var verdict = value.nested()
                while verdict.next() {
                    switch nft_verdict_attributes(rawValue: UInt32(verdict.type)) {
                    case NFTA_VERDICT_CODE: if Int32(bitPattern: verdict.number()) == NF_DROP { refuses = true }
                    case NFTA_VERDICT_CHAIN: next.insert(String(kernelText: verdict.payload))
                    default: break
                    }
                }
            }
        }
    }

    /// The matches of iptables for ports: struct xt_udp (four ports, in host order: from and to, of either end), and
    /// struct xt_multiport (two bytes, then up to 15 ports).
    private mutating func takeMatch(_ data: inout Attributes) {
        var name = ""
        while data.next() {
            switch nft_match_attributes(rawValue: UInt32(data.type)) {
            case NFTA_MATCH_NAME: name = String(kernelText: data.payload)
            case NFTA_MATCH_INFO:
                guard let port = search.port else { break }
                let places = (data.count - 2) / 2
                switch name {
                case "udp" where data.count >= 8:
                    let ports =
                        data.load(
                            at: 4, as: UInt16.self)...max(
                            data.load(at: 4, as: UInt16.self), data.load(at: 6, as: UInt16.self))
                    if ports.contains(port) { namesPort = true }
                case "multiport" where places > 0:
                    for place in 0..<min(15, places) where data.load(at: 2 + place * 2, as: UInt16.self) == port {
                        namesPort = true
                    }
                default: break
                }
            default: break
            }
        }
    }

    /// The bytes of NFTA_DATA_VALUE in the current attribute.
    private func value(in attributes: borrowing Attributes) -> [UInt8] {
        var nested = attributes.nested()
        while nested.next() {
            if nested.type == UInt16(NFTA_DATA_VALUE) {
                return unsafe nested.payload.withUnsafeBytes { unsafe Array($0) }
            }
        }
        return []
    }
}

/// Takes the elements of one set: whether our interface's name or our port is among them.
struct NeighbourElementReading: MessageConsumer {
    let search: NeighbourSearch
    private(set) var namesInterface = false
    private(set) var namesPort = false

    init(_ search: NeighbourSearch) { self.search = search }

    mutating func reset() { self = NeighbourElementReading(search) }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWSETELEM) else { return true }
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            guard attributes.type == UInt16(NFTA_SET_ELEM_LIST_ELEMENTS) else { continue }
            var list = attributes.nested()
            while list.next() {
                var element = list.nested()
                while element.next() {
                    guard element.type == UInt16(NFTA_SET_ELEM_KEY) else { continue }
                    var key = element.nested()
                    while key.next() {
                        guard key.type == UInt16(NFTA_DATA_VALUE) else { continue }
                        let bytes = unsafe key.payload.withUnsafeBytes { unsafe Array($0) }
                        // A name has 16 bytes, a port two, and what is more than one field is more than either.
                        if bytes.count == 16, search.isOurName(bytes) { namesInterface = true }
                        if bytes.count == 2, search.isOurPort(bytes) { namesPort = true }
                    }
                }
                list.check(element)
            }
            attributes.check(list)
        }
        return !attributes.isMalformed
    }
}
