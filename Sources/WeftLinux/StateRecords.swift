// What the state folder's files hold, as JSON. Versioned here, so that the model's own types stay plain.

internal import FoundationEssentials
internal import WeftModel
internal import WeftPlan

/// A kind of record: its version is read before anything else of it.
protocol StateRecord: Codable, Equatable {
    static var currentVersion: Int { get }
    /// Nothing is remembered.
    static var empty: Self { get }
}

/// What is remembered of one interface.
struct InterfaceRecord: StateRecord {
    static let currentVersion = 1
    static var empty: Self { Self() }

    struct Program: Codable, Equatable {
        var bootID: String
        var token: String
    }

    struct Resolver: Codable, Equatable {
        var bootID: String
        /// `systemd-resolved`, `resolvconf`
        var kind: String
        /// Under which name, which is not always the interface's.
        var name: String
    }

    var version = Self.currentVersion
    /// The boot in which it was last written: numbers of network namespaces mean nothing after it.
    var bootID = ""
    /// By public key: `fra.example.net:51820 192.0.2.1:51820`, the text and what it meant; one alone where they are equal.
    /// Plain strings, because 10,000 objects take four times as long to read.
    var endpoints: [String: String] = [:]
    /// The user-space program that was started, or was about to be.
    var program: Program?
    /// Whom the interface's name servers were told to, or were about to be.
    var resolver: Resolver?
    /// The path of the topology that was in force last; what it held is kept beside.
    var topology: String?
    /// Whether it has a kill switch; absent where it has none.
    var hasKillSwitch: Bool?
    /// Which node the host is that has it.
    var node: String?
    /// The topology that the host was as wanted by.
    var reached: String?
}

/// Of what is remembered of one interface, what each pass asks: all but the endpoints, which are long.
struct InterfaceHeading: StateRecord {
    static let currentVersion = InterfaceRecord.currentVersion
    static var empty: Self { Self() }

    var version = Self.currentVersion
    var bootID = ""
    var program: InterfaceRecord.Program?
    var resolver: InterfaceRecord.Resolver?
    var topology: String?
}

/// What is remembered of sysctls, for all interfaces of one network namespace.
struct SysctlRecord: StateRecord {
    static let currentVersion = 1
    static var empty: Self { Self() }

    struct Original: Codable, Equatable {
        var value: String
        var written: String
        /// By path; absent where there are none.
        var companions: [String: String]?
    }

    var version = Self.currentVersion
    var bootID = ""
    var originals: [String: Original] = [:]
    var claims: [String: [String]] = [:]
}

/// What is remembered of a topology on trial, or that failed.
struct TrialFile: StateRecord {
    static let currentVersion = 1
    static var empty: Self { Self() }

    var version = Self.currentVersion
    /// The boot in which it was put on trial.
    var bootID = ""
    /// Empty: there is none.
    var topology = ""
    /// Seconds since 1970.
    var deadline: Int64 = 0
    var wanted: [String] = []
    var isRejected = false
    // Absent in what an earlier weft wrote.
    var isResumable: Bool?
    var isUndone: Bool?
    var reason: String?
    var handshakes: [String]?
    var proofs: [String]?
}

/// Why bytes are no record of this kind.
enum StateRecordError: Error {
    case newer(Int)
    case corrupt(String)
}

private struct RecordVersion: Decodable {
    var version: Int
}

private struct RecordBoot: Decodable {
    var bootID: String
}

/// The boot in which a record of any kind was written; nil where that cannot be told.
func recordedBoot(json bytes: [UInt8]) -> String? {
    try? JSONDecoder().decode(RecordBoot.self, from: Data(bytes)).bootID
}

extension StateRecord {
    init(json bytes: [UInt8]) throws(StateRecordError) {
        let data = Data(bytes)
        let decoder = JSONDecoder()
        do {
            let version = try decoder.decode(RecordVersion.self, from: data).version
            guard version <= Self.currentVersion else { throw StateRecordError.newer(version) }
            self = try decoder.decode(Self.self, from: data)
        } catch let error as StateRecordError {
            throw error
        } catch {
            throw .corrupt(bytes.isEmpty ? "it is empty" : "it is not the JSON that was written")
        }
    }

    func json() -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        // Strings, numbers and dictionaries of them always encode.
        guard let data = try? encoder.encode(self) else { preconditionFailure("a record does not encode") }
        return Array(data) + [UInt8(ascii: "\n")]
    }
}

extension InterfaceRecord {
    /// Entries that do not parse are left out: the memory is a help, never a need.
    var meshMemory: MeshMemory {
        var applied: [PublicKey: AppliedEndpoint] = [:]
        applied.reserveCapacity(endpoints.count)
        for (key, entry) in endpoints {
            guard let key = PublicKey(key), let endpoint = AppliedEndpoint(entry: entry) else { continue }
            applied[key] = endpoint
        }
        return MeshMemory(endpoints: applied, hasKillSwitch: hasKillSwitch ?? false, node: node, reached: reached)
    }

    mutating func set(_ memory: MeshMemory) {
        endpoints = [:]
        endpoints.reserveCapacity(memory.endpoints.entries.count)
        for entry in memory.endpoints.entries { endpoints[entry.key.base64] = entry.endpoint.text }
        hasKillSwitch = memory.hasKillSwitch ? true : nil
        node = memory.node
        reached = memory.reached
    }
}

extension AppliedEndpoint {
    fileprivate init?(entry: String) {
        // The text cannot be trusted to be without a blank; the address is.
        let cut = entry.lastIndex(of: " ")
        let text = cut.map { String(entry[entry.index(after: $0)...]) } ?? entry
        guard let address = text.utf8Span.span.endpoint() else { return nil }
        self.init(written: cut.map { String(entry[..<$0]) } ?? entry, address: address)
    }

    /// As it is written down.
    fileprivate var text: String {
        let address = address.description
        return written == address ? address : "\(written) \(address)"
    }
}

extension SysctlRecord {
    var memory: SysctlMemory {
        SysctlMemory(
            originals: originals.mapValues {
                SysctlMemory.Original(value: $0.value, written: $0.written, companions: $0.companions ?? [:])
            },
            claims: claims.mapValues { Set($0) })
    }
}
