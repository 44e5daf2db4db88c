// Name servers of the mesh's link, told to the host's own name resolution by its own program.

internal import Glibc
internal import Netlink
package import WeftModel
package import WeftPlan

/// Speaks to systemd-resolved through `resolvectl` where it runs, else to openresolv or Debian's resolvconf through
/// `resolvconf`. What was told is on record before it is told, so that it is undone even after a crash; without a wish and
/// without a record, no program is started.
package struct ResolverPrograms {
    private let state: StateFolder
    private let environment: [String: String]
    private let proc: String
    private let etc: String
    private let patience: Duration

    /// - Parameters:
    ///   - environment: PATH is read from it.
    ///   - proc: where /proc is.
    ///   - etc: where /etc is.
    ///   - patience: how long one call of a program may take.
    package init(
        _ state: StateFolder, environment: [String: String], proc: String = "/proc", etc: String = "/etc",
        patience: Duration = .seconds(10)
    ) {
        self.state = state
        self.environment = environment
        self.proc = proc
        self.etc = etc
        self.patience = patience
    }

    // MARK: Who is there

    /// What could take name servers for a link in this network namespace, the one that is used first.
    package func available() -> [ResolverKind] {
        var kinds: [ResolverKind] = []
        if resolvectl != nil, isResolvedHere { kinds.append(.resolved) }
        if resolvconf != nil { kinds.append(.resolvconf) }
        return kinds
    }

    private var resolvectl: String? { findProgram("resolvectl", path: environment["PATH"]) }

    /// The `resolvconf` that systemd brings is `resolvectl` by another name, and nothing without systemd-resolved.
    private var resolvconf: String? {
        guard let path = findProgram("resolvconf", path: environment["PATH"]) else { return nil }
        return SmallFile.target(of: path)?.split(separator: "/").last == "resolvectl" ? nil : path
    }

    /// Whether systemd-resolved runs in the network namespace of this thread. `resolvectl` reaches it from others too,
    /// and would set what it knows of another interface that has there the number of ours.
    private var isResolvedHere: Bool { runsHere("systemd-resolve", proc: proc) }

    /// What the link's settings are called: Debian's resolvconf orders by name, and a name that it does not know comes
    /// after every other interface's. wg-quick does the same.
    private func name(for interface: String) -> String {
        guard let bytes = try? readFile("\(etc)/resolvconf/interface-order", limit: 64 << 10) else { return interface }
        for line in bytes.split(separator: UInt8(ascii: "\n")) where line.last == UInt8(ascii: "*") {
            let start = String(decoding: line.dropLast(), as: UTF8.self)
            let isPlain = start.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
            if isPlain, !start.isEmpty { return "\(start).\(interface)" }
        }
        return interface
    }

    // MARK: Reading

    /// What the link has now; nil where it has none, or where none is wanted and none was set.
    ///
    /// - Parameters:
    ///   - isWanted: whether the mesh has name servers.
    ///   - hasLink: whether our link is there; systemd-resolved forgets what it was told with it.
    package func read(
        _ interface: String, isWanted: Bool, hasLink: Bool
    ) throws(DataplaneError) -> ResolverSetting? {
        let told: (kind: ResolverKind, name: String)
        if let record = try state.resolver(of: interface) {
            told = record
        } else {
            guard isWanted, let first = available().first else { return nil }
            told = (first, name(for: interface))
        }
        // What cannot be read counts as not there: setting it says why.
        switch told.kind {
        case .resolved: return hasLink && isResolvedHere ? readResolved(interface) : nil
        case .resolvconf: return readResolvconf(interface, told.name)
        }
    }

    private func readResolved(_ interface: String) -> ResolverSetting? {
        guard let servers = words(of: "dns", interface), let domains = words(of: "domain", interface) else {
            return nil
        }
        if servers.isEmpty, domains.isEmpty { return nil }
        var setting = ResolverSetting(
            interface: interface, servers: servers.compactMap { IPAddress($0) }, domains: domains)
        // A port or a name (`10.0.0.1#dns.example`) is not what Weft sets.
        setting.domains += servers.filter { IPAddress($0) == nil }.map { "server \($0)" }
        if domains == ["~."] {
            setting.domains.removeFirst()
        } else if domains.isEmpty {
            setting.domains.append("(no domain)")
        }
        if !domains.isEmpty, domains != ["~."], words(of: "default-route", interface)?.first == "yes" {
            setting.domains.append("(and all others)")
        }
        setting.isForAllNames = setting.domains.isEmpty
        return setting
    }

    /// What `resolvectl` prints for a link: `Link 7 (wg0): 10.80.0.1 fd80::1`. Nil where it fails.
    private func words(of verb: String, _ interface: String) -> [String]? {
        guard let text = try? run(resolvectl, "resolvectl", [verb, interface]),
            let start = text.firstRange(of: "): ")?.upperBound
        else { return nil }
        return text[start...].prefix { $0 != "\n" }.split(separator: " ").map(String.init)
    }

    private func readResolvconf(_ interface: String, _ name: String) -> ResolverSetting? {
        guard let text = try? run(resolvconf, "resolvconf", ["-l", name]) else { return nil }
        var setting: ResolverSetting?
        var isOurs = false
        for line in text.split(separator: "\n") {
            if line.hasPrefix("# resolv.conf from ") {
                isOurs = line.dropFirst("# resolv.conf from ".count) == name
                continue
            }
            guard isOurs else { continue }
            let words = line.split(separator: " ").map(String.init)
            setting = setting ?? ResolverSetting(interface: interface, servers: [], isForAllNames: true)
            switch words.first {
            case "nameserver": setting?.servers += words.dropFirst().compactMap { IPAddress($0) }
            case "search": setting?.domains += words.dropFirst()
            case let word? where !word.hasPrefix("#"): setting?.domains.append("(\(line))")
            default: break
            }
        }
        return setting
    }

    // MARK: Changing

    package func perform(_ operation: ResolverOperation) -> Outcome {
        do throws(DataplaneError) {
            switch operation {
            case .set(let setting, _): try set(setting)
            case .clear(let setting): return try clear(setting.interface)
            }
            return .done
        } catch {
            return .failed(error)
        }
    }

    private func set(_ setting: ResolverSetting) throws(DataplaneError) {
        let interface = setting.interface
        guard let kind = available().first else { throw Self.nobody(interface) }
        let name = kind == .resolvconf ? name(for: interface) : interface
        if let record = try state.resolver(of: interface), record.kind != kind || record.name != name {
            _ = try? undo(record, interface)
        }
        try state.store(resolver: (kind, name), of: interface)
        let servers = setting.servers.map(\.description)
        switch kind {
        case .resolved:
            try run(resolvectl, "resolvectl", ["dns", interface] + servers)
            try run(
                resolvectl, "resolvectl", ["domain", interface] + (setting.domains.isEmpty ? ["~."] : setting.domains))
            // Search domains alone would still have these servers asked for all names, besides the host's own.
            let isForAll = setting.domains.isEmpty ? "yes" : "no"
            do throws(DataplaneError) {
                try run(resolvectl, "resolvectl", ["default-route", interface, isForAll])
            } catch {
                // systemd 239 has no such verb, and no such setting.
                guard error.message.contains("nknown") else { throw error }
            }
        case .resolvconf:
            var text = servers.map { "nameserver \($0)\n" }.joined()
            // Another domain than one to search in has no place here: each server is asked for every name.
            let search = setting.domains.filter { !$0.hasPrefix("~") }
            if !search.isEmpty { text += "search \(search.joined(separator: " "))\n" }
            // Metric 0 and exclusive: openresolv then asks nobody else. Debian's takes no notice of either.
            try run(resolvconf, "resolvconf", ["-a", name, "-m", "0", "-x"], input: text)
        }
    }

    private func clear(_ interface: String) throws(DataplaneError) -> Outcome {
        guard let record = try state.resolver(of: interface) else { return .already }
        try undo(record, interface)
        try state.store(resolver: nil, of: interface)
        return .done
    }

    private func undo(
        _ record: (kind: ResolverKind, name: String), _ interface: String
    ) throws(DataplaneError) {
        switch record.kind {
        case .resolved:
            // It has forgotten everything when it has ended.
            if isResolvedHere { try run(resolvectl, "resolvectl", ["revert", interface]) }
        case .resolvconf: try run(resolvconf, "resolvconf", ["-d", record.name, "-f"])
        }
    }

    private static func nobody(_ interface: String) -> DataplaneError {
        DataplaneError(
            .unsupported,
            "nothing on this host takes name servers for an interface: start systemd-resolved, or install openresolv; or take "
                + "`dns` out of this node, and set the host's name servers by hand",
            operation: "set name servers of \(interface)")
    }

    /// Runs a program to its end.
    ///
    /// - Returns: what it printed.
    @discardableResult
    private func run(
        _ program: String?, _ name: String, _ arguments: [String], input: String? = nil
    ) throws(DataplaneError) -> String {
        let operation = ([name] + arguments).joined(separator: " ")
        guard let program else {
            throw DataplaneError(
                .unsupported, "there is no \(name) on this host any more: install it again", operation: operation)
        }
        let started: StartedProgram
        do throws(Errno) {
            started = try StartedProgram.start(
                program, arguments,
                environment: [
                    "PATH": environment["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C",
                    "SYSTEMD_COLORS": "0",
                    "SYSTEMD_PAGER": "",
                ], input: input)
        } catch {
            throw DataplaneError(
                .other, "\(program) cannot be started: \(error)", errno: error.rawValue, operation: operation)
        }
        guard let status = started.wait(patience) else {
            throw DataplaneError(
                .other,
                "it did not end within \(patience.components.seconds) s, and was ended: look at its log, and try again",
                operation: operation)
        }
        if status != 0 {
            let line = started.lastLine()
            throw DataplaneError(
                .other,
                (line.isEmpty ? "it ended with status \(status)" : "it said: \(line)")
                    + "; try again, or run it by hand",
                operation: operation)
        }
        return started.text()
    }
}
