// The status of one mesh on one host, as a document: what crosses the socket, and what `weft status` prints as JSON.

package import WeftModel

/// What is live, for one mesh. Field by field in StatusFormat.md. Absent fields are unknown or not set.
package struct StatusDocument: Codable, Hashable, Sendable {
    /// Always `weft.status`.
    package var format: String
    /// 1. Raised when a field changes its meaning or goes; new fields do not raise it.
    package var version: Int
    /// When it was read: RFC 3339, UTC.
    package var time: String
    package var mesh: String
    package var interface: String
    /// This host's node name; absent where the topology could not be read.
    package var node: String?
    /// Whether the mesh's interface is there. Where it is not, all that follows is empty.
    package var present: Bool
    /// Why the interface is not there; absent where it is.
    package var absence: Absence?
    /// Whether the topology wants the mesh on this host: not where its node is disabled or has expired. Absent where that
    /// is not known.
    package var wanted: Bool?
    /// The interface that the mesh is on instead: it was renamed, by somebody or in the topology. Absent where it is not.
    package var elsewhere: String?
    /// A topology that must prove itself, or that did not; absent where there is none.
    package var trial: Trial?
    /// What is wrong with the topology, as the agent says: why what its folder holds is not in force, or cannot be compiled
    /// anew. Absent where nothing is, and without an agent.
    package var problem: String?
    /// Whether the interface is up.
    package var up: Bool
    /// `kernel` or `userspace`.
    package var deviceKind: String?
    package var publicKey: String?
    package var listenPort: UInt16?
    /// 0: none.
    package var fwMark: UInt32
    /// In bytes.
    package var mtu: UInt32?
    /// With their lengths: `10.80.0.1/32`.
    package var addresses: [String]
    /// Policy rules that lead into the mesh's own table: there are some while a full tunnel is in use.
    package var rules: [Rule]
    /// Absent where the mesh has no table in nf_tables.
    package var firewall: Firewall?
    /// The names of chains that the topology wants, and that are not there or hold no rule. Absent where there are none,
    /// where the mesh is not applied, and where the topology could not be read.
    package var missingChains: [String]?
    /// Absent where the link has no name servers of its own.
    package var resolver: Resolver?
    /// By name; those without one after them, by key.
    package var peers: [Peer]
    /// Peers that the topology has and the interface has not.
    package var missing: [MissingPeer]
    /// What the mesh's named counters have counted: each access rule's, in the order of the topology's rules, and what was
    /// refused. Those that the topology has not follow, by comment.
    package var counters: [FirewallCount]
    /// What is on the interface, or in its place, and is not Weft's.
    package var foreign: [ForeignObject]
    package var summary: Summary

    /// Why the mesh's interface is not there.
    package enum Absence: String, Codable, Sendable {
        /// No apply has come to its end.
        case notMade
        /// An apply has begun to make it, and has not come to its end.
        case halfMade
        /// What has its name does not bear the mesh's mark.
        case taken
        /// The mesh was in force.
        case gone
    }

    /// A topology on trial, or one that was taken back.
    package struct Trial: Codable, Hashable, Sendable {
        /// A digest of its files.
        package var topology: String
        /// Until when it must prove itself: RFC 3339, UTC; absent where it was taken back.
        package var until: String?
        /// Why it was taken back; absent while it is on trial.
        package var reason: String?

        package init(topology: String, until: String? = nil, reason: String? = nil) {
            self.topology = topology
            self.until = until
            self.reason = reason
        }
    }

    /// A live peer.
    package struct Peer: Codable, Hashable, Sendable {
        /// The node's name; absent where it is not known.
        package var name: String?
        package var publicKey: String
        /// Whether the topology has it; absent where the topology could not be read.
        package var inTopology: Bool?
        package var state: PeerState
        /// Where it was last heard from, or is to be dialled.
        package var endpoint: String?
        /// RFC 3339, UTC; absent where there was none.
        package var lastHandshake: String?
        /// Whole seconds, from 0.
        package var lastHandshakeSecondsAgo: Int64?
        package var receivedBytes: UInt64
        package var sentBytes: UInt64
        /// Ascending.
        package var allowedIPs: [String]
        /// In seconds; 0: off.
        package var persistentKeepalive: UInt16
        /// Never the key.
        package var presharedKey: PresharedKeyState

        package init(
            name: String?, publicKey: String, inTopology: Bool?, state: PeerState, endpoint: String?,
            lastHandshake: String?, lastHandshakeSecondsAgo: Int64?, receivedBytes: UInt64, sentBytes: UInt64,
            allowedIPs: [String], persistentKeepalive: UInt16, presharedKey: PresharedKeyState
        ) {
            self.name = name
            self.publicKey = publicKey
            self.inTopology = inTopology
            self.state = state
            self.endpoint = endpoint
            self.lastHandshake = lastHandshake
            self.lastHandshakeSecondsAgo = lastHandshakeSecondsAgo
            self.receivedBytes = receivedBytes
            self.sentBytes = sentBytes
            self.allowedIPs = allowedIPs
            self.persistentKeepalive = persistentKeepalive
            self.presharedKey = presharedKey
        }
    }

    /// Whether a peer has a preshared key.
    package enum PresharedKeyState: String, Codable, Hashable, Sendable {
        case none, set
        /// Another program's business, as the topology says: what the device has is not shown.
        case external
    }

    /// A peer that is not there.
    package struct MissingPeer: Codable, Hashable, Sendable {
        package var name: String?
        package var publicKey: String

        package init(name: String?, publicKey: String) {
            self.name = name
            self.publicKey = publicKey
        }
    }

    /// A rule of the routing policy.
    package struct Rule: Codable, Hashable, Sendable {
        /// `IPv4` or `IPv6`.
        package var family: String
        package var priority: UInt32
        /// As ip-rule(8) prints it.
        package var rule: String
    }

    /// The mesh's table in nf_tables, of family `inet`.
    package struct Firewall: Codable, Hashable, Sendable {
        /// `weft-wg0`
        package var table: String
        /// The names of its chains.
        package var chains: [String]
        /// Whether what this host sends outside of the tunnel is refused, by the rules as they are. Absent in what an older
        /// agent tells.
        package var killSwitch: Bool?
        /// Whether it is not as the topology wants it. Absent where no topology says, and in what an older agent tells.
        package var differs: Bool?
    }

    /// Name servers and search domains of the link.
    package struct Resolver: Codable, Hashable, Sendable {
        package var servers: [String]
        package var domains: [String]
        /// Whether they are asked for every name, and not for those below `domains` alone. Absent in what an older agent
        /// tells.
        package var allNames: Bool?
    }

    /// Something of another owner.
    package struct ForeignObject: Codable, Hashable, Sendable {
        /// `interface`, `address`, `route`.
        package var kind: String
        /// As `ip` would print it.
        package var description: String

        package init(kind: String, description: String) {
            self.kind = kind
            self.description = description
        }
    }

    /// How many peers are in each state.
    package struct Summary: Codable, Hashable, Sendable {
        package var up: Int
        package var stale: Int
        package var down: Int
        package var never: Int
        package var missing: Int

        package init(up: Int = 0, stale: Int = 0, down: Int = 0, never: Int = 0, missing: Int = 0) {
            self.up = up
            self.stale = stale
            self.down = down
            self.never = never
            self.missing = missing
        }
    }
}
