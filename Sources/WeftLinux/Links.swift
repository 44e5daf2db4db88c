// Links: found by name, known by kind and alias, made under a reserved name, removed without their peers.

import CLinux
import Glibc
import Netlink
import WeftModel
import WeftPlan

/// A link as the kernel tells of it.
struct LiveLink: Hashable {
    var index: UInt32 = 0
    var name = ""
    var mtu: UInt32 = 0
    var isUp = false
    /// Nil where it has none.
    var alias: String?
    /// `wireguard`, `tun`, `veth` …; empty for hardware.
    var kind = ""

    static let kernelKind = WG_GENL_NAME
    static let userspaceKind = "tun"
}

/// Who a link belongs to, from one mesh's point of view.
enum LinkOwner: Hashable {
    case nobody
    case ours(LiveLink, DeviceKind)
    case other(LiveLink)
}

/// Requests about links.
struct Links {
    let channel: Channel

    /// The link of that name or alternative name, nil where there is none.
    func find(_ name: String) throws(DataplaneError) -> LiveLink? {
        try find(Request(.readLink, "read link \(name)")) { encoder in
            encoder.putLinkHeader()
            encoder.attribute(UInt16(IFLA_IFNAME), name)
        }
    }

    /// The name of a link, `if7` where it has gone.
    func name(of index: UInt32) -> String {
        let link = try? find(Request(.readLink, "read link \(index)")) { $0.putLinkHeader(index: index) }
        return link?.name ?? "if\(index)"
    }

    private func find(_ request: Request, _ body: (inout Encoder) -> Void) throws(DataplaneError) -> LiveLink? {
        var reading = LinkReading()
        do throws(NetlinkError) {
            try channel.get(UInt16(RTM_GETLINK), into: &reading, body)
        } catch {
            if error.errno?.rawValue == ENODEV { return nil }
            throw DataplaneError(error, request)
        }
        return reading.link
    }

    /// Who the link of the mesh's name belongs to.
    func owner(of mesh: MeshIdentity, _ userspace: any UserspaceDevices) throws(DataplaneError) -> LinkOwner {
        guard let link = try find(mesh.interface) else { return .nobody }
        if link.name == mesh.interface {
            if link.kind == LiveLink.kernelKind, link.alias == mesh.alias { return .ours(link, .kernel) }
            if link.kind == LiveLink.userspaceKind, userspace.isOurs(interface: mesh.interface) {
                // Its program tells whose it is: also where its alias is not set yet, or somebody has changed it.
                let mark = link.alias.flatMap { $0.hasPrefix(Link.alias(mesh: "")) ? $0 : nil } ?? mesh.alias
                if mark == mesh.alias { return .ours(link, .userspace) }
            }
        }
        return .other(link)
    }

    /// Makes a WireGuard link under the reserved name. A link made with its final name would for a moment be one that
    /// nobody knows for ours, because the kernel ignores an alias in the message that creates.
    ///
    /// - Returns: false where the kernel has no WireGuard.
    func createReserved(_ mesh: MeshIdentity, mtu: UInt32) throws(DataplaneError) -> Bool {
        do throws(NetlinkError) {
            try channel.request(UInt16(RTM_NEWLINK), flags: NLM_F_CREATE | NLM_F_EXCL) { encoder in
                encoder.putLinkHeader()
                encoder.attribute(UInt16(IFLA_IFNAME), mesh.reservedName)
                encoder.attribute(UInt16(IFLA_MTU), mtu)
                encoder.nest(UInt16(IFLA_LINKINFO)) { $0.attribute(UInt16(IFLA_INFO_KIND), LiveLink.kernelKind) }
            }
        } catch {
            if case .refused(let errno, _) = error, Self.meansNoKernelWireGuard(errno) { return false }
            throw DataplaneError(error, Request(.createLink, "create link \(mesh.interface)"))
        }
        return true
    }

    /// The answers of kernels that have no link kind `wireguard`.
    private static func meansNoKernelWireGuard(_ errno: Errno) -> Bool {
        [EOPNOTSUPP, ENODEV, EAFNOSUPPORT, EPROTONOSUPPORT].contains(errno.rawValue)
    }

    /// Sets alias and name in one message, so that there is no moment with the one and without the other.
    func christen(index: UInt32, _ mesh: MeshIdentity) throws(DataplaneError) {
        try change(index, Request(.nameLink, "name link \(mesh.interface)")) { encoder in
            encoder.putLinkHeader(index: index)
            encoder.attribute(UInt16(IFLA_IFNAME), mesh.interface)
            encoder.attribute(UInt16(IFLA_IFALIAS), mesh.alias)
        }
    }

    /// Sets what a user-space device lacks; its name is final from the start.
    func mark(index: UInt32, mtu: UInt32, _ mesh: MeshIdentity) throws(DataplaneError) {
        try change(index, Request(.nameLink, "mark link \(mesh.interface)")) { encoder in
            encoder.putLinkHeader(index: index)
            encoder.attribute(UInt16(IFLA_MTU), mtu)
            encoder.attribute(UInt16(IFLA_IFALIAS), mesh.alias)
        }
    }

    func setAlias(_ link: LiveLink, _ mesh: MeshIdentity) throws(DataplaneError) {
        try change(link.index, Request(.nameLink, "mark link \(link.name)")) { encoder in
            encoder.putLinkHeader(index: link.index)
            encoder.attribute(UInt16(IFLA_IFALIAS), mesh.alias)
        }
    }

    func setMTU(_ link: LiveLink, _ mtu: UInt32) throws(DataplaneError) {
        try change(link.index, Request(.resizeLink, "set mtu \(mtu) dev \(link.name)")) { encoder in
            encoder.putLinkHeader(index: link.index)
            encoder.attribute(UInt16(IFLA_MTU), mtu)
        }
    }

    func setUp(_ link: LiveLink) throws(DataplaneError) {
        let up = interfaceFlag(IFF_UP)
        try change(link.index, Request(.raiseLink, "bring up \(link.name)")) { encoder in
            encoder.putLinkHeader(index: link.index, flags: up, change: up)
        }
    }

    private func change(
        _ index: UInt32, _ request: Request, _ body: (inout Encoder) -> Void
    ) throws(DataplaneError) {
        do throws(NetlinkError) {
            try channel.request(UInt16(RTM_NEWLINK), body)
        } catch {
            throw DataplaneError(error, request)
        }
    }

    /// - Returns: false where it had gone already.
    @discardableResult
    func delete(_ link: LiveLink) throws(DataplaneError) -> Bool {
        do throws(NetlinkError) {
            try channel.request(UInt16(RTM_DELLINK)) { $0.putLinkHeader(index: link.index) }
        } catch {
            if error.errno?.rawValue == ENODEV { return false }
            throw DataplaneError(error, Request(.removeLink, "remove link \(link.name)"))
        }
        return true
    }
}

extension ForeignObject {
    /// A link that has our name and is not ours.
    ///
    /// - Parameter hasLostMark: whether weft's own routes lead out of it.
    init(blocking link: LiveLink, for mesh: MeshIdentity, hasLostMark: Bool = false) {
        let name = mesh.interface
        let description: String
        var remedy = "Remove or rename it, or give the mesh another `interface` name."
        if link.name != name {
            description = "\(link.name) has the alternative name \(name)"
            remedy =
                "Take the alternative name away (`ip link property del dev \(link.name) altname \(name)`), or give the "
                + "mesh another `interface` name."
        } else if let alias = link.alias, alias == mesh.alias {
            description =
                "\(name) (\(link.kind)) carries the mark \(alias), and is not on record as started by weft here"
            remedy = "If it is left from a weft whose state folder was lost, remove it with `ip link delete \(name)`."
        } else if let alias = link.alias, alias.hasPrefix(Link.alias(mesh: "")) {
            description = "\(name) belongs to the mesh \(alias.dropFirst(Link.alias(mesh: "").count))"
            remedy =
                "Give one of the two meshes another `interface` name. If this is the same mesh under its old name, take "
                + "that down first: `weft down --interface \(name)`."
        } else if hasLostMark, link.kind == LiveLink.kernelKind || link.kind == LiveLink.userspaceKind {
            description = "\(name) carries weft's routes, and has lost the mark by which weft knows it"
            remedy =
                "Somebody changed its alias, which was \(mesh.alias) if it is this mesh's. Give it back: "
                + "`ip link set dev \(name) alias \(mesh.alias)`."
        } else if link.kind == LiveLink.kernelKind {
            description = "\(name) is a WireGuard interface that weft did not make"
            remedy =
                "If it is wg-quick's, take it down with `wg-quick down \(name)`; else remove it with "
                + "`ip link delete \(name)`, or give the mesh another `interface` name."
        } else {
            description = "\(name) is an interface of kind \(link.kind.isEmpty ? "(hardware)" : link.kind)"
        }
        if !hasLostMark, link.name == name, let alias = link.alias, !alias.hasPrefix(Link.alias(mesh: "")),
            [LiveLink.kernelKind, LiveLink.userspaceKind].contains(link.kind)
        {
            // Weft knows its own by that.
            remedy +=
                " If it is weft's and somebody has set its alias (\"\(alias)\") since, `ip link set dev \(name) alias "
                + "\(mesh.alias)` puts that right."
        }
        self.init(
            kind: "interface", description: description, relation: .blocksLink, remedy: remedy,
            bearsMark: link.name == name && link.alias?.hasPrefix(Link.alias(mesh: "")) == true)
    }
}

/// Takes the answer to RTM_GETLINK.
struct LinkReading: MessageConsumer {
    var link: LiveLink?

    mutating func reset() { link = nil }

    mutating func take(_ message: Message) -> Bool {
        guard message.type == UInt16(RTM_NEWLINK) else { return true }
        guard let index = message.payload.load(at: 4, as: UInt32.self),
            let flags = message.payload.load(at: 8, as: UInt32.self)
        else { return false }
        var link = LiveLink(index: index, isUp: flags & interfaceFlag(IFF_UP) != 0)
        var attributes = Attributes(message.payload, from: MemoryLayout<ifinfomsg>.size)
        while attributes.next() {
            switch Int(attributes.type) {
            case IFLA_IFNAME: link.name = attributes.text()
            case IFLA_MTU: link.mtu = attributes.uint32()
            case IFLA_IFALIAS: link.alias = attributes.text()
            case IFLA_LINKINFO:
                var info = attributes.nested()
                while info.next() {
                    if Int(info.type) == IFLA_INFO_KIND { link.kind = info.text() }
                }
                attributes.check(info)
            default: break
            }
        }
        self.link = link
        return !attributes.isMalformed
    }
}
