// Tables of the iptables that is older than nf_tables: the kernel says which there are, and not what is in them.

import WeftModel
import WeftPlan

/// Reads which tables of xtables there are in the calling thread's network namespace.
struct LegacyTables {
    /// Where /proc is.
    let proc: String
    let interface: String
    /// The tunnel's own; nil where the kernel chooses.
    let port: UInt16?

    func read() -> [ForeignObject] {
        [("ip_tables_names", "IPv4", "iptables"), ("ip6_tables_names", "IPv6", "ip6tables")].compactMap {
            file, family, name in
            guard let bytes = try? SmallFile.read("\(proc)/thread-self/net/\(file)") else { return nil }
            let tables = String(decoding: bytes, as: UTF8.self).split(separator: "\n").sorted()
            if tables.isEmpty { return nil }
            let ours = port.map { "UDP port \($0), or \(interface)" } ?? interface
            return ForeignObject(
                kind: "legacy",
                description:
                    "\(name) has the \(tables.count == 1 ? "table" : "tables") \(tables.joined(separator: ", ")) "
                    + "(\(family)): weft cannot see into these",
                remedy:
                    "They may drop what the mesh needs: look with `\(name)-legacy-save` for policies and rules that drop or "
                    + "reject, and for one before them that accepts \(ours).")
        }
    }
}
