// What nf_tables tells of one table: takes its chains, rules, sets and counters, and names what Weft never makes.

import CLinux
import Glibc
import Netlink
import WeftModel

/// Takes the generation of the whole configuration (NFT_MSG_GETGEN).
struct GenerationReading: MessageConsumer {
    private(set) var generation: UInt32?

    mutating func reset() { generation = nil }

    mutating func take(_ message: Message) -> Bool {
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            if attributes.type == UInt16(NFTA_GEN_ID) { generation = attributes.number() }
        }
        return !attributes.isMalformed && generation != nil
    }
}

/// Takes the table itself.
struct TableReading: MessageConsumer {
    private(set) var strangers: [String] = []
    /// The port of the socket that it belongs to (`flags owner`): nobody else can change it, or remove it.
    private(set) var owner: UInt32?

    mutating func reset() { self = TableReading() }

    mutating func take(_ message: Message) -> Bool {
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            switch nft_table_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_TABLE_FLAGS:
                let flags = attributes.number()
                if flags & NFT_TABLE_F_DORMANT.rawValue != 0 { strangers.append("flags dormant") }
                if flags & NFT_TABLE_F_OWNER.rawValue != 0 { owner = owner ?? 0 }
                // NFT_TABLE_F_PERSIST, from Linux 6.9.
                if flags & 4 != 0 { strangers.append("flags persist") }
                let others = flags & ~(NFT_TABLE_F_DORMANT.rawValue | NFT_TABLE_F_OWNER.rawValue | 4)
                if others != 0 { strangers.append("flags \(others)") }
            case NFTA_TABLE_USERDATA: strangers.append("comment")
            case NFTA_TABLE_OWNER: owner = attributes.number()
            default: break
            }
        }
        return !attributes.isMalformed
    }
}

/// Takes the chains of all tables of the family: before Linux 6.14 the kernel does not sort them out itself.
struct ChainReading: MessageConsumer {
    let table: String
    private(set) var chains: [FirewallChain] = []
    private(set) var strangers: [String] = []
    /// Chains without a name of their own (`jump { … }`). They belong to the rules that jump to them, and go with these.
    private(set) var bound: Set<String> = []

    init(table: String) { self.table = table }

    mutating func reset() {
        chains = []
        strangers = []
        bound = []
    }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWCHAIN) else { return true }
        var chain = FirewallChain("")
        var flags: UInt32 = 0
        var policy = UInt32(bitPattern: NF_ACCEPT)
        var type = ""
        var hook: (number: UInt32, priority: Int32)?
        var oddities: [String] = []
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            switch nft_chain_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_CHAIN_TABLE: if String(kernelText: attributes.payload) != table { return true }
            case NFTA_CHAIN_NAME: chain.name = String(kernelText: attributes.payload)
            case NFTA_CHAIN_FLAGS: flags = attributes.number()
            case NFTA_CHAIN_POLICY: policy = attributes.number()
            case NFTA_CHAIN_TYPE: type = String(kernelText: attributes.payload)
            case NFTA_CHAIN_COUNTERS: oddities.append("counter")
            case NFTA_CHAIN_USERDATA: oddities.append("comment")
            case NFTA_CHAIN_HOOK:
                var nested = attributes.nested()
                var place = (number: UInt32(0), priority: Int32(0))
                while nested.next() {
                    switch nft_hook_attributes(rawValue: UInt32(nested.type)) {
                    case NFTA_HOOK_HOOKNUM: place.number = nested.number()
                    case NFTA_HOOK_PRIORITY: place.priority = Int32(bitPattern: nested.number())
                    default: oddities.append("devices")
                    }
                }
                attributes.check(nested)
                hook = place
            default: break
            }
        }
        if attributes.isMalformed { return false }
        if flags & NFT_CHAIN_BINDING.rawValue != 0 {
            bound.insert(chain.name)
            return true
        }
        let others = flags & ~NFT_CHAIN_BASE.rawValue
        if others == NFT_CHAIN_HW_OFFLOAD.rawValue {
            oddities.append("flags offload")
        } else if others != 0 {
            oddities.append("flags \(others)")
        }
        if let hook {
            if let kind = FirewallChain.Base.Kind(rawValue: type),
                let place = FirewallChain.Base.Hook(number: hook.number)
            {
                chain.base = .init(
                    kind, place, priority: hook.priority, dropsByDefault: policy == UInt32(bitPattern: NF_DROP))
            } else {
                let place = hook.number == NF_INET_INGRESS.rawValue ? "ingress" : "\(hook.number)"
                oddities.append("type \(type) hook \(place)")
            }
        }
        strangers += oddities.map { "chain \(chain.name): \($0)" }
        chains.append(chain)
        return true
    }
}

/// Takes the rules of one table: chain by chain, each in its order.
struct RuleReading: MessageConsumer {
    private(set) var rules: [String: [FirewallRule]] = [:]
    /// The chain that the last rule was in, with its rules so far: what comes next is most likely in it too.
    private var chain = ""
    private var pending: [FirewallRule] = []

    mutating func reset() {
        rules = [:]
        chain = ""
        pending = []
    }

    /// To be called after the last one.
    mutating func finish() {
        if !pending.isEmpty { rules[chain, default: []] += pending }
        pending = []
    }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWRULE) else { return true }
        var rule = FirewallRule([])
        var oddities: [FirewallExpression] = []
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            switch nft_rule_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_RULE_CHAIN:
                if attributes.payload.isKernelText(chain) { continue }
                finish()
                chain = String(kernelText: attributes.payload)
            case NFTA_RULE_EXPRESSIONS:
                // Most rules are about as long as the one before.
                rule.expressions.reserveCapacity(pending.last?.expressions.count ?? 0)
                var list = attributes.nested()
                while list.next() {
                    guard let expression = FirewallExpression(list.payload) else { return false }
                    rule.expressions.append(expression)
                }
                attributes.check(list)
            case NFTA_RULE_USERDATA:
                let isWhole = NftNote.each(attributes.payload) { type, value in
                    if type == NftNote.comment {
                        rule.comment = String(kernelText: value)
                    } else {
                        oddities.append(.unknown("note \(type)"))
                    }
                }
                if !isWhole { oddities.append(.unknown("notes")) }
            case NFTA_RULE_COMPAT: oddities.append(.unknown("compat"))
            // Where it is and what it is called, which the order of the rules says already.
            case NFTA_RULE_TABLE, NFTA_RULE_HANDLE, NFTA_RULE_POSITION, NFTA_RULE_PAD: break
            default: break
            }
        }
        rule.expressions += oddities
        if attributes.isMalformed { return false }
        pending.append(rule)
        return true
    }
}

/// Takes the named counters of one table, and the names of its other objects.
struct ObjectReading: MessageConsumer {
    private(set) var counters: [FirewallCounter] = []
    private(set) var counts: [FirewallCount] = []
    private(set) var strangers: [String] = []

    mutating func reset() { self = ObjectReading() }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWOBJ) else { return true }
        var count = FirewallCount(name: "", comment: "", packets: 0, bytes: 0)
        var type: UInt32 = 0
        var hasOtherNotes = false
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            switch nft_object_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_OBJ_NAME: count.name = String(kernelText: attributes.payload)
            case NFTA_OBJ_TYPE: type = attributes.number()
            case NFTA_OBJ_DATA where type == UInt32(NFT_OBJECT_COUNTER):
                var nested = attributes.nested()
                while nested.next() {
                    switch nft_counter_attributes(rawValue: UInt32(nested.type)) {
                    case NFTA_COUNTER_BYTES: count.bytes = UInt64(bigEndian: nested.uint64())
                    case NFTA_COUNTER_PACKETS: count.packets = UInt64(bigEndian: nested.uint64())
                    default: break
                    }
                }
                attributes.check(nested)
            case NFTA_OBJ_USERDATA:
                let isWhole = NftNote.each(attributes.payload) { type, value in
                    if type == NftNote.comment {
                        count.comment = String(kernelText: value)
                    } else {
                        hasOtherNotes = true
                    }
                }
                if !isWhole { hasOtherNotes = true }
            default: break
            }
        }
        if attributes.isMalformed { return false }
        guard type == UInt32(NFT_OBJECT_COUNTER) else {
            strangers.append("\(Self.name(ofType: type)) \(count.name)")
            return true
        }
        if hasOtherNotes { strangers.append("counter \(count.name): notes") }
        counters.append(FirewallCounter(count.name, comment: count.comment))
        counts.append(count)
        return true
    }

    /// As `nft` names them.
    static func name(ofType type: UInt32) -> String {
        switch Int32(bitPattern: type) {
        case NFT_OBJECT_COUNTER: "counter"
        case NFT_OBJECT_QUOTA: "quota"
        case NFT_OBJECT_CT_HELPER: "ct helper"
        case NFT_OBJECT_LIMIT: "limit"
        case NFT_OBJECT_TUNNEL: "tunnel"
        case NFT_OBJECT_CT_TIMEOUT: "ct timeout"
        case NFT_OBJECT_SECMARK: "secmark"
        case NFT_OBJECT_CT_EXPECT: "ct expectation"
        case NFT_OBJECT_SYNPROXY: "synproxy"
        default: "object of type \(type)"
        }
    }
}

/// Takes the names of one table's flowtables: Weft makes none.
struct FlowtableReading: MessageConsumer {
    private(set) var strangers: [String] = []

    mutating func reset() { strangers = [] }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWFLOWTABLE) else { return true }
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            if attributes.type == UInt16(NFTA_FLOWTABLE_NAME) {
                strangers.append("flowtable \(String(kernelText: attributes.payload))")
            }
        }
        return !attributes.isMalformed
    }
}
