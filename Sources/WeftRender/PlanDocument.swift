// A plan as a document: what `weft plan --format json` prints. Field by field in PlanFormat.md, and in plan.schema.json.

/// A plan. Absent fields are unknown or not set.
package struct PlanDocument: Codable, Hashable, Sendable {
    /// Always `weft.plan`.
    package var format: String
    /// 1. Raised when a field changes its meaning or goes; new fields do not raise it.
    package var version: Int
    /// This host's node name; absent where no topology says it (`weft down`).
    package var node: String?
    package var mesh: String
    package var interface: String
    /// Whether nothing at all can be done until the obstacles are gone.
    package var blocked: Bool
    /// In the order in which they are applied.
    package var operations: [Operation]
    /// What is not Weft's, and stands in the way of something.
    package var obstacles: [Obstacle]
    /// What is not Weft's, and works against the mesh without standing in the way of any operation.
    package var hindrances: [ForeignObject]
    /// What is not Weft's, and goes with the interface that it is on.
    package var goesWithInterface: [ForeignObject]
    /// What is not Weft's, and left alone.
    package var foreign: [ForeignObject]
    /// What compiling the topology warned of.
    package var warnings: [DiagnosticReport.Problem]
    /// What the change would cut off, as far as the command knows of it.
    package var cuts: [Cut]
    package var summary: Summary

    /// One change of one object.
    package struct Operation: Codable, Hashable, Sendable {
        /// `add`, `change`, `remove`.
        package var action: String
        /// `link`, `device`, `address`, `peer`, `route`, `rule`, `firewall`, `resolver`, `sysctl`.
        package var kind: String
        /// What tells this object from others of its kind.
        package var object: Object
        /// What is now, of that which changes or goes. Absent where the object comes, or only its allowed IPs change.
        package var before: Attributes?
        /// What will be, of that which comes or changes. Absent where the object goes, or only its allowed IPs change.
        package var after: Attributes?
        /// Changes of a live peer's allowed IPs. Absent for all else.
        package var allowedIPs: AllowedIPsChange?
        /// Of the allowed IPs that a peer gets, those whose packets another peer carries now. Absent where there are none.
        package var takeovers: [Takeover]?
        /// `hitless`, `re-handshake`, `outage`.
        package var effect: String
        /// What the effect reaches, where that is less than everything; of what is hitless, the condition; may be empty.
        package var effectScope: String
    }

    /// The identity of an object: the fields of its kind are set.
    package struct Object: Codable, Hashable, Sendable {
        /// Link and device: the interface's name. Peer: the node's name, where it is known.
        package var name: String?
        /// Address, with its length.
        package var address: String?
        /// Peer.
        package var publicKey: String?
        /// Route.
        package var prefix: String?
        /// Route.
        package var table: UInt32?
        /// Route.
        package var metric: UInt32?
        /// Sysctl, below /proc/sys.
        package var path: String?
        /// Policy rule: `IPv4` or `IPv6`.
        package var family: String?
        /// Policy rule.
        package var priority: UInt32?
    }

    /// Attributes of an object: those that matter to the operation are set.
    package struct Attributes: Codable, Hashable, Sendable {
        // Link.
        package var mtu: UInt32?
        package var up: Bool?
        package var alias: String?
        // Device. A private key is only ever a word: `none`, `set`, `changed`.
        package var privateKey: String?
        package var publicKey: String?
        package var listenPort: UInt16?
        package var fwMark: UInt32?
        // Peer. A preshared key is only ever a word: `none`, `set`, `changed`, `external`.
        package var endpoint: String?
        package var endpointName: String?
        package var persistentKeepalive: UInt16?
        package var presharedKey: String?
        package var allowedIPs: [String]?
        // Address and route: whether it has attributes that weft never sets.
        package var altered: Bool?
        // Route.
        package var target: String?
        package var source: String?
        // Policy rule: as ip-rule(8) prints it, without its priority.
        package var rule: String?
        // Firewall: the chains, sets and counters that the operation touches, and of live sets the elements that go or
        // come.
        package var firewall: FirewallDocument?
        // Name resolution.
        package var servers: [String]?
        package var domains: [String]?
        package var allNames: Bool?
        // Sysctl.
        package var value: String?
        package var claimed: Bool?
        package var companions: [StateDocument.Sysctl]?
    }

    /// How a live peer's allowed IPs change.
    package struct AllowedIPsChange: Codable, Hashable, Sendable {
        package var added: [String]
        package var removed: [String]
        /// Taken by another peer of the same interface, without a gap.
        package var moved: [Move]
    }

    /// An allowed IP that another peer takes.
    package struct Move: Codable, Hashable, Sendable {
        package var prefix: String
        /// The taker's public key.
        package var to: String
        /// The taker's node name.
        package var toName: String?
    }

    /// An allowed IP that comes to a peer while another one carries its packets.
    package struct Takeover: Codable, Hashable, Sendable {
        package var prefix: String
        /// That other peer's public key.
        package var from: String
        /// That other peer's node name.
        package var fromName: String?
        /// Its allowed IP: `prefix` itself where that moves, a larger one where it keeps the rest.
        package var within: String
    }

    /// Something of another owner.
    package struct ForeignObject: Codable, Hashable, Sendable {
        /// `interface`, `address`, `route`, `rule`, `port`, `chain`, `manager`, `legacy`.
        package var kind: String
        /// As `ip` would print it.
        package var description: String
        /// What to do about it; may be empty.
        package var remedy: String
    }

    /// Something of another owner that stands in the way.
    package struct Obstacle: Codable, Hashable, Sendable {
        package var kind: String
        package var description: String
        package var remedy: String
        /// `link`, `route` or `rule`: what cannot be made; `port`: what cannot be bound; `sysctl`: what cannot be written.
        package var blocks: String
        /// The route that cannot be made; absent where it is something else.
        package var route: Object?
    }

    /// A connection that the change would cut.
    package struct Cut: Codable, Hashable, Sendable {
        /// `session`, `git` or `resolver`.
        package var kind: String
        /// The other end's address.
        package var address: String
        package var port: UInt16
        /// What carries it today: the name of an interface, or the tunnel to a node.
        package var today: String
        /// What would become of it.
        package var then: String
    }

    /// Counts of objects. The interface counts once, whatever is done to its link and its device.
    package struct Summary: Codable, Hashable, Sendable {
        package var add: Int
        package var change: Int
        package var remove: Int
        /// The worst effect of all operations; `hitless` where there are none.
        package var effect: String
    }
}
