// The two ways to speak to a WireGuard device behind one shape: the kernel's generic netlink, or a program's socket.

package import WeftModel
package import WeftPlan

/// What a WireGuard device says of itself. No secret in it: private and preshared keys are tags.
package struct DeviceReading: Sendable {
    package var device: Device
    /// In the device's order; `allowedIPs` of one peer joined where the device split them.
    package var peers: [Peer]
    /// Index by index with `peers`.
    package var statistics: [PeerStatistics]

    package init(device: Device, peers: [Peer] = [], statistics: [PeerStatistics] = []) {
        self.device = device
        self.peers = peers
        self.statistics = statistics
    }
}

/// A WireGuard device that can be read and changed.
package protocol WireGuardControl {
    /// Reads the whole device.
    mutating func read() throws(DataplaneError) -> DeviceReading

    /// Sends what the operation changes, and nothing else.
    mutating func perform(_ operation: DeviceOperation) -> Outcome

    /// Sends peers' operations in order, in as few messages as fit; outcomes in the same order. After a failure no peer
    /// is removed any more (a prefix that was to move would be at neither): those are skipped.
    mutating func perform(_ operations: [PeerOperation]) -> [Outcome]

    /// Removes every peer at once, before the link is removed.
    mutating func removeAllPeers() throws(DataplaneError)
}
