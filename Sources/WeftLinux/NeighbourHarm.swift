// What another program's chain can do to a mesh's packets.

import CLinux
import WeftModel

enum NeighbourHarm: Hashable {
    case drop
    /// The tunnel's own packets go to another host or port than the one that listens for them.
    case changedTarget
    /// What nodes send one another through this host comes from this host, for whoever gets it: access rules tell nodes by
    /// their addresses.
    case changedSource
    /// What goes through the tunnel belongs to no connection: no answer is known for one, and no address is translated.
    case untracked

    /// What a base chain can do. A chain of the type `nat` sees the first packet of a flow only, and is made to change
    /// addresses. Only before the connection is looked up can a packet be kept from having one.
    static func possible(in base: NeighbourBase) -> [NeighbourHarm] {
        let isEarly = base.priority < NF_IP_PRI_CONNTRACK.rawValue
        return switch (base.kind, base.hook) {
        case (.nat, .prerouting): [.changedTarget]
        case (.nat, .postrouting): [.changedSource]
        case (.nat, _): []
        case (_, .prerouting) where isEarly, (_, .output) where isEarly: [.drop, .untracked]
        case (.filter, _), (.route, _): [.drop]
        }
    }

    /// Whether it would be one to these packets: that a host sends what comes in for it further on, or gives its own address
    /// to what comes from its networks, is its own business.
    func concerns(_ packets: NeighbourTraffic.Packets) -> Bool {
        switch self {
        case .drop: true
        case .changedTarget: packets.kind == .tunnelIn
        case .changedSource: packets.kind == .forwardTo && packets.packet.input == .ours
        case .untracked: packets.kind != .tunnelIn && packets.kind != .tunnelOut
        }
    }

    /// - Parameter packets: in words.
    func phrase(_ packets: String, isCertain: Bool) -> String {
        switch self {
        case .drop: isCertain ? "drops \(packets)" : "may drop \(packets)"
        case .changedTarget: "\(isCertain ? "sends" : "may send") \(packets) elsewhere"
        case .changedSource:
            "\(isCertain ? "gives" : "may give") this host's address to what nodes of the mesh send one another through it"
        case .untracked:
            "\(isCertain ? "keeps" : "may keep") \(packets) out of connection tracking, which this mesh's firewall goes by"
        }
    }

    /// How a remedy begins.
    var opening: String {
        switch self {
        case .drop: "Let it through"
        case .changedTarget, .changedSource: "Let it through as it is"
        case .untracked: "Let it be tracked"
        }
    }
}
