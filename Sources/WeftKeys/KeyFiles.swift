// A host's keys as files: their tags for a plan, and their bytes for an apply, with nothing kept in between.

internal import CSodium
package import WeftModel

/// A host's own key, as far as a plan may know it.
package struct OwnKey: Hashable, Sendable {
    /// The tag of the clamped private key, which is how devices read it back.
    package var tag: SecretTag
    package var publicKey: PublicKey

    package init(tag: SecretTag, publicKey: PublicKey) {
        self.tag = tag
        self.publicKey = publicKey
    }

    /// Whether what is written as somebody's public key is this private key, clamped or not.
    package func isWritten(as key: PublicKey) -> Bool {
        var bytes = key.bytes
        bytes[0] &= 248
        bytes[31] = bytes[31] & 127 | 64
        return SecretTagger.tag(bytes.span) == tag
    }
}

/// Where a host's keys are. Nothing but paths is kept: every call reads the files anew, and forgets them.
package struct KeyFiles: Hashable, Sendable {
    package static let defaultPrivateKey = "/etc/weft/private.key"
    package static let defaultPresharedKeys = "/etc/weft/preshared-keys"

    package var privateKey: String
    /// Holds one file for each peer, by the peer's node name.
    package var presharedKeys: String

    package init(
        privateKey: String = KeyFiles.defaultPrivateKey, presharedKeys: String = KeyFiles.defaultPresharedKeys
    ) {
        self.privateKey = privateKey
        self.presharedKeys = presharedKeys
    }

    /// Reads the private key for its tag and its public key.
    package func ownKey() throws(KeyError) -> OwnKey {
        try KeyReader().withKey(at: privateKey, for: .privateKey) { key throws(KeyError) in
            OwnKey(tag: SecretTagger.tag(key), publicKey: derivePublicKey(from: key))
        }
    }

    /// Reads the preshared keys shared with these nodes. Each that cannot be read is an error of its own.
    package func presharedTags(of nodes: [String]) -> (tags: [String: SecretTag], errors: [KeyError]) {
        var tags: [String: SecretTag] = [:]
        var errors: [KeyError] = []
        if nodes.isEmpty { return (tags, errors) }
        tags.reserveCapacity(nodes.count)
        let reader = KeyReader()
        for node in nodes {
            do throws(KeyError) {
                tags[node] = try reader.withKey(at: path(of: node), for: .presharedKey) { key in
                    SecretTagger.tag(key)
                }
            } catch {
                errors.append(error)
            }
        }
        return (tags, errors)
    }

    /// Reads the keys again, for an apply, and refuses one that is not what the plan was made with.
    ///
    /// - Parameters:
    ///   - own: as `ownKey()` gave it; nil leaves the private key out.
    ///   - preshared: as `presharedTags(of:)` gave them.
    ///   - leavesOut: which of these may be lacking: operations that need none of them are done all the same.
    package func arena(
        own: OwnKey?, preshared: [String: SecretTag] = [:], leavesOut: (KeyError) -> Bool = { _ in false }
    ) throws(KeyError) -> SecretArena {
        let arena = SecretArena(capacity: preshared.count + 1)
        let reader = KeyReader()
        if let own {
            try reader.withKey(at: privateKey, for: .privateKey) { key throws(KeyError) in
                guard arena.insert(key) == own.tag else { throw changed(privateKey) }
            }
        }
        for (node, tag) in preshared {
            let path = try path(of: node)
            do throws(KeyError) {
                try reader.withKey(at: path, for: .presharedKey) { key throws(KeyError) in
                    guard arena.insert(key) == tag else { throw changed(path) }
                }
            } catch {
                if !leavesOut(error) { throw error }
            }
        }
        return arena
    }

    /// The file of the key shared with a node.
    package func path(of node: String) throws(KeyError) -> String {
        // Names come from a topology that was validated; a path must not depend on that.
        guard !node.isEmpty, !node.utf8.contains(UInt8(ascii: "/")), !node.utf8.contains(0), node != ".", node != ".."
        else { throw KeyError(.missing, at: presharedKeys, "\"\(node)\" cannot be the name of a file") }
        return "\(presharedKeys)/\(node)"
    }

    private func changed(_ path: String) -> KeyError {
        KeyError(.changed, at: path, "this key has changed since the plan was made", remedy: "plan again")
    }
}

/// The public key of a private key of 32 bytes.
func derivePublicKey(from key: Span<UInt8>) -> PublicKey {
    Sodium.start()
    var bytes = [UInt8](repeating: 0, count: SecretArena.secretSize)
    unsafe bytes.withUnsafeMutableBufferPointer { output in
        unsafe key.withUnsafeBufferPointer { input in
            guard let output = output.baseAddress, let input = input.baseAddress else { return }
            // Its result is always 0: see the library's source, crypto_scalarmult_curve25519_ref10_base.
            _ = unsafe crypto_scalarmult_base(output, input)
        }
    }
    guard let key = PublicKey(bytes: bytes.span) else { preconditionFailure("a public key has 32 bytes") }
    return key
}
