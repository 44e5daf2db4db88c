// Endpoints: `host`, `host:port`, `192.0.2.1:51820`, `[2001:db8::7]:51820`.

import WeftDiagnostics
import WeftModel
import YAML

extension Reader {
    /// An endpoint whose port may be left to be derived.
    mutating func endpoint(_ id: YAMLTree.ID, _ what: String) -> Located<NodeEndpoint>? {
        let place = tree.place(id)
        guard tree.kind(id) == .scalar, !tree.isNull(id) else {
            if let text = bracketedEndpoint(id) {
                problems.error(
                    "topology.unquoted-endpoint",
                    "\(what) that starts with a bracket needs quotes: to YAML it is a list",
                    at: place, fixIts: [replace(id, with: text)])
            } else {
                wrongType(what, "text like fra.example.net:51820", id)
            }
            return nil
        }
        guard let endpoint = parseEndpoint(id, what), judge(endpoint, id, what) else { return nil }
        return Located(endpoint, at: place)
    }

    /// `[2001:db8::7]` without quotes is a list of one address.
    private func bracketedEndpoint(_ id: YAMLTree.ID) -> String? {
        guard tree.kind(id) == .sequence, tree.isFlow(id), tree.count(id) == 1 else { return nil }
        for item in tree.items(id) where tree.kind(item) == .scalar {
            if let address = IPAddress(tree.text(item)), address.family == .v6 { return "\"[\(address)]\"" }
        }
        return nil
    }

    private mutating func parseEndpoint(_ id: YAMLTree.ID, _ what: String) -> NodeEndpoint? {
        switch EndpointText.parse(tree.text(id)) {
        case .address(let address, let port): return NodeEndpoint(host: .address(address), port: port)
        case .name(let count, let port):
            guard isText(id, what) else { return nil }
            return NodeEndpoint(host: .name(String(tree.string(id).prefix(count))), port: port)
        case .failure(let failure):
            report(failure, id, what)
            return nil
        }
    }

    private mutating func report(_ failure: EndpointText.Failure, _ id: YAMLTree.ID, _ what: String) {
        guard !isKeyShaped(id) else {
            wrongType(what, "text like fra.example.net:51820", id)
            return
        }
        let text = tree.string(id)
        let place = tree.place(id)
        var fixIts: [Diagnostic.FixIt] = []
        let message: String
        switch failure {
        case .empty: message = "\(what) is empty"
        case .port(let port):
            message =
                port == "0"
                ? "port 0 cannot be dialled: ports are 1 to 65535"
                : port.isEmpty ? "no port after the \":\"" : "\"\(shown(port))\" is not a port: ports are 1 to 65535"
        case .leadingZero(let host, let port):
            message = "a port without leading zeros"
            fixIts = [replace(id, with: "\(host):\(port)")]
        case .bareV6(let address):
            message = "an IPv6 address in \(what) needs brackets around it, and quotes"
            fixIts = [replace(id, with: "\"[\(address)]\"")]
            if let cut = text.lastIndex(of: ":"), let head = IPAddress(text[..<cut]),
                let port = UInt16(text[text.index(after: cut)...]), port > 0
            {
                fixIts.insert(replace(id, with: "\"[\(head)]:\(port)\""), at: 0)
            }
        case .bareV6WithPort(let address, let port):
            message = "an IPv6 address in \(what) needs brackets around it, and quotes"
            fixIts = [replace(id, with: "\"[\(address)]:\(port)\"")]
        case .bracketedV4(let address, let port):
            message = "brackets are for IPv6 addresses"
            fixIts = [replace(id, with: port.map { "\(address):\($0)" } ?? "\(address)")]
        case .brackets: message = "\"\(shown(text))\" is not an IPv6 address in brackets"
        case .zone: message = "an endpoint with a zone (%) means something else on each host, and is not accepted"
        case .scheme: message = "\(what) is a host and a port, without a scheme before them"
        case .fourParts: message = fourPartsReason(String(text.prefix { $0 != ":" })) ?? "not an IPv4 address"
        case .character(let scalar):
            message =
                scalar.value > 0x7F
                ? "a host name holds ASCII only, and \"\(scalar)\" (\(codePoint(scalar.value))) is not: write the name's xn-- form"
                : "\"\(shown(text))\": a host name cannot hold \(name(scalar))"
        case .label:
            message = "\"\(shown(text))\" is not a host name: its parts are 1 to 63 letters, digits and inner \"-\""
        case .tooLong: message = "a host name has at most 253 characters"
        }
        problems.error("topology.endpoint", message, at: place, fixIts: fixIts)
    }

    private func name(_ scalar: Unicode.Scalar) -> String {
        scalar == " " ? "a blank" : "\"\(scalar)\""
    }

    /// Addresses that no other host can dial.
    private mutating func judge(_ endpoint: NodeEndpoint, _ id: YAMLTree.ID, _ what: String) -> Bool {
        let place = tree.place(id)
        switch endpoint.host {
        case .name(let name):
            if name.lowercased() == "localhost" || name.lowercased().hasSuffix(".localhost") { warnLocal(place, name) }
        case .address(let address):
            if address.isUnspecified || address.isMulticast || address == IPAddress(v4: .max) {
                problems.error("topology.endpoint", "\(address) cannot be dialled", at: place)
                return false
            }
            if address.family == .v6, address.isLinkLocal {
                problems.error(
                    "topology.endpoint", "\(address) is link-local: without a zone it cannot be dialled", at: place)
                return false
            }
            if address.family == .v6, address.high == 0, address.low >> 32 == 0xFFFF {
                let four = IPAddress(v4: UInt32(truncatingIfNeeded: address.low))
                let text = endpoint.port.map { "\(four):\($0)" } ?? "\(four)"
                problems.error(
                    "topology.mapped-address", "\(what) is an IPv4 address in IPv6 clothes: write \(text)", at: place,
                    fixIts: [replace(id, with: text)])
                return false
            }
            if address.isLoopback { warnLocal(place, address.description) }
        }
        return true
    }

    private mutating func warnLocal(_ place: SourceRange, _ name: String) {
        problems.warning(
            "topology.local-endpoint",
            "\(shown(name)) is the dialling host itself: this reaches the node only through a forwarder that listens there",
            at: place)
    }
}

/// The grammar of an endpoint.
enum EndpointText {
    enum Failure: Error {
        case empty
        case port(String)
        case leadingZero(host: String, port: UInt16)
        case bareV6(IPAddress)
        case bareV6WithPort(IPAddress, UInt16)
        case bracketedV4(IPAddress, UInt16?)
        case brackets, zone, scheme, fourParts, label, tooLong
        case character(Unicode.Scalar)
    }

    enum Result {
        case address(IPAddress, UInt16?)
        /// The host's name is the first bytes of the text, as many as given.
        case name(Int, UInt16?)
        case failure(Failure)
    }

    static func parse(_ text: Span<UInt8>) -> Result {
        do throws(Failure) {
            return try parts(text)
        } catch {
            return .failure(error)
        }
    }

    private static let colon = UInt8(ascii: ":")

    private static func parts(_ text: Span<UInt8>) throws(Failure) -> Result {
        guard text.count > 0 else { throw .empty }
        var colons = 0
        var lastColon = text.count
        for index in text.indices {
            if text[index] == colon {
                colons += 1
                lastColon = index
            } else if text[index] == UInt8(ascii: "%") {
                throw .zone
            } else if text[index] == UInt8(ascii: "/") {
                throw index > 0 && text[index - 1] == colon ? .scheme : .character("/")
            }
        }
        if text[0] == UInt8(ascii: "[") { return try bracketed(text) }
        if colons > 1 { throw bareV6(text, lastColon) }
        let host = text.extracting(first: lastColon)
        var port: UInt16?
        if colons == 1 {
            let digits = text.extracting(droppingFirst: lastColon + 1)
            port = try self.port(digits, host: host)
        }
        if host.count == 0 { throw .empty }
        if let address = IPAddress(host) { return .address(address, port) }
        try checkName(host)
        return .name(host.count, port)
    }

    private static func bracketed(_ text: Span<UInt8>) throws(Failure) -> Result {
        var end = 1
        while end < text.count, text[end] != UInt8(ascii: "]") { end += 1 }
        guard end < text.count, let address = IPAddress(text.extracting(1..<end)) else { throw .brackets }
        var port: UInt16?
        if end + 1 < text.count {
            guard text[end + 1] == colon else { throw .brackets }
            port = try self.port(text.extracting(droppingFirst: end + 2), host: text.extracting(first: end + 1))
        }
        if address.family == .v4 { throw .bracketedV4(address, port) }
        return .address(address, port)
    }

    private static func bareV6(_ text: Span<UInt8>, _ lastColon: Int) -> Failure {
        if let address = IPAddress(text) { return .bareV6(address) }
        let digits = text.extracting(droppingFirst: lastColon + 1)
        if let head = IPAddress(text.extracting(first: lastColon)), let port = UInt16(string(digits)), port > 0 {
            return .bareV6WithPort(head, port)
        }
        return .character(":")
    }

    private static func port(_ digits: Span<UInt8>, host: Span<UInt8>) throws(Failure) -> UInt16 {
        var value: UInt32 = 0
        for index in digits.indices {
            guard let digit = decimalDigit(digits[index]), value <= 65_535 else { throw .port(string(digits)) }
            value = value * 10 + UInt32(digit)
        }
        guard digits.count > 0, let port = UInt16(exactly: value), port > 0 else { throw .port(string(digits)) }
        if digits[0] == UInt8(ascii: "0") { throw .leadingZero(host: string(host), port: port) }
        return port
    }

    /// RFC 1123 labels; underscores are let through, as resolvers do. A last label of digits alone is an IPv4 address
    /// gone wrong.
    private static func checkName(_ host: Span<UInt8>) throws(Failure) {
        var width = 0
        var isNumeric = true
        var isFourParts = true
        for index in host.indices {
            let byte = host[index]
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"):
                isNumeric = false
                isFourParts = false
                width += 1
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                width += 1
            case UInt8(ascii: "-"):
                if width == 0 { throw .label }
                isNumeric = false
                isFourParts = false
                width += 1
            case UInt8(ascii: "."):
                if width == 0 || host[index - 1] == UInt8(ascii: "-") { throw .label }
                if index + 1 < host.count { isNumeric = true }
                width = 0
            default:
                throw .character(string(host).unicodeScalars.first { !isHostScalar($0) } ?? "?")
            }
            if width > 63 { throw .label }
        }
        if isNumeric { throw isFourParts ? .fourParts : .label }
        if host[host.count - 1] == UInt8(ascii: "-") { throw .label }
        if host.count > 253 { throw .tooLong }
    }

    private static func isHostScalar(_ scalar: Unicode.Scalar) -> Bool {
        scalar == "-" || scalar == "." || scalar == "_" || (scalar.isASCII && scalar.properties.isAlphabetic)
            || ("0"..."9").contains(scalar)
    }

    private static func string(_ text: Span<UInt8>) -> String {
        var bytes: [UInt8] = []
        for index in text.indices { bytes.append(text[index]) }
        return String(decoding: bytes, as: UTF8.self)
    }
}
