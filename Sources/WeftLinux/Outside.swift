// What this host must stay in touch with: who is logged in, where the topology comes from, who knows names; and the ways.

import CLinux
import Glibc
package import Netlink
package import WeftModel
package import WeftPlan

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

/// The machine that a git URL names: git-fetch(1).
package struct GitRemote: Hashable, Sendable {
    package var host: String
    package var port: UInt16

    /// Nil where the URL names no other machine.
    package init?(_ url: String) {
        let ports: [String: UInt16] = ["ssh": 22, "git": 9418, "http": 80, "https": 443]
        var rest = url[...]
        var port: UInt16 = 22
        if let mark = url.firstRange(of: "://") {
            guard let known = ports[String(url[..<mark.lowerBound])] else { return nil }
            port = known
            rest = url[mark.upperBound...].prefix { $0 != "/" }
            if let at = rest.lastIndex(of: "@") { rest = rest[rest.index(after: at)...] }
            if rest.hasPrefix("["), let end = rest.firstIndex(of: "]") {
                let after = rest[rest.index(after: end)...]
                port = after.hasPrefix(":") ? UInt16(after.dropFirst()) ?? port : port
                rest = rest[rest.index(after: rest.startIndex)..<end]
            } else if let colon = rest.lastIndex(of: ":") {
                port = UInt16(rest[rest.index(after: colon)...]) ?? port
                rest = rest[..<colon]
            }
        } else {
            // user@host:path; a slash before the colon makes it a path.
            guard let colon = rest.firstIndex(of: ":"), !rest[..<colon].contains("/") else { return nil }
            rest = rest[..<colon]
            if let at = rest.lastIndex(of: "@") { rest = rest[rest.index(after: at)...] }
        }
        guard !rest.isEmpty else { return nil }
        host = String(rest)
        self.port = port
    }

    /// Where it is. Waits for the resolver.
    package func addresses() -> [SocketAddress] {
        let found = IPAddress(host).map { [$0] } ?? lookUp(names: [host], timeout: .seconds(2)).addresses[host] ?? []
        return found.filter { !$0.isLoopback }.map { SocketAddress($0, port: port) }
    }
}

/// Looks up how packets go that are not the mesh's.
package struct WaysBeside {
    private let channel: Channel
    private let links: [UInt32: LiveLink]

    /// Opens a socket in the calling thread's network namespace, and reads its links.
    package init(
        transports: TransportFactory = { (bus) throws(Errno) in try Socket(bus) }
    ) throws(DataplaneError) {
        do throws(Errno) {
            channel = Channel(try transports(.route))
        } catch {
            throw DataplaneError(error, Request(.openSocket, "open a netlink socket"))
        }
        var table: [UInt32: LiveLink] = [:]
        for link in try readLinks(channel) { table[link.index] = link }
        links = table
    }

    /// The route that leads to an address past a mesh's interface; nil where there is none, or the mesh hides it.
    ///
    /// - Parameters:
    ///   - mark: of the tunnel's own packets, which go past its policy rules; 0: none.
    package func way(to address: IPAddress, past interface: String, mark: UInt32) -> Guarded.Way? {
        for mark in mark == 0 ? [0] : [0, mark] {
            var answer = WayReading()
            do throws(NetlinkError) {
                try channel.get(UInt16(RTM_GETROUTE), into: &answer) { encoder in
                    encoder.putRouteHeader(
                        family: address.family.number, length: UInt8(address.family.bitWidth),
                        flags: UInt32(RTM_F_FIB_MATCH))
                    encoder.attribute(UInt16(RTA_DST), address)
                    if mark != 0 { encoder.attribute(UInt16(RTA_MARK), mark) }
                }
            } catch {
                continue
            }
            guard answer.type == UInt8(RTN_UNICAST), let link = links[answer.interface], link.name != interface else {
                continue
            }
            return Guarded.Way(interface: link.name, length: answer.length, table: answer.table)
        }
        return nil
    }
}

/// Takes the answer to RTM_GETROUTE for one address.
private struct WayReading: MessageConsumer {
    /// RTN_*
    var type: UInt8 = 0
    var length: UInt8 = 0
    var table: UInt32 = 0
    /// The first one, where the route has several.
    var interface: UInt32 = 0

    mutating func reset() { self = WayReading() }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(RTM_NEWROUTE) else { return true }
        guard let length = message.payload.load(at: 1, as: UInt8.self),
            let table = message.payload.load(at: 4, as: UInt8.self),
            let type = message.payload.load(at: 7, as: UInt8.self)
        else { return false }
        (self.type, self.length, self.table) = (type, length, UInt32(table))
        var attributes = Attributes(message.payload, from: MemoryLayout<rtmsg>.size)
        while attributes.next() {
            switch rtattr_type_t(rawValue: UInt32(attributes.type)) {
            case RTA_OIF: interface = attributes.uint32()
            case RTA_TABLE: self.table = attributes.uint32()
            // struct rtnexthop: the interface stands after four bytes.
            case RTA_MULTIPATH: if attributes.count >= 8 { interface = attributes.load(at: 4, as: UInt32.self) }
            default: break
            }
        }
        return !attributes.isMalformed
    }
}
