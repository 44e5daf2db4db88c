// Where other programs' chains are hooked in, and whether their tables are awake.

import CLinux
import Glibc
import Netlink
import WeftModel

/// Where packets pass by: of all interfaces, and of single ones before and after that.
enum NeighbourHook: String, Hashable {
    case prerouting, input, forward, output, postrouting
    case ingress, egress

    /// NF_INET_* or NF_NETDEV_*; nil for one that is not known.
    init?(number: UInt32, family: UInt8) {
        let isDevices = family == UInt8(NFPROTO_NETDEV)
        if number == (isDevices ? NF_NETDEV_INGRESS.rawValue : NF_INET_INGRESS.rawValue) {
            self = .ingress
        } else if isDevices {
            guard number == NF_NETDEV_EGRESS.rawValue else { return nil }
            self = .egress
        } else {
            guard let hook = FirewallChain.Base.Hook(number: number) else { return nil }
            self.init(rawValue: hook.rawValue)
        }
    }
}

/// How a base chain is hooked in.
struct NeighbourBase: Hashable {
    var kind: FirewallChain.Base.Kind
    var hook: NeighbourHook
    var priority: Int32
    var dropsByDefault: Bool
    /// Of `ingress` and `egress`: the interfaces that it is for.
    var devices: [String] = []

    /// Whether it is for an interface of this kind.
    ///
    /// - Parameter interface: the mesh's.
    func isFor(_ kind: NeighbourPacket.Interface, _ interface: String) -> Bool {
        switch kind {
        case .none: false
        case .ours: devices.contains(interface)
        case .other: !others(than: interface).isEmpty
        }
    }

    /// Those that may carry the tunnel's own packets, or what is passed on.
    func others(than interface: String) -> [String] { devices.filter { $0 != interface && $0 != "lo" } }
}

/// A chain of another program's.
struct NeighbourChain: Hashable {
    /// NFPROTO_*
    var family: UInt8
    var table: String
    var name: String
    var base: NeighbourBase?
}

/// Takes the chains of all tables, of all families that carry IP.
struct NeighbourChainReading: MessageConsumer {
    private(set) var chains: [NeighbourChain] = []

    mutating func reset() { chains = [] }

    private struct Place {
        var number: UInt32 = 0
        var priority: Int32 = 0
        var devices: [String] = []
    }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(nfTables: NFT_MSG_NEWCHAIN) else { return true }
        guard let family = message.payload.load(at: 0, as: UInt8.self) else { return false }
        let families = [NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_NETDEV]
        guard families.contains(where: { UInt8($0) == family }) else { return true }
        var chain = NeighbourChain(family: family, table: "", name: "")
        var policy = UInt32(bitPattern: NF_ACCEPT)
        var type = ""
        var place: Place?
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            switch nft_chain_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_CHAIN_TABLE: chain.table = String(kernelText: attributes.payload)
            case NFTA_CHAIN_NAME: chain.name = String(kernelText: attributes.payload)
            case NFTA_CHAIN_POLICY: policy = attributes.number()
            case NFTA_CHAIN_TYPE: type = String(kernelText: attributes.payload)
            case NFTA_CHAIN_HOOK:
                var nested = attributes.nested()
                place = Self.place(&nested)
                attributes.check(nested)
            default: break
            }
        }
        if let place, let kind = FirewallChain.Base.Kind(rawValue: type),
            let hook = NeighbourHook(number: place.number, family: family)
        {
            chain.base = NeighbourBase(
                kind: kind, hook: hook, priority: place.priority,
                dropsByDefault: policy == UInt32(bitPattern: NF_DROP), devices: place.devices)
        }
        chains.append(chain)
        return !attributes.isMalformed
    }

    private static func place(_ attributes: inout Attributes) -> Place {
        var place = Place()
        while attributes.next() {
            switch nft_hook_attributes(rawValue: UInt32(attributes.type)) {
            case NFTA_HOOK_HOOKNUM: place.number = attributes.number()
            case NFTA_HOOK_PRIORITY: place.priority = Int32(bitPattern: attributes.number())
            // A single one is told twice.
            case NFTA_HOOK_DEVS:
                var devices = attributes.nested()
                while devices.next() {
                    if devices.type == UInt16(NFTA_DEVICE_NAME) { place.devices.append(devices.text()) }
                }
                attributes.check(devices)
            default: break
            }
        }
        return place
    }
}

/// Takes one table's flags.
struct NeighbourTableReading: MessageConsumer {
    private(set) var isDormant = false

    mutating func reset() { isDormant = false }

    mutating func take(_ message: Message) -> Bool {
        var attributes = Attributes(message.payload, from: MemoryLayout<nfgenmsg>.size)
        while attributes.next() {
            if attributes.type == UInt16(NFTA_TABLE_FLAGS) {
                isDormant = attributes.number() & NFT_TABLE_F_DORMANT.rawValue != 0
            }
        }
        return !attributes.isMalformed
    }
}
