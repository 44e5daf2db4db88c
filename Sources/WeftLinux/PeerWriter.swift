// Encodes peers into as few SET_DEVICE messages as they fit, cutting even one peer's allowed IPs where they must be cut.

import CLinux
import Glibc
import Netlink
import WeftKeys
import WeftModel
import WeftPlan

/// What is to be sent of peers, message by message. Order: additions and changes; then what is to be at no peer any
/// more, taken by a throw-away peer that goes in the same message; removed peers last.
struct PeerWriter {
    private let operations: [PeerOperation]
    private let interface: UInt32
    private let secrets: SecretArena?
    /// Positions in `operations`.
    private let writes: [Int]
    private let removals: [Int]
    /// Allowed IPs that no peer keeps.
    private let orphans: [IPPrefix]

    /// The next ones to encode. `prefix` counts the allowed IPs of `writes[write]` that are sent already.
    private var write = 0
    private var prefix = 0
    private var orphan = 0
    private var removal = 0

    /// - Parameters:
    ///   - operations: not to hold a preshared key that `secrets` lacks.
    init(_ operations: [PeerOperation], interface: UInt32, secrets: SecretArena?) {
        self.operations = operations
        self.interface = interface
        self.secrets = secrets
        writes = operations.indices.filter { operations[$0].hasEntry }
        removals = operations.indices.filter { operations[$0].action == .remove }
        orphans = operations.flatMap { operation -> [IPPrefix] in
            if case .change(let change) = operation { change.removed } else { [] }
        }
    }

    var isDone: Bool { write == writes.count && orphan == orphans.count && removal == removals.count }

    /// The operations of which nothing is left to send.
    func isSent(_ index: Int) -> Bool {
        switch operations[index] {
        case .remove:
            removals.prefix(removal).contains(index)
        case .change(let change) where !change.removed.isEmpty:
            orphan == orphans.count
        case .add, .change:
            write == writes.count || index < writes[write]
        }
    }

    /// Encodes the next message.
    mutating func fill(_ encoder: inout Encoder) {
        encoder.putGenericHeader(command: UInt8(WG_CMD_SET_DEVICE.rawValue), version: UInt8(WG_GENL_VERSION))
        encoder.attribute(UInt16(WGDEVICE_A_IFINDEX), interface)
        let list = encoder.open(UInt16(WGDEVICE_A_PEERS))
        fillWrites(&encoder, list)
        if write == writes.count { fillOrphans(&encoder, list) }
        if write == writes.count, orphan == orphans.count { fillRemovals(&encoder, list) }
        encoder.close(list)
    }

    // MARK: Parts of a message

    private mutating func fillWrites(_ encoder: inout Encoder, _ list: Encoder.Mark) {
        while write < writes.count {
            let operation = operations[writes[write]]
            let prefixes = operation.writtenPrefixes
            let isContinuation = prefix > 0
            let before = encoder.mark
            let peer = encoder.open(0)
            putHead(of: operation, isContinuation: isContinuation, &encoder)
            let end = putPrefixes(prefixes, from: prefix, &encoder, within: list)
            let isWhole = end == prefixes.count
            // Never a peer without the allowed IPs for which there was no room: it starts the next message.
            if encoder.hasOverflowed || encoder.length(since: list) > Encoder.attributeLimit
                || (!isWhole && end == prefix)
            {
                encoder.rewind(to: before)
                return
            }
            encoder.close(peer)
            guard isWhole else {
                prefix = end
                return
            }
            write += 1
            prefix = 0
        }
    }

    private mutating func fillOrphans(_ encoder: inout Encoder, _ list: Encoder.Mark) {
        guard orphan < orphans.count else { return }
        let before = encoder.mark
        let key = throwAwayKey()
        let peer = encoder.open(0)
        encoder.attribute(UInt16(WGPEER_A_PUBLIC_KEY), key)
        // Room for the entry that removes it again is kept free.
        let end = putPrefixes(orphans[...], from: orphan, &encoder, within: list, spare: Self.removalSize)
        encoder.close(peer)
        putRemoval(of: key, &encoder)
        if end == orphan || encoder.hasOverflowed {
            encoder.rewind(to: before)
        } else {
            orphan = end
        }
    }

    private mutating func fillRemovals(_ encoder: inout Encoder, _ list: Encoder.Mark) {
        while removal < removals.count, Self.removalSize <= room(in: encoder, list) {
            putRemoval(of: operations[removals[removal]].publicKey, &encoder)
            removal += 1
        }
    }

    // MARK: Entries

    /// Everything of a peer but its allowed IPs; of one that is continued, only who it is.
    private func putHead(of operation: PeerOperation, isContinuation: Bool, _ encoder: inout Encoder) {
        encoder.attribute(UInt16(WGPEER_A_PUBLIC_KEY), operation.publicKey)
        switch operation {
        case .add where isContinuation, .change:
            encoder.attribute(UInt16(WGPEER_A_FLAGS), WGPEER_F_UPDATE_ONLY.rawValue)
        case .add, .remove: break
        }
        if isContinuation { return }
        switch operation {
        case .add(let peer):
            if case .tag(let tag) = peer.presharedKey { putPresharedKey(tag, &encoder) }
            put(peer.endpoint, &encoder)
            if peer.persistentKeepalive != 0 {
                encoder.attribute(UInt16(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL), peer.persistentKeepalive)
            }
        case .change(let change):
            switch change.presharedKey {
            case .tag(let tag): putPresharedKey(tag, &encoder)
            case PresharedKey.none?: encoder.attribute(UInt16(WGPEER_A_PRESHARED_KEY), zeros: Int(WG_KEY_LEN))
            case .external, nil: break
            }
            put(change.endpoint, &encoder)
            if let keepalive = change.persistentKeepalive {
                encoder.attribute(UInt16(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL), keepalive)
            }
        case .remove: break
        }
    }

    private func putPresharedKey(_ tag: SecretTag, _ encoder: inout Encoder) {
        _ = secrets?.withSecret(tag) { encoder.attribute(UInt16(WGPEER_A_PRESHARED_KEY), secret: $0) }
    }

    private func put(_ endpoint: SocketAddress?, _ encoder: inout Encoder) {
        guard let endpoint else { return }
        encoder.attribute(UInt16(WGPEER_A_ENDPOINT), endpoint)
    }

    /// Writes as many as there is room for; returns the position after the last one.
    private func putPrefixes(
        _ prefixes: ArraySlice<IPPrefix>, from start: Int, _ encoder: inout Encoder, within list: Encoder.Mark,
        spare: Int = 0
    ) -> Int {
        guard start < prefixes.count else { return start }
        let nest = encoder.open(UInt16(WGPEER_A_ALLOWEDIPS))
        var position = start
        while position < prefixes.count {
            let prefix = prefixes[prefixes.startIndex + position]
            // The sizes are the kernel's: a nest of family, address and length, each padded.
            let size = prefix.family == .v4 ? 28 : 40
            if size + spare > room(in: encoder, list) { break }
            let entry = encoder.open(0)
            encoder.attribute(UInt16(WGALLOWEDIP_A_FAMILY), UInt16(prefix.family.number))
            encoder.attribute(UInt16(WGALLOWEDIP_A_IPADDR), prefix.address)
            encoder.attribute(UInt16(WGALLOWEDIP_A_CIDR_MASK), prefix.length)
            encoder.close(entry)
            position += 1
        }
        encoder.close(nest)
        return position
    }

    private func putRemoval(of key: PublicKey, _ encoder: inout Encoder) {
        let peer = encoder.open(0)
        encoder.attribute(UInt16(WGPEER_A_PUBLIC_KEY), key)
        encoder.attribute(UInt16(WGPEER_A_FLAGS), WGPEER_F_REMOVE_ME.rawValue)
        encoder.close(peer)
    }

    /// Header, public key, flags.
    private static let removalSize = 4 + 36 + 8

    private func room(in encoder: borrowing Encoder, _ list: Encoder.Mark) -> Int {
        Encoder.attributeLimit - encoder.length(since: list)
    }

    /// A key that nobody has: 32 random bytes.
    private func throwAwayKey() -> PublicKey {
        var generator = SystemRandomNumberGenerator()
        return PublicKey(bigEndianWords: generator.next(), generator.next(), generator.next(), generator.next())
    }
}

extension PeerOperation {
    /// The allowed IPs that the peer's own entry carries.
    fileprivate var writtenPrefixes: ArraySlice<IPPrefix> {
        switch self {
        case .add(let peer): ArraySlice(peer.allowedIPs)
        case .change(let change): change.added[...]
        case .remove: []
        }
    }

    /// Whether there is more to say of the peer than that it goes, or loses allowed IPs.
    fileprivate var hasEntry: Bool {
        switch self {
        case .add: true
        case .change(let change):
            change.presharedKey != nil || change.persistentKeepalive != nil || change.endpoint != nil
                || !change.added.isEmpty
        case .remove: false
        }
    }

    /// The preshared key that it needs.
    var neededSecret: SecretTag? {
        switch self {
        case .add(let peer): if case .tag(let tag) = peer.presharedKey { tag } else { nil }
        case .change(let change): if case .tag(let tag)? = change.presharedKey { tag } else { nil }
        case .remove: nil
        }
    }
}

extension Encoder {
    mutating func attribute(_ type: UInt16, _ key: PublicKey) {
        let words = [key.word0.bigEndian, key.word1.bigEndian, key.word2.bigEndian, key.word3.bigEndian]
        attribute(type, bytes: unsafe words.span.bytes)
    }

    /// An attribute with a struct sockaddr_in or sockaddr_in6.
    mutating func attribute(_ type: UInt16, _ endpoint: SocketAddress) {
        let address = endpoint.address
        structure(type) { encoder in
            encoder.put(UInt16(address.family.number))
            encoder.put(endpoint.port.bigEndian)
            switch address.family {
            case .v4:
                encoder.put(address.v4Bits.bigEndian)
                encoder.put(UInt64(0))
            case .v6:
                encoder.put(UInt32(0))
                encoder.put(address.high.bigEndian)
                encoder.put(address.low.bigEndian)
                encoder.put(UInt32(0))
            }
        }
    }
}
