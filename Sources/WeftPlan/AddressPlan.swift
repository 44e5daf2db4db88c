// Addresses: added before anything needs them, removed after nothing does.

package import WeftModel

package enum AddressOperation: Hashable, Sendable {
    case add(InterfaceAddress, interface: String)
    case remove(InterfaceAddress, interface: String)

    package var action: Operation.Action {
        switch self {
        case .add: .add
        case .remove: .remove
        }
    }

    package var address: InterfaceAddress {
        switch self {
        case .add(let address, _), .remove(let address, _): address
        }
    }
}

struct AddressPlan {
    var add: [PlannedOperation]
    var remove: [PlannedOperation]

    init(desired: [InterfaceAddress], live: [InterfaceAddress], interface: String) {
        let diff = CollectionDiff(desired: desired, live: live)
        add = diff.added.map { PlannedOperation(.address(.add($0, interface: interface))) }
        remove = diff.removed.map {
            PlannedOperation(
                .address(.remove($0, interface: interface)), effect: .outage, scope: "connections of \($0.address) only"
            )
        }
    }
}
