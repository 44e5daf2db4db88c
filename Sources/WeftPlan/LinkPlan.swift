// The interface: made, raised, resized, removed.

package import WeftModel

package enum LinkOperation: Hashable, Sendable {
    /// Make the WireGuard device, down, with its alias and its MTU.
    case create(Link)
    /// The MTU of a live link, in bytes; nothing flaps.
    case setMTU(interface: String, from: UInt32, to: UInt32)
    case setUp(interface: String)
    /// Remove the link: its peers first, then itself.
    case remove(interface: String)
    /// Remove a link that an interrupted `create` left under its reserved name.
    case removeHalfMade(name: String)

    package var action: Operation.Action {
        switch self {
        case .create: .add
        case .setMTU, .setUp: .change
        case .remove, .removeHalfMade: .remove
        }
    }
}

struct LinkPlan {
    var create: [PlannedOperation] = []
    var resize: [PlannedOperation] = []
    var raise: [PlannedOperation] = []
    var remove: [PlannedOperation] = []

    init(desired: Link?, live: Link?, halfMade: String?) {
        if let halfMade { create.append(PlannedOperation(.link(.removeHalfMade(name: halfMade)))) }
        switch (desired, live) {
        case (nil, nil): break
        case (nil, let live?):
            remove.append(PlannedOperation(.link(.remove(interface: live.name)), effect: .outage))
        case (let desired?, nil):
            create.append(PlannedOperation(.link(.create(desired))))
            if desired.isUp { raise.append(PlannedOperation(.link(.setUp(interface: desired.name)))) }
        case (let desired?, let live?):
            if desired.mtu != live.mtu {
                resize.append(
                    PlannedOperation(.link(.setMTU(interface: desired.name, from: live.mtu, to: desired.mtu))))
            }
            if desired.isUp, !live.isUp { raise.append(PlannedOperation(.link(.setUp(interface: desired.name)))) }
        }
    }
}
