// The name servers that a host asks by itself: what a kill switch may cut off.

package import WeftModel

extension HostFeatures {
    /// The servers of /etc/resolv.conf, each once; where that names this host alone, those that systemd-resolved asks in its
    /// place. See resolv.conf(5).
    ///
    /// - Parameter root: what stands before /etc and /run; tests have their own.
    package func nameServers(root: String = "") -> [IPAddress] {
        let servers = Self.servers(readKernelText("\(root)/etc/resolv.conf"))
        if servers.isEmpty || !servers.allSatisfy(\.isLoopback) { return servers }
        return Self.servers(readKernelText("\(root)/run/systemd/resolve/resolv.conf"))
    }

    private static func servers(_ text: String?) -> [IPAddress] {
        var servers: [IPAddress] = []
        for line in (text ?? "").split(whereSeparator: \.isNewline) {
            let words = line.split { $0 == " " || $0 == "\t" }
            // A link-local address has its interface behind it.
            guard words.count > 1, words[0] == "nameserver",
                let address = words[1].split(separator: "%").first.flatMap({ IPAddress($0) }),
                !servers.contains(address)
            else { continue }
            servers.append(address)
        }
        return servers
    }
}
