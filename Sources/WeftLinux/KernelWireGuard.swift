// The kernel's WireGuard over generic netlink.

import CLinux
import Glibc
import Netlink
import WeftKeys
import WeftModel
import WeftPlan

/// The kernel module's device behind one link.
struct KernelWireGuard: WireGuardControl {
    let channel: Channel
    let family: UInt16
    /// The link's index. Names may change hands while we work; an index does not.
    let interface: UInt32
    let name: String
    let secrets: () throws(DataplaneError) -> SecretArena
    /// How many peers the next reading makes room for.
    var expectedPeers = 0

    /// Asks for the number of the family `wireguard`, which loads the module where it is a module.
    static func family(_ channel: Channel) throws(DataplaneError) -> UInt16 {
        var reading = FamilyReading()
        do throws(NetlinkError) {
            try channel.get(UInt16(GENL_ID_CTRL), into: &reading) { encoder in
                encoder.putGenericHeader(command: UInt8(CTRL_CMD_GETFAMILY), version: 1)
                encoder.attribute(UInt16(CTRL_ATTR_FAMILY_NAME), WG_GENL_NAME)
            }
        } catch {
            throw DataplaneError(error, Request(.findFamily, "find WireGuard in the kernel"))
        }
        guard let family = reading.family else {
            throw DataplaneError(
                .noWireGuard, "the kernel named no number for WireGuard", operation: "find WireGuard in the kernel")
        }
        return family
    }

    // MARK: Reading

    mutating func read() throws(DataplaneError) -> DeviceReading {
        var dump = DeviceDump(expecting: expectedPeers)
        // The answer holds the private key and every preshared key.
        defer { channel.eraseReceived() }
        do throws(NetlinkError) {
            try channel.dump(family, into: &dump) { encoder in
                encoder.putGenericHeader(command: UInt8(WG_CMD_GET_DEVICE.rawValue), version: UInt8(WG_GENL_VERSION))
                encoder.attribute(UInt16(WGDEVICE_A_IFINDEX), interface)
            }
        } catch {
            throw DataplaneError(error, Request(.readDevice, "read WireGuard device \(name)"))
        }
        return dump.finish()
    }

    // MARK: The device

    mutating func perform(_ operation: DeviceOperation) -> Outcome {
        do throws(DataplaneError) {
            let arena = operation.privateKey == nil ? nil : try secrets()
            if let tag = operation.privateKey, arena?.contains(tag) != true { throw Self.missingKey("private key") }
            try setDevice(Request(.setDevice, "configure \(name)")) { encoder in
                if let tag = operation.privateKey {
                    _ = arena?.withSecret(tag) { encoder.attribute(UInt16(WGDEVICE_A_PRIVATE_KEY), secret: $0) }
                }
                if let port = operation.listenPort { encoder.attribute(UInt16(WGDEVICE_A_LISTEN_PORT), port) }
                if let mark = operation.fwMark { encoder.attribute(UInt16(WGDEVICE_A_FWMARK), mark) }
            }
            return .done
        } catch {
            return .failed(error)
        }
    }

    mutating func removeAllPeers() throws(DataplaneError) {
        try setDevice(Request(.setPeers, "remove all peers of \(name)")) { encoder in
            encoder.attribute(UInt16(WGDEVICE_A_FLAGS), WGDEVICE_F_REPLACE_PEERS.rawValue)
        }
    }

    private func setDevice(_ request: Request, _ body: (inout Encoder) -> Void) throws(DataplaneError) {
        do throws(NetlinkError) {
            try channel.request(family) { encoder in
                encoder.putGenericHeader(command: UInt8(WG_CMD_SET_DEVICE.rawValue), version: UInt8(WG_GENL_VERSION))
                encoder.attribute(UInt16(WGDEVICE_A_IFINDEX), interface)
                body(&encoder)
            }
        } catch {
            throw DataplaneError(error, request)
        }
    }

    // MARK: Peers

    mutating func perform(_ operations: [PeerOperation]) -> [Outcome] {
        var outcomes = [Outcome?](repeating: nil, count: operations.count)
        var arena: SecretArena?
        if operations.contains(where: { $0.neededSecret != nil }) {
            do throws(DataplaneError) {
                arena = try secrets()
            } catch {
                for index in operations.indices where operations[index].neededSecret != nil {
                    outcomes[index] = .failed(error)
                }
            }
            for index in operations.indices where outcomes[index] == nil {
                if let tag = operations[index].neededSecret, arena?.contains(tag) != true {
                    outcomes[index] = .failed(Self.missingKey("preshared key"))
                }
            }
        }
        guard let arena else {
            sendTogether(operations, nil, &outcomes)
            return outcomes.map { $0 ?? .done }
        }
        // One change of the arena's protection for all of them.
        arena.whileReadable { sendTogether(operations, arena, &outcomes) }
        return outcomes.map { $0 ?? .done }
    }

    /// Sends all that is undecided in as few messages as fit. A message that fails does not say at which peer, and what
    /// it did before that peer stays: everything in it is then sent again one by one, which harms nothing.
    private func sendTogether(_ operations: [PeerOperation], _ arena: SecretArena?, _ outcomes: inout [Outcome?]) {
        var hasFailed = outcomes.contains { $0 != nil }
        if hasFailed { return sendOneByOne(operations, arena, &outcomes) }
        let indices = Array(operations.indices)
        var writer = PeerWriter(operations, interface: interface, secrets: arena)
        while !writer.isDone {
            let before = writer
            do throws(NetlinkError) {
                try channel.request(family) { writer.fill(&$0) }
            } catch {
                for index in indices where before.isSent(index) { outcomes[index] = .done }
                hasFailed = true
                break
            }
        }
        if hasFailed { return sendOneByOne(operations, arena, &outcomes) }
    }

    /// Additions and changes one by one, each whole before the next; then removals, unless something failed: a prefix
    /// that was to move from a removed peer would be at neither.
    private func sendOneByOne(_ operations: [PeerOperation], _ arena: SecretArena?, _ outcomes: inout [Outcome?]) {
        var stop: DataplaneError?
        for index in operations.indices where outcomes[index] == nil && operations[index].action != .remove {
            outcomes[index] = send(operations[index], arena, &stop)
        }
        let hasFailed = outcomes.contains { $0?.isFailure ?? false }
        for index in operations.indices where outcomes[index] == nil {
            outcomes[index] =
                hasFailed
                ? .skipped("a peer before it failed, and its allowed IPs may have been meant to move")
                : send(operations[index], arena, &stop)
        }
    }

    private func send(_ operation: PeerOperation, _ arena: SecretArena?, _ stop: inout DataplaneError?) -> Outcome {
        let request = Request(.setPeers, "\(operation.action) peer \(operation.publicKey.short) dev \(name)")
        if var error = stop {
            error.operation = request.text
            return .failed(error)
        }
        var writer = PeerWriter([operation], interface: interface, secrets: arena)
        while !writer.isDone {
            do throws(NetlinkError) {
                try channel.request(family) { writer.fill(&$0) }
            } catch {
                let failure = DataplaneError(error, request)
                // What concerns the whole device will not go better for the next peer.
                if failure.code == .notPermitted || failure.code == .gone { stop = failure }
                return .failed(failure)
            }
        }
        return .done
    }

    private static func missingKey(_ what: String) -> DataplaneError {
        DataplaneError(.key, "the \(what) has changed since the plan was made; plan again")
    }
}

/// Takes the answer to CTRL_CMD_GETFAMILY.
private struct FamilyReading: MessageConsumer {
    var family: UInt16?

    mutating func reset() { family = nil }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(GENL_ID_CTRL) else { return true }
        var attributes = Attributes(message.payload, from: MemoryLayout<genlmsghdr>.size)
        while attributes.next() {
            if Int(attributes.type) == CTRL_ATTR_FAMILY_ID { family = attributes.uint16() }
        }
        return !attributes.isMalformed
    }
}
