// The interface itself, and the WireGuard device in it.

/// What implements WireGuard for an interface.
package enum DeviceKind: Hashable, Sendable {
    /// The kernel's own module.
    case kernel
    /// A user-space program (`wireguard-go`, `boringtun-cli`) behind a tun device.
    case userspace

    package var description: String { self == .kernel ? "kernel" : "userspace" }
}

/// A network interface that carries the mesh. Key: its name.
package struct Link: ConfiguredObject, Hashable {
    package var name: String
    /// In bytes.
    package var mtu: UInt32
    /// Of a desired state: whether the MTU is only what a link gets that is made now, because no path to the peers is known. A
    /// link that is there keeps its own: the host's network may be away for a moment.
    package var isMTUAssumed: Bool
    package var isUp: Bool
    /// `weft:<mesh>`: the mark by which a later process knows this link for its own.
    package var alias: String

    package init(name: String, mtu: UInt32, isMTUAssumed: Bool = false, isUp: Bool = true, alias: String) {
        self.name = name
        self.mtu = mtu
        self.isMTUAssumed = isMTUAssumed
        self.isUp = isUp
        self.alias = alias
    }

    package var key: String { name }
    package func isSatisfied(by live: Link) -> Bool {
        (mtu == live.mtu || isMTUAssumed) && isUp == live.isUp && alias == live.alias
    }

    /// The alias of a link that belongs to `mesh`.
    package static func alias(mesh: String) -> String { "weft:\(mesh)" }
}

/// What a WireGuard interface has besides its peers. Key: none, there is one of it.
package struct Device: ConfiguredObject, Hashable {
    /// Nil while the device has no key.
    package var privateKey: SecretTag?
    /// The public key that belongs to it; nil while the device has no key.
    package var publicKey: PublicKey?
    /// Nil in a desired state: the kernel chooses, and its choice is not drift.
    package var listenPort: UInt16?
    /// 0: none.
    package var fwMark: UInt32

    package init(privateKey: SecretTag?, publicKey: PublicKey?, listenPort: UInt16?, fwMark: UInt32 = 0) {
        self.privateKey = privateKey
        self.publicKey = publicKey
        self.listenPort = listenPort
        self.fwMark = fwMark
    }

    package var key: Int { 0 }

    package func isSatisfied(by live: Device) -> Bool {
        hasKey(of: live) && fwMark == live.fwMark && (listenPort == nil || listenPort == live.listenPort)
    }

    /// Whether both have the same private key. Some devices (boringtun) tell the public key only, which decides then.
    package func hasKey(of live: Device) -> Bool {
        if live.privateKey == nil, let publicKey = live.publicKey { return publicKey == self.publicKey }
        return privateKey == live.privateKey
    }
}
