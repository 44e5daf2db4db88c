// What a plan's readers know things by: names, which a plan itself has none of.

package import WeftModel

/// The names that belong to a plan: this host's, its peers', and the endpoints' as written.
package struct PlanLabels: Sendable {
    /// This host's node name; nil where no topology says it.
    package var node: String?
    /// Node names, by public key. May hold more than the plan's peers: a peer that goes is named by it too.
    package var peers: [PublicKey: String]
    /// Endpoints that are host names, as written: `fra.example.net:51820`.
    package var endpoints: [PublicKey: String]

    package init(node: String? = nil, peers: [PublicKey: String] = [:], endpoints: [PublicKey: String] = [:]) {
        self.node = node
        self.peers = peers
        self.endpoints = endpoints
    }

    /// The labels of what is wanted; none where nothing is.
    package init(_ desired: DesiredState?) {
        self.init(
            node: desired?.node, peers: desired?.peerNames ?? [:], endpoints: desired?.endpointNames ?? [:])
    }

    /// The peer's name, or the start of its key.
    func name(of key: PublicKey) -> String { peers[key]?.visible ?? key.short }

    /// `ams TrMvSoP4…`, or the start of the key alone.
    func title(of key: PublicKey) -> String {
        peers[key].map { "\($0.visible) \(key.short)" } ?? key.short
    }
}
