// Peers of a device that cannot change one: boringtun ends itself where a peer that it has is set again.

internal import WeftKeys
internal import WeftModel
internal import WeftPlan

extension UserspaceControl {
    /// Performs operations as boringtun (0.6) bears them. A peer that changes is removed and added again as a whole, which
    /// costs it a handshake. Each has a request of its own: in one request, `remove`, the preshared key, the endpoint and
    /// the keepalive of a peer would stay in force for those after it.
    mutating func performReplacing(_ operations: [PeerOperation]) -> [Outcome] {
        var live: [PublicKey: Peer] = [:]
        do throws(DataplaneError) {
            for peer in try read().peers { live[peer.publicKey] = peer }
        } catch {
            return [Outcome](repeating: .failed(error), count: operations.count)
        }
        var hasFailed = false
        return operations.map { operation in
            if hasFailed, operation.action == .remove {
                return .skipped("a peer before it failed, and its allowed IPs may have been meant to move")
            }
            do throws(DataplaneError) {
                try perform(operation, on: live[operation.publicKey])
                return .done
            } catch {
                hasFailed = true
                return .failed(error)
            }
        }
    }

    private func perform(_ operation: PeerOperation, on live: Peer?) throws(DataplaneError) {
        let text = "\(operation.verb) \(operation.publicKey.short) of \(interface)"
        let wanted: Peer?
        switch operation {
        case .add(let peer): wanted = peer
        case .change(let change):
            // As with other devices, a change of a peer that is not there makes none.
            guard let live else { return }
            wanted = live.changed(by: change)
        case .remove: wanted = nil
        }
        // Before the old one goes, so that a key that is missing leaves it as it is.
        if case .tag(let tag) = wanted?.presharedKey, try !secrets().contains(tag) {
            throw DataplaneError(.key, "its preshared key was not loaded; plan again", operation: text)
        }
        if live != nil {
            try transact(text) { request in
                request.put("public_key", operation.publicKey)
                request.put("remove", true)
            }
        }
        if let wanted { try transact(text) { $0.put(wanted) } }
    }
}

extension Peer {
    /// The whole peer that a change leads to.
    fileprivate func changed(by change: PeerChange) -> Peer {
        var peer = self
        if let key = change.presharedKey, key != .external { peer.presharedKey = key }
        if let seconds = change.persistentKeepalive { peer.persistentKeepalive = seconds }
        if let endpoint = change.endpoint { peer.endpoint = endpoint }
        let gone = Set(change.removed + change.moved.map(\.prefix))
        peer.allowedIPs = PrefixList(allowedIPs.filter { !gone.contains($0) } + change.added)
        return peer
    }
}
