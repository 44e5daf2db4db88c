// Which machine a git repository is fetched from.

package import WeftModel

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
