// The interface: made, raised, resized, removed.

package import WeftModel

package enum LinkOperation: Hashable, Sendable {
    /// Make the WireGuard device, down, with its alias and its MTU.
    case create(Link)
    /// The MTU of a live link, in bytes; nothing flaps.
    case setMTU(interface: String, from: UInt32, to: UInt32)
    case setUp(interface: String)
    /// The mark of a device that is known for weft's by its program: somebody has changed it, or a run was interrupted before
    /// it was set.
    case setAlias(interface: String, from: String, to: String)
    /// Remove the link: its peers first, then itself.
    case remove(interface: String)
    /// Remove a link that an interrupted `create` left under its reserved name.
    case removeHalfMade(name: String)

    package var action: Operation.Action {
        switch self {
        case .create: .add
        case .setMTU, .setUp, .setAlias: .change
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
            if desired.alias != live.alias {
                create.append(
                    PlannedOperation(
                        .link(.setAlias(interface: desired.name, from: live.alias, to: desired.alias))))
            }
            if desired.mtu != live.mtu, !desired.isMTUAssumed {
                resize.append(
                    PlannedOperation(.link(.setMTU(interface: desired.name, from: live.mtu, to: desired.mtu))))
            }
            if desired.isUp, !live.isUp { raise.append(PlannedOperation(.link(.setUp(interface: desired.name)))) }
        }
    }
}

extension Plan {
    /// The UDP port that this plan has the device bind, and that it does not hold now. Nil where the kernel draws one,
    /// and where a link is removed first, whose program may have it.
    package func portToBind(on observed: Observation) -> UInt16? {
        var (port, isUp) = (observed.state.device?.listenPort, observed.state.link?.isUp == true)
        // A program may keep the port of a link that is down.
        let held = isUp || observed.deviceKind == .userspace ? port : nil
        for planned in operations {
            switch planned.operation {
            case .link(.removeHalfMade): return nil
            case .link(.setUp): isUp = true
            case .device(let device): port = device.listenPort ?? port
            default: break
            }
        }
        return isUp && port != held && port != 0 ? port : nil
    }
}
