// A WireGuard peer: configuration here, statistics apart.
// Public where it must be inlined in other modules: package declarations are not, in Swift 6.3. Documented as if package.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// A peer's preshared key, as far as a diff may know it.
@frozen
public enum PresharedKey: Hashable, Sendable {
    case none
    /// The tag of the 32 bytes.
    case tag(SecretTag)
    /// Somebody else's business (Rosenpass and the like): neither read nor written.
    case external

    @inlinable
    public static func == (left: Self, right: Self) -> Bool {
        switch (left, right) {
        case (.tag(let left), .tag(let right)): left == right
        case (.none, .none), (.external, .external): true
        case (.none, _), (.tag, _), (.external, _): false
        }
    }
}

/// A peer of a WireGuard interface. Key: its public key.
@frozen
public struct Peer: ConfiguredObject, Hashable {
    public var publicKey: PublicKey
    public var presharedKey: PresharedKey
    /// In seconds; 0: off.
    public var persistentKeepalive: UInt16
    public var allowedIPs: PrefixList
    /// Desired: where to dial first, nil where the peer dials. Live: where it was last heard from. Stands outside
    /// `isSatisfied`, because peers roam: see `EndpointPolicy`.
    public var endpoint: SocketAddress?

    @inlinable
    public init(
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

    @inlinable public var key: PublicKey { publicKey }

    @inlinable
    public func isSatisfied(by live: Peer) -> Bool {
        Self.agree((persistentKeepalive, live.persistentKeepalive), (presharedKey, live.presharedKey))
            && allowedIPs == live.allowedIPs
    }

    @inlinable
    public static func isSatisfied(
        _ desired: Span<Peer>, at index: Int, by live: Span<Peer>, at liveIndex: Int
    ) -> Bool {
        agree(
            (desired[index].persistentKeepalive, live[liveIndex].persistentKeepalive),
            (desired[index].presharedKey, live[liveIndex].presharedKey))
            && PrefixList.agree(desired, at: index, live, at: liveIndex)
    }

    /// What "same configuration" means for a peer, besides its allowed IPs: each pair is what is wanted and what is live.
    @inlinable @inline(__always)
    static func agree(_ keepalive: (UInt16, UInt16), _ secret: (PresharedKey, PresharedKey)) -> Bool {
        keepalive.0 == keepalive.1 && (secret.0 == secret.1 || secret.0 == .external)
    }
}

/// What a peer has done, beside what it is.
@frozen
public struct PeerStatistics: Hashable, Sendable {
    /// Nil: never.
    public var lastHandshake: UnixTime?
    public var receivedBytes: UInt64
    public var sentBytes: UInt64

    @inlinable
    public init(lastHandshake: UnixTime? = nil, receivedBytes: UInt64 = 0, sentBytes: UInt64 = 0) {
        self.lastHandshake = lastHandshake
        self.receivedBytes = receivedBytes
        self.sentBytes = sentBytes
    }

    /// From here on a handshake should have been renewed (REKEY_AFTER_TIME + REKEY_ATTEMPT margin), in seconds.
    public static let staleAfter: Int64 = 135
    /// From here on the session's keys are dead (REJECT_AFTER_TIME), in seconds.
    public static let deadAfter: Int64 = 180
}
