// The tables of nf_tables that are weft's, with what was read of them last; and what a kernel has that knows none.

import Netlink
import WeftModel
import WeftPlan

/// The way to each mesh's own table. One socket, in the network namespace of the thread that made it.
struct OwnTables {
    /// A failure where this kernel has nothing of the kind.
    let channel: Result<Channel, DataplaneError>
    /// The table that was read last, by its name: what a plan is made from.
    private var last: (name: String, reading: NfTables.Reading)?

    init(_ channel: Result<Channel, DataplaneError>) {
        self.channel = channel
    }

    mutating func read(_ name: String) throws(DataplaneError) -> NfTables.Reading {
        let channel: Channel
        switch self.channel {
        case .success(let open): channel = open
        // A kernel without it has no table of ours.
        case .failure(let error) where error.code == .unsupported: return NfTables.Reading()
        case .failure(let error): throw error
        }
        let reading = try NfTables(channel: channel, table: name).read(after: last?.name == name ? last?.reading : nil)
        last = (name, reading)
        return reading
    }

    mutating func perform(_ operation: FirewallOperation) -> Outcome {
        // Whatever comes of it, it is not what was read any more.
        defer { last = nil }
        switch channel {
        case .success(let channel):
            let reading = last?.name == operation.table ? last?.reading : nil
            return NfTables(channel: channel, table: operation.table).perform(operation, last: reading)
        case .failure(let error) where error.code == .unsupported:
            let request = Request(.writeTable, "write table inet \(operation.table)")
            return .failed(DataplaneError(Errno(error.errno), request))
        case .failure(let error): return .failed(error)
        }
    }
}
