// What a host must remember between two runs, and cannot read back from the kernel.

package import WeftModel

/// The endpoint last applied for a peer.
package struct AppliedEndpoint: Hashable, Sendable {
    /// As the topology has it, where that is a name: `fra.example.net:51820`. Nil where it is the address itself: then a
    /// pass over ten thousand peers makes no text, and counts no references to any.
    package let name: String?
    package let address: SocketAddress

    package init(written: String, address: SocketAddress) {
        name = written == address.description ? nil : written
        self.address = address
    }

    /// As the topology has it: `fra.example.net:51820`, `192.0.2.1:51820`.
    package var written: String { name ?? address.description }
    /// Whether `written` is the address itself.
    package var isLiteral: Bool { name == nil }
}

/// What is remembered of one mesh, in one network namespace. Losing it loses no safety.
package struct MeshMemory: Hashable, Sendable {
    package var endpoints: [PublicKey: AppliedEndpoint]

    package init(endpoints: [PublicKey: AppliedEndpoint] = [:]) {
        self.endpoints = endpoints
    }
}

/// What is remembered of sysctls, which all meshes of a network namespace share. Void after a reboot.
package struct SysctlMemory: Hashable, Sendable {
    package struct Original: Hashable, Sendable {
        /// The value before the first claim.
        package var value: String
        /// The value that was written then.
        package var written: String

        package init(value: String, written: String) {
            self.value = value
            self.written = written
        }
    }

    /// By path.
    package var originals: [String: Original]
    /// Paths, by interface.
    package var claims: [String: Set<String>]

    package init(originals: [String: Original] = [:], claims: [String: Set<String>] = [:]) {
        self.originals = originals
        self.claims = claims
    }
}
