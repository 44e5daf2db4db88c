// A user-space WireGuard device, read and changed over its socket.

internal import CLinux
internal import Glibc
internal import Netlink
package import WeftKeys
internal import WeftModel
package import WeftPlan

/// Speaks the cross-platform user-space protocol (wireguard.com/xplatform) with the device behind one interface.
package struct UserspaceControl: WireGuardControl {
    let interface: String
    /// Where its socket can be.
    let sockets: [String]
    let secrets: () throws(DataplaneError) -> SecretArena
    /// How long the device may keep still.
    let patience: Duration
    /// Who may be the device's user, besides root and ours.
    let user: uid_t?
    /// The name of the program behind the interface.
    let programName: () -> String?
    // Made at the first use, and kept: locking memory has its price.
    private final class Scratch {
        lazy var buffer = SecretBuffer(capacity: 64 << 10)
    }
    private let scratch = Scratch()

    /// - Parameters:
    ///   - sockets: the paths at which the device can listen, tried in order.
    ///   - secrets: where operations' tags are looked up; none are needed for reading.
    ///   - user: who may be the device's user, besides root and ours.
    ///   - programName: found out from /proc where it is nil.
    package init(
        interface: String, sockets: [String], secrets: @escaping () throws(DataplaneError) -> SecretArena = noSecrets,
        patience: Duration = .seconds(20), trusting user: UInt32? = nil, programName: (() -> String?)? = nil
    ) {
        self.user = user
        self.programName = programName ?? { MarkedProcesses().holder(of: interface)?.name }
        self.interface = interface
        self.sockets = sockets
        self.secrets = secrets
        self.patience = patience
    }

    package mutating func read() throws(DataplaneError) -> DeviceReading {
        let text = "read \(interface)"
        let dump: UserspaceDump
        do throws(UserspaceRequestError) { dump = try get() } catch { throw failure(error, text) }
        guard let number = dump.errorNumber else { throw failure(.malformed("it has no error number"), text) }
        guard number == 0 else { throw refusal(number, text) }
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return dump.finish(at: UnixTime(seconds: Int64(time.tv_sec), nanoseconds: Int32(time.tv_nsec)))
    }

    private func get() throws(UserspaceRequestError) -> UserspaceDump {
        let buffer = scratch.buffer
        let socket = try connect()
        buffer.erase()
        buffer.append("get=1\n\n")
        do throws(UserspaceSocketError) { try socket.send(buffer) } catch { throw .socket(error) }
        var dump = UserspaceDump()
        do throws(UserspaceAnswerError) {
            try readAnswer(of: socket, through: buffer) { line throws(UserspaceFormatError) in try dump.take(line) }
        } catch {
            throw UserspaceRequestError(error)
        }
        return dump
    }

    private func connect() throws(UserspaceRequestError) -> UserspaceSocket {
        do throws(UserspaceSocketError) {
            return try UserspaceSocket.connect(to: sockets, patience: patience, trusting: user)
        } catch {
            throw .socket(error)
        }
    }

    package mutating func perform(_ operation: DeviceOperation) -> Outcome {
        let text = "configure \(interface)"
        do throws(DataplaneError) {
            try transact(text, port: operation.listenPort) { request in
                if let tag = operation.privateKey { request.put("private_key", secret: tag) }
                if let port = operation.listenPort { request.put("listen_port", port) }
                if let mark = operation.fwMark { request.put("fwmark", mark) }
            }
            return .done
        } catch {
            return .failed(error)
        }
    }

    package mutating func perform(_ operations: [PeerOperation]) -> [Outcome] {
        if operations.isEmpty { return [] }
        if programName()?.hasPrefix("boringtun") ?? false { return performReplacing(operations) }
        do throws(DataplaneError) {
            try transact("change \(operations.count) peers of \(interface)") { $0.put(operations) }
            return [Outcome](repeating: .done, count: operations.count)
        } catch {
            // Of the device's answer only the error number is left, and not at which line it stopped. Each operation
            // may be done twice, so that one by one tells which it was. A device that does not answer is left alone.
            switch error.code {
            case .gone, .other, .inconsistent: return [Outcome](repeating: .failed(error), count: operations.count)
            default: return performSingly(operations)
            }
        }
    }

    private mutating func performSingly(_ operations: [PeerOperation]) -> [Outcome] {
        var hasFailed = false
        return operations.map { operation in
            if hasFailed, operation.action == .remove {
                return .skipped("a peer before it failed, and its allowed IPs may have been meant to move")
            }
            do throws(DataplaneError) {
                try transact("\(operation.verb) \(operation.publicKey.short) of \(interface)") { $0.put([operation]) }
                return .done
            } catch {
                hasFailed = true
                return .failed(error)
            }
        }
    }

    package mutating func removeAllPeers() throws(DataplaneError) {
        try transact("remove all peers of \(interface)") { $0.put("replace_peers", true) }
    }

    /// - Parameter port: what the request sets the port to, for the words of an error.
    func transact(
        _ text: String, port: UInt16? = nil, _ write: (inout UserspaceRequest) -> Void
    ) throws(DataplaneError) {
        let number: Int32
        do throws(UserspaceRequestError) {
            var request = UserspaceRequest(try connect(), buffer: scratch.buffer, secrets: secrets)
            write(&request)
            number = try request.finish()
        } catch {
            throw failure(error, text)
        }
        guard number == 0 else { throw refusal(number, text, port: port) }
    }

    private func failure(_ error: UserspaceRequestError, _ text: String) -> DataplaneError {
        switch error {
        case .socket(.nobody):
            if unsafe if_nametoindex(interface) != 0 {
                return DataplaneError(
                    .other,
                    "there is the interface and no socket for it (\(sockets.first ?? "")): remove the interface (ip link "
                        + "delete \(interface)) and apply again", operation: text)
            }
            return DataplaneError(
                .gone, "the program behind this interface has ended: `weft apply` starts it again", operation: text)
        case .socket(.foreignUser(let user)):
            return DataplaneError(
                .obstructed, "user \(user) listens on its socket, and is not to get any key: end that program",
                operation: text)
        case .socket(.silent):
            let holder = MarkedProcesses().holder(of: interface)
            let program = holder.map { " (\($0.name), process \($0.process))" } ?? ""
            let remedy = holder.map { "end it (kill -9 \($0.process)) and apply again" } ?? "end it and apply again"
            return DataplaneError(
                .other,
                "the program behind this interface\(program) has not answered for \(patience.components.seconds) s: "
                    + remedy, operation: text)
        case .socket(.closed):
            return DataplaneError(
                .gone, "the program behind this interface ended the connection: apply again", operation: text)
        case .socket(.system(let error)):
            let isRefused = error.rawValue == EACCES || error.rawValue == EPERM
            return DataplaneError(
                isRefused ? .notPermitted : .other, "its socket: \(error)" + (isRefused ? "; run this as root" : ""),
                errno: error.rawValue, operation: text)
        case .key(let error):
            var error = error
            if error.operation.isEmpty { error.operation = text }
            return error
        case .malformed(let reason):
            return DataplaneError(
                .other, "the answer of the program behind this interface cannot be read: \(reason)", operation: text)
        }
    }

    private func refusal(_ number: Int32, _ text: String, port: UInt16? = nil) -> DataplaneError {
        let said = "the program behind this interface refused (\(Errno(number)))"
        switch number {
        case EADDRINUSE:
            let portText = port.map { " \($0)" } ?? ""
            return DataplaneError(
                .portInUse, "UDP port\(portText) is used by another program: end it, or choose another listenPort",
                errno: number, operation: text)
        case EPERM, EACCES: return DataplaneError(.notPermitted, said, errno: number, operation: text)
        case ENOMEM, ENOBUFS: return DataplaneError(.noMemory, said, errno: number, operation: text)
        case EINVAL, EPROTO, ERANGE: return DataplaneError(.invalid, said, errno: number, operation: text)
        case ENODEV, ENOENT: return DataplaneError(.gone, said, errno: number, operation: text)
        default: return DataplaneError(.invalid, said, errno: number, operation: text)
        }
    }
}

/// For what only reads.
package func noSecrets() throws(DataplaneError) -> SecretArena {
    throw DataplaneError(.key, "no keys were loaded")
}

extension PeerOperation {
    var verb: String {
        switch self {
        case .add: "add peer"
        case .change: "change peer"
        case .remove: "remove peer"
        }
    }
}

extension UserspaceRequest {
    /// Puts peers' operations into one request: additions and changes, then a throw-away peer that takes the allowed IPs
    /// that are to be at nobody, then removals. So a prefix that moves is never at neither.
    mutating func put(_ operations: [PeerOperation]) {
        var loose: [IPPrefix] = []
        for operation in operations {
            switch operation {
            case .add(let peer): put(peer)
            case .change(let change):
                put(change)
                loose += change.removed
            case .remove: break
            }
        }
        if !loose.isEmpty {
            let nobody = PublicKey.random()
            put("public_key", nobody)
            for prefix in loose { put("allowed_ip", prefix) }
            // Named again: some programs act on `remove` before they read what stands beside it.
            put("public_key", nobody)
            put("remove", true)
        }
        for case .remove(let peer) in operations {
            put("public_key", peer.publicKey)
            put("remove", true)
        }
    }

    mutating func put(_ peer: Peer) {
        put("public_key", peer.publicKey)
        if case .tag(let tag) = peer.presharedKey { put("preshared_key", secret: tag) }
        if let endpoint = peer.endpoint { put("endpoint", endpoint) }
        if peer.persistentKeepalive != 0 { put("persistent_keepalive_interval", peer.persistentKeepalive) }
        for prefix in peer.allowedIPs { put("allowed_ip", prefix) }
    }

    private mutating func put(_ change: PeerChange) {
        if change.isEmpty { return }
        put("public_key", change.publicKey)
        put("update_only", true)
        switch change.presharedKey {
        case .some(.tag(let tag)): put("preshared_key", secret: tag)
        case .some(.none): put("preshared_key", secret: nil)
        case .some(.external), nil: break
        }
        if let endpoint = change.endpoint { put("endpoint", endpoint) }
        if let seconds = change.persistentKeepalive { put("persistent_keepalive_interval", seconds) }
        for prefix in change.added { put("allowed_ip", prefix) }
    }
}

extension PublicKey {
    /// A key that nobody has.
    fileprivate static func random() -> PublicKey {
        func word() -> UInt64 { .random(in: .min ... .max) }
        return PublicKey(bigEndianWords: word(), word(), word(), word())
    }
}
