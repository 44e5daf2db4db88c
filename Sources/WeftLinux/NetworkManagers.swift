// Other programs that manage this host's network, and would undo what a mesh needs: who is there, and how it is told not to.

import Glibc
import WeftModel
import WeftPlan

/// Reads the settings of systemd-networkd and NetworkManager where they run, and of nftables.service where it is enabled.
struct NetworkManagers {
    /// Where /proc is.
    let proc: String
    /// What stands before /etc, /run and /usr/lib; tests have their own.
    let root: String
    let interface: String

    /// - Parameter needs: whether the mesh has routes and policy rules.
    func read(routes needsRoutes: Bool, rules needsRules: Bool) -> [ForeignObject] {
        var found: [ForeignObject] = []
        // Their folders below /run tell cheaply that they never ran.
        if needsRoutes || needsRules, exists("/run/systemd/netif"), runsHere("systemd-network", proc: proc) {
            if let object = networkd(needsRoutes, needsRules) { found.append(object) }
        }
        if exists("/run/NetworkManager"), runsHere("NetworkManager", proc: proc), !isUnmanaged {
            found.append(
                ForeignObject(
                    kind: "manager",
                    description:
                        "NetworkManager may take \(interface) for one of its own, and change its addresses and routes",
                    relation: .hinders,
                    remedy: "Tell it to leave it alone: "
                        + Self.dropIn(
                            "/etc/NetworkManager/conf.d/weft-\(interface).conf",
                            "[keyfile]\\nunmanaged-devices+=interface-name:\(interface)\\n")
                        + "; nmcli general reload`."))
        }
        return found
    }

    /// nftables.service is over once it has run: what it does at each start and reload is in its file.
    func flushers() -> [ForeignObject] {
        let isEnabled = ["sysinit.target", "multi-user.target", "basic.target"]
            .contains { exists("/etc/systemd/system/\($0).wants/nftables.service") }
        // It is about the network of the first process; whoever may not see which that is, is taken to be in it.
        let first = SmallFile.target(of: "\(proc)/1/ns/net")
        guard isEnabled, first == nil || first == SmallFile.target(of: "\(proc)/thread-self/ns/net") else { return [] }
        // Debian's and its kin's; Fedora's and its kin's.
        return ["/etc/nftables.conf", "/etc/sysconfig/nftables.conf"].compactMap { path in
            let lines = (readKernelText(root + path) ?? "").split(whereSeparator: \.isNewline)
            let flushes = lines.contains { line in
                line.split { $0 == " " || $0 == "\t" || $0 == ";" }.prefix(2).elementsEqual(["flush", "ruleset"])
            }
            guard flushes else { return nil }
            return ForeignObject(
                kind: "manager",
                description:
                    "nftables.service removes all tables that are not its own, also this mesh's, when it starts or reloads: "
                    + "`flush ruleset` in \(path)",
                relation: .hinders,
                remedy:
                    "Write, for each table that the file makes, `table FAMILY NAME` and `delete table FAMILY NAME` in "
                    + "place of `flush ruleset`.")
        }
    }

    private func networkd(_ needsRoutes: Bool, _ needsRules: Bool) -> ForeignObject? {
        var kinds: [String] = []
        var settings = ""
        if needsRoutes, keeps("ManageForeignRoutes") {
            kinds.append("routes")
            settings += "ManageForeignRoutes=no\\n"
        }
        if needsRules, keeps("ManageForeignRoutingPolicyRules") {
            kinds.append("policy rules")
            settings += "ManageForeignRoutingPolicyRules=no\\n"
        }
        if kinds.isEmpty { return nil }
        return ForeignObject(
            kind: "manager",
            description:
                "systemd-networkd removes \(kinds.joined(separator: " and ")) that are not its own when it starts "
                + "or configures a link",
            relation: .hinders,
            remedy: "Tell it not to: "
                + Self.dropIn("/etc/systemd/networkd.conf.d/weft.conf", "[Network]\\n\(settings)")
                + "; systemctl restart systemd-networkd`.")
    }

    /// A command that writes a file; the backquote is left open.
    private static func dropIn(_ path: String, _ content: String) -> String {
        let folder = path.split(separator: "/").dropLast().joined(separator: "/")
        return "`mkdir -p /\(folder); printf '\(content)' >\(path)"
    }

    private func exists(_ path: String) -> Bool { unsafe access(root + path, F_OK) == 0 }

    // MARK: Their settings

    /// Whether a setting of systemd-networkd that is on by default is on: see networkd.conf(5).
    private func keeps(_ setting: String) -> Bool {
        let value = assignments(
            main: "systemd/networkd.conf", folder: "systemd/networkd.conf.d",
            below: ["/etc", "/run", "/usr/local/lib", "/usr/lib"]
        )
        .last { $0.section == "Network" && $0.name == setting && !$0.value.isEmpty }?.value
        return !["no", "n", "false", "f", "off", "0"].contains(value?.lowercased() ?? "yes")
    }

    /// Whether NetworkManager was told to leave our interface alone: see `unmanaged-devices` in NetworkManager.conf(5).
    private var isUnmanaged: Bool {
        var devices: [String] = []
        let all = assignments(
            main: "NetworkManager/NetworkManager.conf", folder: "NetworkManager/conf.d",
            below: ["/etc", "/run", "/usr/lib"])
        for assignment in all where assignment.section == "keyfile" {
            let values = assignment.value.split { $0 == ";" || $0 == "," }.map { $0.filter { $0 != " " } }
            switch assignment.name {
            case "unmanaged-devices": devices = values
            case "unmanaged-devices+": devices += values
            default: break
            }
        }
        if devices.contains("except:interface-name:\(interface)") { return false }
        let isListed = devices.contains { device in
            if device == "*" || device == "type:wireguard" { return true }
            for prefix in ["interface-name:", "interface-name:="] where device.hasPrefix(prefix) {
                if matches(interface, pattern: device.dropFirst(prefix.count)) { return true }
            }
            return false
        }
        if isListed { return true }
        // [device-…] match-device=…, managed=0
        let sections = Dictionary(grouping: all.filter { $0.section.hasPrefix("device") }, by: \.section)
        return sections.values.contains { lines in
            let match = lines.last { $0.name == "match-device" }?.value ?? ""
            let managed = lines.last { $0.name == "managed" }?.value.lowercased() ?? ""
            return ["0", "no", "false"].contains(managed)
                && (match == "*" || match == "type:wireguard"
                    || match.hasPrefix("interface-name:")
                        && matches(interface, pattern: match.dropFirst("interface-name:".count)))
        }
    }

    /// `*` and `?` as in a shell.
    private func matches(_ name: String, pattern: Substring) -> Bool { unsafe fnmatch(String(pattern), name, 0) == 0 }

    private struct Assignment {
        var section: String
        var name: String
        var value: String
    }

    /// All assignments in the order in which they count: the first main file there is, then the drop-ins by name, of which
    /// one in an earlier folder hides the one of the same name in a later.
    private func assignments(main: String, folder: String, below bases: [String]) -> [Assignment] {
        var result: [Assignment] = []
        for base in bases {
            guard let text = readKernelText("\(root)\(base)/\(main)") else { continue }
            result += Self.parse(text)
            break
        }
        var files: [String: String] = [:]
        for base in bases {
            for name in SmallFile.names(in: "\(root)\(base)/\(folder)")
            where name.hasSuffix(".conf") && files[name] == nil {
                files[name] = "\(root)\(base)/\(folder)/\(name)"
            }
        }
        for (_, path) in files.sorted(by: { $0.key < $1.key }) { result += Self.parse(readKernelText(path) ?? "") }
        return result
    }

    private static func parse(_ text: String) -> [Assignment] {
        var section = ""
        var result: [Assignment] = []
        for line in text.split(whereSeparator: \.isNewline) {
            let line = trimmed(line)
            if line.isEmpty || line.hasPrefix("#") || line.hasPrefix(";") { continue }
            if line.hasPrefix("["), line.hasSuffix("]") {
                section = String(line.dropFirst().dropLast())
            } else if let sign = line.firstIndex(of: "=") {
                result.append(
                    Assignment(
                        section: section, name: String(trimmed(line[..<sign])),
                        value: String(trimmed(line[line.index(after: sign)...]))))
            }
        }
        return result
    }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text.drop { $0 == " " || $0 == "\t" }
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        return text
    }
}
