// A WireGuard peer: configuration here, statistics apart.

/// A peer's preshared key, as far as a diff may know it.
package enum PresharedKey: Hashable, Sendable {
    case none
    /// The tag of the 32 bytes.
    case tag(SecretTag)
    /// Somebody else's business (Rosenpass and the like): neither read nor written.
    case external
}

/// A peer of a WireGuard interface. Key: its public key.
package struct Peer: ConfiguredObject, Hashable {
    package var publicKey: PublicKey
    package var presharedKey: PresharedKey
    /// In seconds; 0: off.
    package var persistentKeepalive: UInt16
    package var allowedIPs: PrefixList
    /// Desired: where to dial first, nil where the peer dials. Live: where it was last heard from. Stands outside
    /// `isSatisfied`, because peers roam: see `EndpointPolicy`.
    package var endpoint: SocketAddress?

    @inlinable
    package init(
        publicKey: PublicKey,
        presharedKey: PresharedKey = .none,
        persistentKeepalive: UInt16 = 0,
        allowedIPs: PrefixList = [],
        endpoint: SocketAddress? = nil
    ) {
        self.publicKey = publicKey
        self.presharedKey = presharedKey
        self.persistentKeepalive = persistentKeepalive
        self.allowedIPs = allowedIPs
        self.endpoint = endpoint
    }

    @inlinable package var key: PublicKey { publicKey }

    @inlinable
    package func isSatisfied(by live: Peer) -> Bool {
        persistentKeepalive == live.persistentKeepalive
            && (presharedKey == live.presharedKey || presharedKey == .external) && allowedIPs == live.allowedIPs
    }
}

/// What a peer has done, beside what it is.
package struct PeerStatistics: Hashable, Sendable {
    /// Nil: never.
    package var lastHandshake: UnixTime?
    package var receivedBytes: UInt64
    package var sentBytes: UInt64

    @inlinable
    package init(lastHandshake: UnixTime? = nil, receivedBytes: UInt64 = 0, sentBytes: UInt64 = 0) {
        self.lastHandshake = lastHandshake
        self.receivedBytes = receivedBytes
        self.sentBytes = sentBytes
    }

    /// From here on a handshake should have been renewed (REKEY_AFTER_TIME + REKEY_ATTEMPT margin), in seconds.
    package static let staleAfter: Int64 = 135
    /// From here on the session's keys are dead (REJECT_AFTER_TIME), in seconds.
    package static let deadAfter: Int64 = 180
}
