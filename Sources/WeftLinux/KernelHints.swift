// Says of the kernel's notices, for people, what was changed and by which program.

import CLinux
import Glibc
import Netlink
import WeftModel

/// A few sentences on what has changed. Whoever changes much, or stays unknown, costs nothing.
struct KernelHints {
    /// In the order of the changes.
    private(set) var texts: [String] = []
    private static let limit = 16

    /// This process, of which nothing is said.
    private let own = UInt32(getpid())
    /// The table of nf_tables that the transaction being told has changed first.
    private var table: String?
    /// The last program that was looked up.
    private var program: (process: UInt32, name: String)?

    /// Forgets what was said.
    mutating func begin() {
        texts = []
        program = nil
    }

    /// Takes one notice.
    mutating func take(_ message: Message, _ kind: KernelEvents.Kind) {
        if texts.count >= Self.limit { return }
        switch kind {
        case .firewall: takeFirewall(message)
        case .netconf: break
        case .link, .address, .route, .rule:
            // The port of who asked for it: its process's number, unless it has several sockets. 0: the kernel.
            guard message.port != 0, message.port <= UInt32(Int32.max), message.port != own,
                let subject = subject(message, kind)
            else { return }
            say("\(subject) \(isRemoval(message.type) ? "removed" : "set")", by: message.port, named: nil)
        }
    }

    /// Of each pair of types, the kernel gives the even one to what is new.
    private func isRemoval(_ type: UInt16) -> Bool { type & 1 == 1 }

    private mutating func say(_ what: String, by process: UInt32, named name: String?) {
        if program?.process != process {
            let known = name ?? readKernelText("/proc/\(process)/comm")
            program = (process, known.map { "\($0) (process \(process))" } ?? "process \(process), which has ended")
        }
        if let program { texts.append("\(what) by \(program.name)") }
    }

    // MARK: rtnetlink

    private func subject(_ message: Message, _ kind: KernelEvents.Kind) -> String? {
        switch kind {
        case .link: link(message)
        case .address: address(message)
        case .route: route(message)
        case .rule: rule(message)
        case .netconf, .firewall: nil
        }
    }

    private func link(_ message: Message) -> String? {
        var attributes = Attributes(message.payload, from: MemoryLayout<ifinfomsg>.size)
        while attributes.next() {
            if attributes.type == UInt16(IFLA_IFNAME) { return "interface \(attributes.text())" }
        }
        return nil
    }

    private func address(_ message: Message) -> String? {
        guard let family = message.payload.load(at: 0, as: UInt8.self).flatMap({ IPAddress.Family(number: $0) }),
            let length = message.payload.load(at: 1, as: UInt8.self),
            let interface = message.payload.load(at: 4, as: UInt32.self)
        else { return nil }
        var result: IPAddress?
        var attributes = Attributes(message.payload, from: MemoryLayout<ifaddrmsg>.size)
        while attributes.next() {
            switch attributes.type {
            case UInt16(IFA_LOCAL): result = attributes.address(family)
            case UInt16(IFA_ADDRESS): if result == nil { result = attributes.address(family) }
            default: break
            }
        }
        return result.map { "address \($0)/\(length) of interface \(interface)" }
    }

    private func route(_ message: Message) -> String? {
        guard let family = message.payload.load(at: 0, as: UInt8.self).flatMap({ IPAddress.Family(number: $0) }),
            let length = message.payload.load(at: 1, as: UInt8.self),
            var table = message.payload.load(at: 4, as: UInt8.self).map({ UInt32($0) })
        else { return nil }
        var destination = family == .v4 ? IPAddress(v4: 0) : IPAddress(v6: 0, 0)
        var attributes = Attributes(message.payload, from: MemoryLayout<rtmsg>.size)
        while attributes.next() {
            switch rtattr_type_t(rawValue: UInt32(attributes.type)) {
            case RTA_DST: destination = attributes.address(family)
            case RTA_TABLE: table = attributes.uint32()
            default: break
            }
        }
        return "route \(destination)/\(length) in table \(table)"
    }

    private func rule(_ message: Message) -> String? {
        var priority: UInt32 = 0
        var attributes = Attributes(message.payload, from: MemoryLayout<fib_rule_hdr>.size)
        while attributes.next() {
            if attributes.type == UInt16(FRA_PRIORITY) { priority = attributes.uint32() }
        }
        return "rule of priority \(priority)"
    }

    // MARK: nf_tables

    /// A transaction's notices end with the one of the new generation, which names its program.
    private mutating func takeFirewall(_ message: Message) {
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        guard message.type == UInt16(nfTables: NFT_MSG_NEWGEN) else {
            if table != nil { return }
            // The first attribute of every object is its table's name.
            while attributes.next() {
                if attributes.type == UInt16(NFTA_TABLE_NAME) { table = attributes.text() }
            }
            return
        }
        var process: UInt32 = 0
        var name: String?
        while attributes.next() {
            switch attributes.type {
            case UInt16(NFTA_GEN_PROC_PID): process = attributes.number()
            case UInt16(NFTA_GEN_PROC_NAME): name = attributes.text()
            default: break
            }
        }
        let what = table.map { "table \($0) of nf_tables changed" } ?? "nf_tables changed"
        table = nil
        if process != 0, process != own { say(what, by: process, named: name) }
    }
}
