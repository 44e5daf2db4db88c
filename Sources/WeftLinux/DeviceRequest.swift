// What an agent asks of the service that starts user-space devices, and what it is answered: a line each.

/// `start wg0 0123456789abcdef0123456789abcdef 4026531840`: the device's name, the mark that its program is to carry, and
/// the number of the network namespace that the one who asks is in.
struct DeviceRequest: Hashable {
    var interface: String
    var token: String
    var namespace: UInt64

    var line: String { "start \(interface) \(token) \(namespace)\n" }

    init(interface: String, token: String, namespace: UInt64) {
        self.interface = interface
        self.token = token
        self.namespace = namespace
    }

    /// - Throws: what is wrong with the line, for people.
    init(line: String) throws(DeviceRequestProblem) {
        let words = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        guard words.count == 4, words[0] == "start" else {
            throw DeviceRequestProblem("it is not `start NAME MARK NAMESPACE`")
        }
        guard Self.isName(words[1]) else { throw DeviceRequestProblem("its second word names no interface") }
        guard words[2].utf8.count == 32, words[2].utf8.allSatisfy(Self.isHexadecimal) else {
            throw DeviceRequestProblem("its third word is not 32 hexadecimal digits")
        }
        guard words[3].utf8.allSatisfy({ (0x30...0x39).contains($0) }), let namespace = UInt64(words[3]) else {
            throw DeviceRequestProblem("its fourth word is not a number")
        }
        self.init(interface: words[1], token: words[2], namespace: namespace)
    }

    /// No more than what a topology allows. A program takes for an option what begins with "-", and a socket is named after
    /// the interface.
    private static func isName(_ text: String) -> Bool {
        let marks = Set("_-=+.".utf8)
        return (1...15).contains(text.utf8.count) && !text.hasPrefix("-") && !text.hasPrefix("weft~")
            && !["all", "default", "lo", ".", ".."].contains(text)
            && text.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
                default: marks.contains(byte)
                }
            }
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte)
    }
}

struct DeviceRequestProblem: Error, Hashable {
    var message: String

    init(_ message: String) { self.message = message }
}

/// The answer to a request.
enum DeviceAnswer: Hashable {
    /// The program has been started, or will be in a moment: this is the last word of the process that becomes it.
    case started
    /// The service is in another network namespace.
    case elsewhere
    case refused(String)

    var line: String {
        switch self {
        case .started: "started\n"
        case .elsewhere: "elsewhere\n"
        case .refused(let reason): "refused \(reason)\n"
        }
    }

    init?(line: String) {
        switch line {
        case "started": self = .started
        case "elsewhere": self = .elsewhere
        default:
            guard line.hasPrefix("refused ") else { return nil }
            self = .refused(String(line.dropFirst("refused ".count)))
        }
    }
}
