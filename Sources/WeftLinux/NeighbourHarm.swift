// What another program's chain can do to a mesh's packets.

import WeftModel

enum NeighbourHarm: Hashable {
    case drop
    /// The tunnel's own packets go to another host or port than the one that listens for them.
    case changedTarget
    /// What nodes send one another through this host comes from this host, for whoever gets it: access rules tell nodes by
    /// their addresses.
    case changedSource

    /// What a base chain can do; nil where that is nothing. A chain of the type `nat` sees the first packet of a flow only, and
    /// is made to change addresses.
    init?(_ base: FirewallChain.Base) {
        switch (base.kind, base.hook) {
        case (.nat, .prerouting): self = .changedTarget
        case (.nat, .postrouting): self = .changedSource
        case (.nat, _): return nil
        case (.filter, _), (.route, _): self = .drop
        }
    }

    /// Whether it would be one to these packets: that a host sends what comes in for it further on, or gives its own address
    /// to what comes from its networks, is its own business.
    func concerns(_ packets: NeighbourTraffic.Packets) -> Bool {
        switch self {
        case .drop: true
        case .changedTarget: packets.kind == .tunnelIn
        case .changedSource: packets.kind == .forwardTo && packets.packet.input == .ours
        }
    }

    /// - Parameter packets: in words.
    func phrase(_ packets: String, isCertain: Bool) -> String {
        switch self {
        case .drop: isCertain ? "drops \(packets)" : "may drop \(packets)"
        case .changedTarget: "\(isCertain ? "sends" : "may send") \(packets) elsewhere"
        case .changedSource:
            "\(isCertain ? "gives" : "may give") this host's address to what nodes of the mesh send one another through it"
        }
    }
}
