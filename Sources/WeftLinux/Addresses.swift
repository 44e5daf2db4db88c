// Addresses of the mesh's interface: ours carry address protocol 119, where the kernel has that.

import CLinux
import Glibc
import Netlink
import WeftModel
import WeftPlan

/// Requests about addresses of one interface.
struct Addresses {
    let channel: Channel
    let link: LiveLink
    let features: KernelFeatures

    /// Reads the interface's addresses: ours, and those that stand beside them.
    func read() throws(DataplaneError) -> AddressReading {
        var reading = AddressReading(index: link.index, features: features)
        do throws(NetlinkError) {
            try channel.dump(UInt16(RTM_GETADDR), into: &reading) { encoder in
                encoder.putAddressHeader(
                    family: UInt8(AF_UNSPEC), length: 0, flags: 0, scope: 0, index: link.index)
            }
        } catch {
            // With strict checking the kernel says so when the interface has gone.
            throw DataplaneError(error, Request(.readAddresses, "read addresses dev \(link.name)"))
        }
        return reading
    }

    func perform(_ operations: [AddressOperation]) -> [Outcome] {
        var live: AddressReading?
        return operations.map { operation in
            do throws(DataplaneError) {
                switch operation {
                case .add(let address, _): return try add(address)
                case .remove(let address, _):
                    // The kernel removes an address whoever made it: only what is read to be ours is asked for.
                    if live == nil { live = try read() }
                    guard live?.ours.contains(address) ?? false else { return .already }
                    return try remove(address)
                }
            } catch {
                return .failed(error)
            }
        }
    }

    private func add(_ address: InterfaceAddress) throws(DataplaneError) -> Outcome {
        do throws(NetlinkError) {
            try channel.request(UInt16(RTM_NEWADDR), flags: NLM_F_CREATE | NLM_F_EXCL) { encoder in
                // Nobody else can have the address of a point-to-point tunnel: without NODAD it would be tentative for
                // a second, and no route could have it as its source.
                let flags = address.address.family == .v6 ? UInt8(IFA_F_NODAD) : 0
                put(address, flags: flags, &encoder)
                encoder.attribute(UInt16(IFA_PROTO), MeshIdentity.protocolNumber)
            }
        } catch {
            if error.errno?.rawValue == EEXIST, try read().ours.contains(address) { return .already }
            throw DataplaneError(error, request(.addAddress, "add", address))
        }
        return .done
    }

    private func remove(_ address: InterfaceAddress) throws(DataplaneError) -> Outcome {
        do throws(NetlinkError) {
            try channel.request(UInt16(RTM_DELADDR)) { put(address, flags: 0, &$0) }
        } catch {
            if let errno = error.errno?.rawValue, errno == EADDRNOTAVAIL || errno == ENODEV { return .already }
            throw DataplaneError(error, request(.removeAddress, "remove", address))
        }
        return .done
    }

    private func put(_ address: InterfaceAddress, flags: UInt8, _ encoder: inout Encoder) {
        encoder.putAddressHeader(
            family: address.address.family.number, length: address.length, flags: flags,
            scope: UInt8(RT_SCOPE_UNIVERSE.rawValue), index: link.index)
        encoder.attribute(UInt16(IFA_LOCAL), address.address)
        encoder.attribute(UInt16(IFA_ADDRESS), address.address)
    }

    private func request(_ kind: Request.Kind, _ verb: String, _ address: InterfaceAddress) -> Request {
        Request(kind, "\(verb) address \(address.address)/\(address.length) dev \(link.name)")
    }
}

/// Takes the answer to RTM_GETADDR for one interface.
struct AddressReading: MessageConsumer {
    let index: UInt32
    let features: KernelFeatures
    var ours: [InterfaceAddress] = []
    /// Made neither by us nor by the kernel; with its address protocol.
    var others: [InterfaceAddress] = []

    init(index: UInt32, features: KernelFeatures) {
        self.index = index
        self.features = features
    }

    mutating func reset() {
        ours = []
        others = []
    }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(RTM_NEWADDR) else { return true }
        guard let number = message.payload.load(at: 0, as: UInt8.self),
            let length = message.payload.load(at: 1, as: UInt8.self),
            let index = message.payload.load(at: 4, as: UInt32.self)
        else { return false }
        guard index == self.index, let family = IPAddress.Family(number: number) else { return true }
        var local: IPAddress?
        var other: IPAddress?
        var proto: UInt8?
        var attributes = Attributes(message.payload, from: MemoryLayout<ifaddrmsg>.size)
        while attributes.next() {
            switch Int(attributes.type) {
            case IFA_LOCAL: local = attributes.address(family)
            case IFA_ADDRESS: other = attributes.address(family)
            case IFA_PROTO: proto = attributes.uint8()
            default: break
            }
        }
        // IPv6 has IFA_LOCAL for point-to-point addresses only.
        guard !attributes.isMalformed, let address = local ?? other else { return false }
        let found = InterfaceAddress(address, length: length)
        if isOurs(proto) {
            ours.append(found)
        } else if !isKernels(found, proto) {
            others.append(found)
        }
        return true
    }

    private func isOurs(_ proto: UInt8?) -> Bool {
        if let proto { return proto == MeshIdentity.protocolNumber }
        // A kernel that cannot say who made an address: then the interface's owner answers for it.
        return !features.hasAddressProtocol
    }

    private func isKernels(_ found: InterfaceAddress, _ proto: UInt8?) -> Bool {
        switch Int32(proto ?? 0) {
        case IFAPROT_KERNEL_LO, IFAPROT_KERNEL_RA, IFAPROT_KERNEL_LL: true
        default: found.address.family == .v6 && found.address.isLinkLocal && proto == nil
        }
    }
}

extension ForeignObject {
    init(address: InterfaceAddress, on interface: String) {
        self.init(kind: "address", description: "\(address.address)/\(address.length) dev \(interface)")
    }
}
