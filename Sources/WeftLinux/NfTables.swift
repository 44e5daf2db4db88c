// A mesh's own table in nf_tables: read whole, written in one transaction.

import CLinux
import Glibc
import Netlink
import WeftModel
import WeftPlan

/// Requests about the table `inet weft-<interface>`.
struct NfTables {
    let channel: Channel
    let table: String

    /// What a table was, and when.
    struct Reading {
        /// Nil: there is none.
        var firewall: Firewall?
        /// By the counters' names, in order.
        var counts: [FirewallCount] = []
        /// Of the whole configuration: another transaction, anybody's, gives another number.
        var generation: UInt32 = 0
        /// A table of the mesh's name that another program keeps to itself: none of it is the mesh's.
        var owned: ForeignObject?
    }

    /// How often reading is begun anew because something was changed meanwhile; and writing, likewise.
    private static let attempts = 20

    // MARK: Reading

    /// Reads the table as it was at one moment.
    ///
    /// - Parameter last: what it was last time, to make room for as much.
    func read(after last: Reading? = nil) throws(DataplaneError) -> Reading {
        let counts = (last?.firewall?.sets ?? []).map { ($0.name, $0.elements.count) }
        let expected = Dictionary(counts) { first, _ in first }
        let request = Request(.readTable, "read table inet \(table)")
        do throws(NetlinkError) {
            for _ in 0..<Self.attempts {
                // Where there is no table, one question is enough.
                guard let there = try find() else { return Reading() }
                if let owner = there.owner { return Reading(owned: ForeignObject(table: table, ownedBy: owner)) }
                let before = try generation()
                try channel.awaitTransactions(of: NFNL_SUBSYS_NFTABLES, generation: before)
                do throws(NetlinkError) {
                    var reading = try readOnce(expecting: expected)
                    reading.generation = before
                    if try generation() == before { return reading }
                } catch {
                    // A set, or the table, that went between two questions; or a dump that a change interrupted.
                    switch error {
                    case .refused(let errno, _) where errno.rawValue == ENOENT: continue
                    case .interrupted: continue
                    // Elements of another set than the one that had the name before.
                    case .malformed: if try generation() == before { throw error }
                    default: throw error
                    }
                }
            }
            throw .interrupted
        } catch {
            // A kernel without nf_tables has no table either; that it has none is only said when one is wanted.
            if error.meansNoNfTables { return Reading() }
            throw DataplaneError(error, request)
        }
    }

    /// The number of the whole configuration's last change.
    func generation() throws(NetlinkError) -> UInt32 {
        var reading = GenerationReading()
        try channel.get(UInt16(nfTables: NFT_MSG_GETGEN), into: &reading) {
            $0.putNetfilterHeader(family: UInt8(AF_UNSPEC))
        }
        guard let generation = reading.generation else { throw .malformed("generation") }
        return generation
    }

    /// Nil where there is no such table.
    private func find() throws(NetlinkError) -> TableReading? {
        var reading = TableReading()
        do throws(NetlinkError) {
            try getTable(into: &reading)
        } catch {
            if error.errno?.rawValue == ENOENT { return nil }
            throw error
        }
        return reading
    }

    private func getTable(into reading: inout TableReading) throws(NetlinkError) {
        try channel.get(UInt16(nfTables: NFT_MSG_GETTABLE), into: &reading) { encoder in
            encoder.putNetfilterHeader(family: UInt8(NFPROTO_INET))
            encoder.text(NFTA_TABLE_NAME, table)
        }
    }

    private func dump<Consumer: MessageConsumer>(
        _ message: nf_tables_msg_types, into consumer: inout Consumer, table attribute: some RawRepresentable<UInt32>,
        _ more: (inout Encoder) -> Void = { _ in }
    ) throws(NetlinkError) {
        try channel.dump(UInt16(nfTables: message), into: &consumer) { encoder in
            encoder.putNetfilterHeader(family: UInt8(NFPROTO_INET))
            encoder.text(attribute, table)
            more(&encoder)
        }
    }

    private func readOnce(expecting expected: [String: Int]) throws(NetlinkError) -> Reading {
        var table = TableReading()
        try getTable(into: &table)
        var chains = ChainReading(table: self.table)
        try dump(NFT_MSG_GETCHAIN, into: &chains, table: NFTA_CHAIN_TABLE)
        var rules = RuleReading()
        try dump(NFT_MSG_GETRULE, into: &rules, table: NFTA_RULE_TABLE)
        rules.finish()
        var sets = SetReading()
        try dump(NFT_MSG_GETSET, into: &sets, table: NFTA_SET_TABLE)
        var objects = ObjectReading()
        try dump(NFT_MSG_GETOBJ, into: &objects, table: NFTA_OBJ_TABLE)
        var flowtables = FlowtableReading()
        try dump(NFT_MSG_GETFLOWTABLE, into: &flowtables, table: NFTA_FLOWTABLE_TABLE)

        var firewall = Firewall(
            strangers: table.strangers + chains.strangers + sets.strangers + objects.strangers
                + flowtables.strangers)
        firewall.chains = chains.chains.map { chain in
            FirewallChain(chain.name, base: chain.base, rules: rules.rules[chain.name] ?? [])
        }
        for var set in sets.sets {
            var elements = ElementReading(set, expecting: expected[set.name] ?? 0)
            try dump(NFT_MSG_GETSETELEM, into: &elements, table: NFTA_SET_ELEM_LIST_TABLE) { encoder in
                encoder.text(NFTA_SET_ELEM_LIST_SET, set.name)
            }
            firewall.strangers += elements.oddities.sorted().map { "set \(set.name): an element with \($0)" }
            guard let found = elements.finish() else { throw .interrupted }
            set.elements = found
            firewall.sets.append(set)
        }
        firewall.counters = objects.counters.sorted { $0.name < $1.name }
        firewall.chains.sort { $0.name < $1.name }
        firewall.sets.sort { $0.name < $1.name }
        return Reading(firewall: firewall, counts: objects.counts.sorted { $0.name < $1.name })
    }

    // MARK: Writing

    /// Carries out one operation, wholly or not at all.
    ///
    /// - Parameter last: what was read last, which is what the operation was made from.
    func perform(_ operation: FirewallOperation, last: Reading?) -> Outcome {
        if case .change(let change, _) = operation, let live = last?.firewall,
            let bridge = NfTablesBridge(change, live: live)
        {
            return perform(bridge)
        }
        return performAtOnce(operation, last: last)
    }

    /// Takes the steps of a bridge. Where one fails, the table becomes what it was.
    private func perform(_ bridge: NfTablesBridge) -> Outcome {
        // A chain that is refilled before the rest is tried had better be the one that is there.
        let again: Reading
        do throws(DataplaneError) { again = try read() } catch { return .failed(error) }
        guard again.firewall == bridge.states[0] else { return .failed(changedMeanwhile) }
        var outcome = Outcome.already
        for (from, to) in zip(bridge.states, bridge.states.dropFirst()) {
            let change = FirewallChange(desired: to, live: from)
            if change.isEmpty { continue }
            let isFirst = outcome == .already
            outcome = isFirst ? performAtOnce(.change(change, table: table), last: again) : step(change, from)
            if !outcome.isFailure { continue }
            if isFirst, outcome == .failed(changedMeanwhile) { return outcome }
            return takeBack(bridge, outcome)
        }
        return outcome
    }

    /// Takes the rule that lets flows pass out again. What was refused changed nothing, and what went unanswered may have
    /// changed all: the table itself tells.
    private func takeBack(_ bridge: NfTablesBridge, _ outcome: Outcome) -> Outcome {
        for _ in 0..<Self.attempts {
            guard let now = (try? read())?.firewall else { continue }
            let clean = now.withoutBridge
            if clean == now { return now == bridge.states.last ? .done : outcome }
            _ = step(FirewallChange(desired: clean, live: now), now)
        }
        return outcome
    }

    /// One transaction from a table that is known.
    private func step(_ change: FirewallChange, _ live: Firewall) -> Outcome {
        let operation = FirewallOperation.change(change, table: table)
        let batch = NfTablesBatch(operation, live: live)
        do throws(TransactionFailure) {
            try write(batch)
            return .done
        } catch {
            return outcome(of: operation, batch, error)
        }
    }

    private func performAtOnce(_ operation: FirewallOperation, last: Reading?) -> Outcome {
        let batch = NfTablesBatch(operation, live: last?.firewall)
        do throws(TransactionFailure) {
            switch operation {
            case .change: return try change(batch, last: last)
            case .create, .rebuild, .remove:
                try write(batch)
                return .done
            }
        } catch {
            return outcome(of: operation, batch, error)
        }
    }

    /// Sends a batch that stands on its own, whatever the rest of the configuration is.
    private func write(_ batch: NfTablesBatch) throws(TransactionFailure) {
        for _ in 0..<Self.attempts {
            do throws(TransactionFailure) {
                return try send(batch, generation: currentGeneration())
            } catch {
                if !error.isOutdated { throw error }
            }
        }
        throw TransactionFailure(.interrupted)
    }

    /// Sends a batch that is right only for the table that was read. Where something else in the configuration was changed
    /// since then, that table is read again, and must be the same.
    private func change(_ batch: NfTablesBatch, last: Reading?) throws(TransactionFailure) -> Outcome {
        guard let last else {
            try write(batch)
            return .done
        }
        var generation = last.generation
        for _ in 0..<Self.attempts {
            do throws(TransactionFailure) {
                try send(batch, generation: generation)
                return .done
            } catch {
                if !error.isOutdated { throw error }
            }
            do throws(DataplaneError) {
                let now = try read()
                guard now.firewall == last.firewall else {
                    throw changedMeanwhile
                }
                generation = now.generation
            } catch {
                return .failed(error)
            }
        }
        throw TransactionFailure(.interrupted)
    }

    private var changedMeanwhile: DataplaneError {
        DataplaneError(
            .inconsistent, "the table was changed by another program in the meantime; try again",
            operation: "change table inet \(table)")
    }

    private func currentGeneration() throws(TransactionFailure) -> UInt32 {
        do throws(NetlinkError) { return try generation() } catch { throw TransactionFailure(error) }
    }

    private func send(_ batch: NfTablesBatch, generation: UInt32) throws(TransactionFailure) {
        try channel.transaction(NFNL_SUBSYS_NFTABLES, generation: generation, size: batch.size) { batch.put(&$0) }
    }

    private func outcome(
        of operation: FirewallOperation, _ batch: NfTablesBatch, _ failure: TransactionFailure
    ) -> Outcome {
        let errno = failure.error.errno?.rawValue
        switch operation {
        case .remove where failure.index == 0 && errno == ENOENT: return .already
        case .create(let wanted, _) where failure.index == 0 && errno == EEXIST:
            // Made in the meantime: by another run of ours, if it is what is wanted.
            if let there = try? read().firewall, there == wanted { return .already }
        default: break
        }
        return .failed(error(operation, batch, failure))
    }

    private func error(
        _ operation: FirewallOperation, _ batch: NfTablesBatch, _ failure: TransactionFailure
    ) -> DataplaneError {
        let verb =
            switch operation {
            case .create: "create"
            case .change: "change"
            case .rebuild: "rebuild"
            case .remove: "remove"
            }
        var text = "\(verb) table inet \(table)"
        guard let index = failure.index, index < batch.messages.count else {
            return DataplaneError(failure.error, Request(.writeTable, text))
        }
        let (kind, step) = batch.messages[index].request
        text += ": \(step)"
        return DataplaneError(failure.error, Request(kind, text))
    }
}

extension ForeignObject {
    /// - Parameter port: of the owner's socket: of most programs, the number of the process.
    fileprivate init(table: String, ownedBy port: UInt32) {
        let program = readKernelText("/proc/\(port)/comm").map { "\($0) (process \(port))" }
        self.init(
            kind: "table", description: "inet \(table) belongs to \(program ?? "another program"), by `flags owner`",
            relation: .holdsTable,
            remedy:
                "The kernel lets nobody else change or remove it. End that program, which takes the table with it, or give "
                + "the mesh another `interface` name.")
    }
}

extension ForeignObject {
    /// - Parameter chains: none of which weft makes.
    init(table: String, of chains: [FirewallChain]) {
        let names = chains.prefix(3).map(\.name).joined(separator: ", ") + (chains.count > 3 ? ", …" : "")
        self.init(
            kind: "table",
            description: "inet \(table) is one that weft did not make: no chain in it is weft's (\(names))",
            relation: .holdsTable,
            remedy: "The mesh's own table has that name. Remove it, `nft delete table inet \(table)`, or give the mesh "
                + "another `interface` name.")
    }
}

extension NetlinkError {
    /// Whether this is how a kernel without nf_tables answers.
    var meansNoNfTables: Bool {
        switch errno?.rawValue {
        case EINVAL, EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT: true
        default: false
        }
    }
}
