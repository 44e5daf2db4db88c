// What a WireGuard device has besides peers. Only what changed is ever sent: setting a mark, even to the same value,
// clears every peer's cached source, and an unset port is drawn anew.

package import WeftModel

/// A change of the device; nil fields are left alone.
package struct DeviceOperation: Hashable, Sendable {
    package var interface: String
    package var privateKey: SecretTag?
    /// The public key that the device has now, nil where it has none; and the one it will have.
    package var oldPublicKey: PublicKey?
    package var newPublicKey: PublicKey?
    package var listenPort: UInt16?
    package var oldListenPort: UInt16?
    package var fwMark: UInt32?
    package var oldFwMark: UInt32

    package init(interface: String, oldFwMark: UInt32 = 0) {
        self.interface = interface
        self.oldFwMark = oldFwMark
    }
}

/// Nil where nothing changes.
func planDevice(desired: Device?, live: Device?, interface: String) -> PlannedOperation? {
    guard let desired else { return nil }
    if let live, desired.isSatisfied(by: live) { return nil }
    var operation = DeviceOperation(interface: interface, oldFwMark: live?.fwMark ?? 0)
    var effect = SessionEffect.hitless
    var scope = ""
    if !(live.map { desired.hasKey(of: $0) } ?? (desired.privateKey == nil)) {
        operation.privateKey = desired.privateKey
        operation.oldPublicKey = live?.publicKey
        operation.newPublicKey = desired.publicKey
    }
    if let port = desired.listenPort, port != live?.listenPort {
        operation.listenPort = port
        operation.oldListenPort = live?.listenPort
        // Sessions stay, but what peers send goes to the old port until something reaches them from the new one: a peer
        // that only calls in, to a host that only answers, is cut off for good.
        if live?.listenPort != nil {
            effect = .outage
            scope = "what peers send, until they hear from this host's new port"
        }
    }
    if operation.privateKey != nil, live?.privateKey != nil {
        effect = .outage
        scope = "every peer, until it has this host's new public key"
    }
    if desired.fwMark != live?.fwMark ?? 0 { operation.fwMark = desired.fwMark }
    return PlannedOperation(.device(operation), effect: effect, scope: scope)
}
