// What is asked of nf_tables as messages of one transaction: each with what it is about, should the kernel refuse it.

import CLinux
import Glibc
import Netlink
import WeftModel
import WeftPlan

/// The messages of one operation. Order: what others refer to comes before them, and goes after them. All of it holds at
/// once or not at all, so order matters to the kernel's checks alone, and to no packet.
struct NfTablesBatch {
    let table: String
    private(set) var messages: [NfTablesMessage] = []

    /// - Parameter live: what the table is, where it is known: a set that is made anew takes with it the rules that look
    ///   into it, and these are put back.
    init(_ operation: FirewallOperation, live: Firewall?) {
        table = operation.table
        switch operation {
        case .create(let firewall, _):
            messages.append(.makeTable(isNew: true))
            fill(firewall)
        case .rebuild(_, let new, _):
            // What may have gone in the meantime is made first, so that it is there to be removed.
            messages += [.makeTable(isNew: false), .removeTable, .makeTable(isNew: true)]
            fill(new)
        case .remove:
            messages.append(.removeTable)
        case .change(let change, _):
            self.change(change, live: live)
        }
    }

    private mutating func fill(_ firewall: Firewall) {
        messages += firewall.counters.map { .makeCounter($0) }
        for set in firewall.sets { make(set) }
        messages += firewall.chains.map { .makeChain($0) }
        for chain in firewall.chains { addRules(of: chain) }
    }

    private mutating func change(_ change: FirewallChange, live: Firewall?) {
        let anew = live == nil ? [] : Set(change.changedSets.filter(\.isFasterAnew).map(\.new.name))
        let decided = Set(change.changedChains.map(\.new.name) + change.removedChains.map(\.name))
        let dependent = (live?.chains ?? []).filter { !decided.contains($0.name) && $0.looks(into: anew) }
        let refilled = change.changedChains.map(\.new) + dependent

        messages += change.addedCounters.map { .makeCounter($0) }
        // A chain goes only when no rule jumps to it any more, and a set when none looks into it.
        messages += refilled.map { .flushChain($0.name) } + change.removedChains.map { .flushChain($0.name) }
        for set in change.addedSets { make(set) }
        for set in change.changedSets {
            if anew.contains(set.new.name) {
                messages.append(.removeSet(set.new.name))
                make(set.new)
            } else {
                // Removed first: what is added may overlap it.
                putElements(set.removed, of: set.new, isRemoval: true)
                putElements(set.added, of: set.new, isRemoval: false)
            }
        }
        messages += change.addedChains.map { .makeChain($0) }
        for chain in change.addedChains + refilled { addRules(of: chain) }
        messages += change.removedChains.map { .removeChain($0.name) }
        messages += change.removedSets.map { .removeSet($0.name) }
        messages += change.removedCounters.map { .removeCounter($0.name) }
    }

    private mutating func make(_ set: FirewallSet) {
        messages.append(.makeSet(set, number: UInt32(messages.count + 1)))
        putElements(set.elements, of: set, isRemoval: false)
    }

    private mutating func addRules(of chain: FirewallChain) {
        messages += chain.rules.indices.map { .addRule(chain, index: $0) }
    }

    /// As many messages as it takes: a list of elements is a nest, and has at most 65,535 bytes.
    private mutating func putElements(_ elements: [FirewallSet.Element], of set: FirewallSet, isRemoval: Bool) {
        let most = Encoder.attributeLimit / set.elementSize
        for start in stride(from: 0, to: elements.count, by: most) {
            let slice = elements[start..<min(start + most, elements.count)]
            messages.append(isRemoval ? .removeElements(set, slice) : .addElements(set, slice))
        }
    }

    /// About how many bytes it has, and not fewer.
    var size: Int { messages.reduce(1024) { $0 + $1.size } }

    func put(_ encoder: inout Encoder) {
        for message in messages {
            message.put(&encoder, table)
            encoder.end()
        }
    }
}

extension FirewallChange.Members {
    /// Whether the set had better be removed and made anew, with all its elements. Of a set of flows, the kernel takes
    /// 15 times as long to remove an element as to add one (5 ms, among 5,000 on Linux 6.18).
    fileprivate var isFasterAnew: Bool {
        removed.count > 100 && removed.count * (new.isConcatenation ? 16 : 2) > new.elements.count
    }
}

extension FirewallChain {
    func looks(into sets: Set<String>) -> Bool {
        !sets.isEmpty
            && rules.contains { rule in
                rule.expressions.contains { expression in
                    switch expression {
                    case .lookup(let set, _, _), .countByMap(let set, _): sets.contains(set)
                    default: false
                    }
                }
            }
    }
}

/// One message.
enum NfTablesMessage {
    /// New: there must be none of that name.
    case makeTable(isNew: Bool)
    case removeTable
    case makeChain(FirewallChain)
    case flushChain(String)
    case removeChain(String)
    case addRule(FirewallChain, index: Int)
    /// The number tells it from other new sets in the same transaction.
    case makeSet(FirewallSet, number: UInt32)
    case removeSet(String)
    case addElements(FirewallSet, ArraySlice<FirewallSet.Element>)
    case removeElements(FirewallSet, ArraySlice<FirewallSet.Element>)
    case makeCounter(FirewallCounter)
    case removeCounter(String)

    /// What it is about, for an error.
    var request: (kind: Request.Kind, text: String) {
        switch self {
        case .makeTable: (.addTable, "add table")
        case .removeTable: (.removeTable, "remove table")
        case .makeChain(let chain): (.addChain, "add chain \(chain.name)")
        case .flushChain(let name): (.changeTable, "flush chain \(name)")
        case .removeChain(let name): (.changeTable, "remove chain \(name)")
        case .addRule(let chain, let index):
            (
                .addTableRule,
                "add rule \(index + 1) of chain \(chain.name) ("
                    + chain.rules[index].expressions.map(\.kernelName).joined(separator: ", ") + ")"
            )
        case .makeSet(let set, _): (.addSet, "add set \(set.name)")
        case .removeSet(let name): (.changeTable, "remove set \(name)")
        case .addElements(let set, _): (.changeTable, "add elements to set \(set.name)")
        case .removeElements(let set, _): (.changeTable, "remove elements from set \(set.name)")
        case .makeCounter(let counter): (.addCounter, "add counter \(counter.name)")
        case .removeCounter(let name): (.changeTable, "remove counter \(name)")
        }
    }

    /// In bytes, at most.
    fileprivate var size: Int {
        switch self {
        case .addElements(let set, let elements), .removeElements(let set, let elements):
            1024 + elements.count * set.elementSize
        case .addRule(let chain, let index): 1024 + 128 * chain.rules[index].expressions.count
        default: 1024
        }
    }

    fileprivate func put(_ encoder: inout Encoder, _ table: String) {
        switch self {
        case .makeTable(let isNew):
            encoder.begin(NFT_MSG_NEWTABLE, flags: NLM_F_CREATE | (isNew ? NLM_F_EXCL : 0))
            encoder.text(NFTA_TABLE_NAME, table)
        case .removeTable:
            encoder.begin(NFT_MSG_DELTABLE)
            encoder.text(NFTA_TABLE_NAME, table)
        case .makeChain(let chain):
            encoder.begin(NFT_MSG_NEWCHAIN, flags: NLM_F_CREATE | NLM_F_EXCL)
            encoder.text(NFTA_CHAIN_TABLE, table)
            encoder.text(NFTA_CHAIN_NAME, chain.name)
            if let base = chain.base { put(base, &encoder) }
        case .flushChain(let name):
            // Without a rule's handle it means all of them.
            encoder.begin(NFT_MSG_DELRULE)
            encoder.text(NFTA_RULE_TABLE, table)
            encoder.text(NFTA_RULE_CHAIN, name)
        case .removeChain(let name):
            encoder.begin(NFT_MSG_DELCHAIN)
            encoder.text(NFTA_CHAIN_TABLE, table)
            encoder.text(NFTA_CHAIN_NAME, name)
        case .addRule(let chain, let index):
            encoder.begin(NFT_MSG_NEWRULE, flags: NLM_F_CREATE | NLM_F_APPEND)
            encoder.text(NFTA_RULE_TABLE, table)
            encoder.text(NFTA_RULE_CHAIN, chain.name)
            put(chain.rules[index], &encoder)
        case .makeSet(let set, let number):
            encoder.begin(NFT_MSG_NEWSET, flags: NLM_F_CREATE | NLM_F_EXCL)
            encoder.text(NFTA_SET_TABLE, table)
            set.put(&encoder, number: number)
        case .removeSet(let name):
            encoder.begin(NFT_MSG_DELSET)
            encoder.text(NFTA_SET_TABLE, table)
            encoder.text(NFTA_SET_NAME, name)
        case .addElements(let set, let elements):
            encoder.begin(NFT_MSG_NEWSETELEM, flags: NLM_F_CREATE | NLM_F_EXCL)
            encoder.text(NFTA_SET_ELEM_LIST_TABLE, table)
            set.put(elements, &encoder, isRemoval: false)
        case .removeElements(let set, let elements):
            encoder.begin(NFT_MSG_DELSETELEM)
            encoder.text(NFTA_SET_ELEM_LIST_TABLE, table)
            set.put(elements, &encoder, isRemoval: true)
        case .makeCounter(let counter):
            encoder.begin(NFT_MSG_NEWOBJ, flags: NLM_F_CREATE | NLM_F_EXCL)
            encoder.text(NFTA_OBJ_TABLE, table)
            put(counter, &encoder)
        case .removeCounter(let name):
            encoder.begin(NFT_MSG_DELOBJ)
            encoder.text(NFTA_OBJ_TABLE, table)
            encoder.text(NFTA_OBJ_NAME, name)
            encoder.number(NFTA_OBJ_TYPE, UInt32(NFT_OBJECT_COUNTER))
        }
    }

    private func put(_ base: FirewallChain.Base, _ encoder: inout Encoder) {
        encoder.nest(NFTA_CHAIN_HOOK) { hook in
            hook.number(NFTA_HOOK_HOOKNUM, base.hook.number)
            hook.number(NFTA_HOOK_PRIORITY, UInt32(bitPattern: base.priority))
        }
        encoder.number(NFTA_CHAIN_POLICY, UInt32(bitPattern: base.dropsByDefault ? NF_DROP : NF_ACCEPT))
        encoder.text(NFTA_CHAIN_TYPE, base.kind.rawValue)
    }

    private func put(_ rule: FirewallRule, _ encoder: inout Encoder) {
        encoder.nest(NFTA_RULE_EXPRESSIONS) { list in
            for expression in rule.expressions { expression.put(&list) }
        }
        if !rule.comment.isEmpty { encoder.bytes(NFTA_RULE_USERDATA, NftNote.comment(rule.comment)) }
    }

    private func put(_ counter: FirewallCounter, _ encoder: inout Encoder) {
        encoder.text(NFTA_OBJ_NAME, counter.name)
        encoder.number(NFTA_OBJ_TYPE, UInt32(NFT_OBJECT_COUNTER))
        encoder.nest(NFTA_OBJ_DATA) { data in
            data.attribute(UInt16(NFTA_COUNTER_BYTES), UInt64(0))
            data.attribute(UInt16(NFTA_COUNTER_PACKETS), UInt64(0))
        }
        if !counter.comment.isEmpty { encoder.bytes(NFTA_OBJ_USERDATA, NftNote.comment(counter.comment)) }
    }
}

extension FirewallSet {
    /// In bytes, at most: two keys, the name of a counter, and the headers around them. A range between two points takes
    /// two elements of a key each.
    fileprivate var elementSize: Int {
        let key = (keyLength + 3) & ~3
        return 4 + 2 * (8 + key) + (isConcatenation ? 0 : 12) + (hasCounters ? 20 : 0)
    }

    fileprivate func put(_ encoder: inout Encoder, number: UInt32) {
        encoder.text(NFTA_SET_NAME, name)
        encoder.number(NFTA_SET_FLAGS, flags)
        encoder.number(NFTA_SET_KEY_TYPE, keyType)
        encoder.number(NFTA_SET_KEY_LEN, UInt32(keyLength))
        encoder.number(NFTA_SET_ID, number)
        if hasCounters { encoder.number(NFTA_SET_OBJ_TYPE, UInt32(NFT_OBJECT_COUNTER)) }
        if isConcatenation {
            encoder.nest(NFTA_SET_DESC) { description in
                description.nest(NFTA_SET_DESC_CONCAT) { list in
                    for field in fields {
                        list.nest(NFTA_LIST_ELEM) { $0.number(NFTA_SET_FIELD_LEN, UInt32(field.size)) }
                    }
                }
            }
        }
        // nft reads keys of one field in this order: 2 is that of the network.
        let order: UInt8 = isConcatenation || fields == [.transport] ? 0 : 2
        encoder.bytes(NFTA_SET_USERDATA, NftNote.bytes(NftNote.keyByteOrder, [order, 0, 0, 0]))
    }

    fileprivate func put(_ elements: ArraySlice<Element>, _ encoder: inout Encoder, isRemoval: Bool) {
        encoder.text(NFTA_SET_ELEM_LIST_SET, name)
        let list = encoder.open(UInt16(NFTA_SET_ELEM_LIST_ELEMENTS))
        for element in elements {
            let start = encoder.open(UInt16(NFTA_LIST_ELEM))
            encoder.key(NFTA_SET_ELEM_KEY, element.lower, keyLength)
            if isConcatenation { encoder.key(NFTA_SET_ELEM_KEY_END, element.upper, keyLength) }
            if hasCounters, !isRemoval { encoder.text(NFTA_SET_ELEM_OBJREF, element.counter) }
            encoder.close(start)
            // A range up to the last key has no end.
            guard !isConcatenation, let next = element.upper.next(of: keyLength) else { continue }
            let end = encoder.open(UInt16(NFTA_LIST_ELEM))
            encoder.number(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END.rawValue)
            encoder.key(NFTA_SET_ELEM_KEY, next, keyLength)
            encoder.close(end)
        }
        encoder.close(list)
    }
}

extension Encoder {
    /// An attribute with a set's key.
    fileprivate mutating func key(_ type: some RawRepresentable<UInt32>, _ key: FirewallKey, _ length: Int) {
        let outer = open(UInt16(type))
        switch length {
        case 1: attribute(UInt16(NFTA_DATA_VALUE), UInt8(truncatingIfNeeded: key.value(at: 0) >> 24))
        case 2: attribute(UInt16(NFTA_DATA_VALUE), UInt16(truncatingIfNeeded: key.value(at: 0) >> 16).bigEndian)
        default:
            structure(UInt16(NFTA_DATA_VALUE)) { value in
                for offset in stride(from: 0, to: length, by: 4) { value.put(key.value(at: offset).bigEndian) }
            }
        }
        close(outer)
    }
}
