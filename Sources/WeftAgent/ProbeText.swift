// What a trial waits for besides echoes, as it is written down for an agent that is killed in its midst.

import WeftModel

extension Probe {
    /// `git`, `resolver 192.0.2.53`, `connection 192.0.2.1 22`, `peer fra`, or `session`, both ends and whether it is
    /// `strict`; nil for an echo, which is an address.
    var text: String? {
        switch self {
        case .echo: nil
        case .git: "git"
        case .resolver(let address): "resolver \(address)"
        case .connection(let address): "connection \(address.words)"
        case .peer(let name, _): "peer \(name)"
        case .session(let connection, let strict):
            "session \(connection.local.words) \(connection.remote.words) \(strict ? "strict" : "lenient")"
        }
    }

    /// - Parameter address: of a node, by its name; where it has none by now, it cannot be heard of.
    init?(text: String, address: (String) -> IPAddress?) {
        let words = text.split(separator: " ").map(String.init)
        switch (words.first, words.count) {
        case ("git", 1): self = .git
        case ("resolver", 2):
            guard let server = IPAddress(words[1]) else { return nil }
            self = .resolver(server)
        case ("connection", 3):
            guard let remote = SocketAddress(words: words[1...2]) else { return nil }
            self = .connection(remote)
        case ("peer", 2):
            guard let place = address(words[1]) else { return nil }
            self = .peer(name: words[1], place)
        case ("session", 6):
            guard let local = SocketAddress(words: words[1...2]), let remote = SocketAddress(words: words[3...4]) else {
                return nil
            }
            self = .session(TCPConnection(local: local, remote: remote), strict: words[5] == "strict")
        default: return nil
        }
    }
}

extension SocketAddress {
    fileprivate var words: String { "\(address) \(port)" }

    fileprivate init?(words: ArraySlice<String>) {
        guard let first = words.first, let address = IPAddress(first), let port = words.last.flatMap({ UInt16($0) })
        else { return nil }
        self.init(address, port: port)
    }
}
