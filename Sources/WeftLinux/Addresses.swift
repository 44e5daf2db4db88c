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
    ///
    /// - Parameter wanted: ours, whoever made them: an address that was taken away by hand and put back has lost our mark, and
    ///   ours cannot stand beside it.
    func read(wanted: Set<InterfaceAddress.Key> = []) throws(DataplaneError) -> AddressReading {
        var reading = AddressReading(link: link, features: features, wanted: wanted)
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
                case .replace(let old, let new, _):
                    live = nil
                    let ours = try read(wanted: [new.key]).ours
                    // An address that has gone, or become another one, in the meantime: the next pass sees what it is.
                    guard ours.contains(old) else { return ours.contains(new) ? .already : try add(new) }
                    if old.alteration == .lifetime { return try add(new, over: true) }
                    _ = try remove(old)
                    return try add(new)
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

    /// - Parameter over: onto one of ours that is there, which gets its lifetime back.
    private func add(_ address: InterfaceAddress, over: Bool = false) throws(DataplaneError) -> Outcome {
        do throws(NetlinkError) {
            let how = over ? NLM_F_REPLACE : NLM_F_CREATE | NLM_F_EXCL
            try channel.request(UInt16(RTM_NEWADDR), flags: how) { encoder in
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
        var other = address.address
        if case .attributes(let peer?) = address.alteration { other = peer }
        encoder.attribute(UInt16(IFA_ADDRESS), other)
    }

    private func request(_ kind: Request.Kind, _ verb: String, _ address: InterfaceAddress) -> Request {
        Request(kind, "\(verb) address \(address.address)/\(address.length) dev \(link.name)")
    }
}

/// Takes the answer to RTM_GETADDR for one interface.
struct AddressReading: MessageConsumer {
    let link: LiveLink
    let features: KernelFeatures
    private let wanted: Set<InterfaceAddress.Key>
    var ours: [InterfaceAddress] = []
    /// Made neither by us nor by the kernel; with its address protocol.
    var others: [InterfaceAddress] = []

    init(link: LiveLink, features: KernelFeatures, wanted: Set<InterfaceAddress.Key>) {
        self.link = link
        self.wanted = wanted
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
            let scope = message.payload.load(at: 3, as: UInt8.self),
            let index = message.payload.load(at: 4, as: UInt32.self)
        else { return false }
        guard index == link.index, let family = IPAddress.Family(number: number) else { return true }
        var local: IPAddress?
        var other: IPAddress?
        var proto: UInt8?
        var hasEnd = false
        // IPv6 has the scope that the address itself says.
        var isAltered = family == .v4 && scope != UInt8(RT_SCOPE_UNIVERSE.rawValue)
        var attributes = Attributes(message.payload, from: MemoryLayout<ifaddrmsg>.size)
        while attributes.next() {
            switch Int(attributes.type) {
            case IFA_LOCAL: local = attributes.address(family)
            case IFA_ADDRESS: other = attributes.address(family)
            case IFA_PROTO: proto = attributes.uint8()
            // struct ifa_cacheinfo: the seconds for which it is preferred, and valid.
            case IFA_CACHEINFO:
                if attributes.uint32() != .max || attributes.load(at: 4, as: UInt32.self) != .max { hasEnd = true }
            case IFA_LABEL: if attributes.text() != link.name { isAltered = true }
            case IFA_BROADCAST: isAltered = true
            case IFA_RT_PRIORITY: if attributes.uint32() != 0 { isAltered = true }
            case IFA_FLAGS:
                let given = UInt32(IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE)
                let flags = attributes.uint32()
                if flags & given != 0 { isAltered = true }
                // Of an IPv4 address that stays for ever and is no source any more, the seconds say nothing.
                if flags & UInt32(IFA_F_DEPRECATED) != 0 { hasEnd = true }
            default: break
            }
        }
        // IPv6 has IFA_LOCAL for point-to-point addresses only.
        guard !attributes.isMalformed, let address = local ?? other else { return false }
        var found = InterfaceAddress(address, length: length)
        let peer = other == address ? nil : other
        if isAltered || peer != nil {
            found.alteration = .attributes(peer: peer)
        } else if hasEnd {
            found.alteration = .lifetime
        }
        if isOurs(proto) || wanted.contains(found.key) {
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
        self.init(
            kind: "address", description: "\(address.address)/\(address.length) dev \(interface)", relation: .onLink)
    }
}
