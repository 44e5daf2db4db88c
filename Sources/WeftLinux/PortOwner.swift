// Finds out who listens on a UDP port, for the one error where that is the whole remedy.

/// Looks through /proc, which shows the sockets of the calling thread's network namespace, and the descriptors of those
/// processes that we may look into.
struct PortOwner {
    /// Usually `/proc`.
    let folder: String

    /// `process "coredns" (pid 712)`, or `another WireGuard interface, or …`; nil where /proc does not tell.
    func describe(_ port: UInt16) -> String? {
        let tables = ["udp", "udp6"].map { "\(folder)/thread-self/net/\($0)" }
        let inodes = Set(tables.flatMap { sockets(on: port, in: $0) })
        if inodes.isEmpty { return nil }
        for name in SmallFile.names(in: folder) {
            guard let process = Int(name) else { continue }
            for descriptor in SmallFile.names(in: "\(folder)/\(name)/fd") {
                guard let target = SmallFile.target(of: "\(folder)/\(name)/fd/\(descriptor)"),
                    target.hasPrefix("socket:["), let inode = UInt64(target.dropFirst(8).dropLast()),
                    inodes.contains(inode)
                else { continue }
                return "process \(command(of: process).map { "\"\($0)\" " } ?? "")(pid \(process))"
            }
        }
        // The kernel's own sockets look like those of a process in another container.
        return "another WireGuard interface, or a process that cannot be seen from here"
    }

    private func command(of process: Int) -> String? {
        guard let bytes = try? SmallFile.read("\(folder)/\(process)/comm") else { return nil }
        return String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }

    /// The inodes of the sockets bound to `port`, from one of the tables of proc(5): the second column is
    /// `address:port` in hexadecimal, the tenth the inode.
    private func sockets(on port: UInt16, in table: String) -> [UInt64] {
        guard let bytes = try? SmallFile.read(table, limit: 16 << 20) else { return [] }
        return bytes.split(separator: UInt8(ascii: "\n")).dropFirst().compactMap { line in
            let columns = line.split(separator: UInt8(ascii: " "))
            guard columns.count > 9, let colon = columns[1].lastIndex(of: UInt8(ascii: ":")) else { return nil }
            let bound = String(decoding: columns[1][(colon + 1)...], as: UTF8.self)
            guard UInt16(bound, radix: 16) == port else { return nil }
            return UInt64(String(decoding: columns[9], as: UTF8.self))
        }
    }
}
