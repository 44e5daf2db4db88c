// What this host must stay in touch with: who is logged in, where the topology comes from, who knows names.

import CLinux
import Glibc
package import WeftModel

/// Looks for what a change must not cut. What cannot be found out is left out: it is a help, and no condition.
package struct Outside {
    private let proc: String
    private let etc: String
    private let run: String

    package init(proc: String = "/proc", etc: String = "/etc", run: String = "/run") {
        self.proc = proc
        self.etc = etc
        self.run = run
    }

    // MARK: Sessions

    /// The SSH connection that this process was started from, as sshd tells its children: ssh(1). sudo(8) drops the
    /// variable, so that the processes above this one are asked too.
    package func session(environment value: String?) -> TCPConnection? {
        if let value { return Self.connection(value) }
        var process = getpid()
        for _ in 0..<32 where process > 1 {
            let prefix = "SSH_CONNECTION="
            if let bytes = try? SmallFile.read("\(proc)/\(process)/environ"),
                let variable = bytes.split(separator: 0).map({ String(decoding: $0, as: UTF8.self) })
                    .first(where: { $0.hasPrefix(prefix) })
            {
                return Self.connection(String(variable.dropFirst(prefix.count)))
            }
            guard let parent = parent(of: process) else { return nil }
            process = parent
        }
        return nil
    }

    /// The client's address and port, then ours.
    private static func connection(_ text: String) -> TCPConnection? {
        let words = text.split(separator: " ")
        // Link-local ones have an interface behind them, which the kernel keeps elsewhere.
        func address(_ word: Substring) -> IPAddress? { IPAddress(String(word.prefix { $0 != "%" })) }
        guard words.count == 4, let remote = address(words[0]), let local = address(words[2]),
            let remotePort = UInt16(words[1]), let localPort = UInt16(words[3]), !remote.isLoopback
        else { return nil }
        return TCPConnection(
            local: SocketAddress(local, port: localPort), remote: SocketAddress(remote, port: remotePort))
    }

    private func parent(of process: pid_t) -> pid_t? {
        // The name, in parentheses, may have any character in it: proc_pid_stat(5).
        guard let text = readKernelText("\(proc)/\(process)/stat"), let end = text.lastIndex(of: ")") else {
            return nil
        }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return fields.count > 1 ? pid_t(fields[1]) : nil
    }

    /// The ports that sshd listens on by its configuration: sshd_config(5).
    package var sessionPorts: Set<UInt16> {
        let folder = "\(etc)/ssh/sshd_config.d"
        let files = ["\(etc)/ssh/sshd_config"] + SmallFile.names(in: folder).sorted().map { "\(folder)/\($0)" }
        let ports = files.flatMap { lines(of: $0) }.compactMap { words -> UInt16? in
            words.count == 2 && words[0].lowercased() == "port" ? UInt16(words[1]) : nil
        }
        return ports.isEmpty ? [22] : Set(ports)
    }

    // MARK: Names

    /// The name servers that are asked, but for those on this host; of systemd-resolved, those that it asks.
    package var nameServers: [IPAddress] {
        let own = servers("\(etc)/resolv.conf")
        if own.isEmpty { return [] }
        let asked = own.allSatisfy(\.isLoopback) ? servers("\(run)/systemd/resolve/resolv.conf") : own
        return asked.filter { !$0.isLoopback && !$0.isLinkLocal }
    }

    private func servers(_ path: String) -> [IPAddress] {
        lines(of: path).compactMap { words in
            words.count >= 2 && words[0] == "nameserver" ? IPAddress(words[1]) : nil
        }
    }

    private func lines(of path: String) -> [[String]] {
        guard let bytes = try? SmallFile.read(path) else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map {
            $0.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
        }
    }

    // MARK: Git

    /// Where the git repository that a path lies in is fetched from; nil where it lies in none, or comes from this host.
    package func gitRemote(of path: String) -> GitRemote? {
        var folder = path.hasPrefix("/") ? path : "\(currentFolder())/\(path)"
        while !folder.isEmpty {
            var section = ""
            for words in lines(of: "\(folder)/.git/config") {
                if words[0].hasPrefix("[") {
                    section = words.joined(separator: " ")
                } else if section == "[remote \"origin\"]", words.count == 3, words[0] == "url", words[1] == "=" {
                    return GitRemote(words[2])
                }
            }
            folder = String(folder[..<(folder.lastIndex(of: "/") ?? folder.startIndex)])
        }
        return nil
    }

    private func currentFolder() -> String {
        var bytes = [CChar](repeating: 0, count: Int(PATH_MAX))
        guard unsafe getcwd(&bytes, bytes.count) != nil else { return "" }
        return String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
