// How the parts of a host's state are put into words, alike in plans, outcomes and desired states.

import WeftModel
import WeftPlan

/// `25 s`, `off`.
func keepaliveText(_ seconds: UInt16) -> String { seconds == 0 ? "off" : "\(seconds) s" }

/// `0xca6c`, `none`.
func markText(_ mark: UInt32) -> String { mark == 0 ? "none" : "0x" + String(mark, radix: 16) }

/// `fra.example.net:51820 (192.0.2.7:51820)`; nil where the peer is not dialled.
func endpointText(_ endpoint: SocketAddress?, written: String?) -> String? {
    switch (endpoint, written) {
    case (nil, nil): nil
    case (let endpoint?, nil): endpoint.description
    case (nil, let written?): "\(written.visible) (not resolved)"
    case (let endpoint?, let written?): "\(written.visible) (\(endpoint))"
    }
}

extension Route {
    /// As ip-route(8) would print it, without the device: `10.9.0.0/16 src 10.80.0.1`.
    var phrase: String {
        (target == .unreachable ? "unreachable " : "") + prefix.description + tablePhrase
            + (source.map { " src \($0)" } ?? "")
    }

    /// ` table 100 metric 7`, of which each stands only where it is not the usual one.
    private var tablePhrase: String {
        (table == Route.mainTable ? "" : " table \(table)")
            + (metric == Route.defaultMetric(prefix.family) ? "" : " metric \(metric)")
    }

    /// `10.9.0.0/16 src 10.80.0.1 → 10.80.0.2`.
    func phrase(replacing old: Route) -> String {
        var text = prefix.description + tablePhrase
        if old.target != target { text += " \(old.target.phrase) → \(target.phrase)" }
        if old.source != source {
            text += " src \(old.source?.description ?? "none") → \(source?.description ?? "none")"
        }
        if old.isAltered { text += " other attributes → none" }
        return text
    }
}

extension AddressOperation {
    /// `10.80.0.1/32`, and what it loses where it stays.
    var phrase: String {
        let text = "\(address.address)/\(address.length)"
        guard case .replace(let old, _, _) = self else { return text }
        return switch old.alteration {
        case .none: text
        case .lifetime: text + " lifetime → forever"
        case .attributes(nil): text + " other attributes → none"
        case .attributes(let peer?): text + " peer \(peer) → none"
        }
    }
}

extension Route.Target {
    fileprivate var phrase: String { self == .unreachable ? "unreachable" : "to the interface" }
}

extension SysctlOperation {
    /// `net.ipv4.ip_forward 0 → 1`.
    var phrase: String {
        let name = Sysctl.dotted(path).visible
        switch self {
        case .claim(let sysctl, let old): return "\(name) \(old.visible) → \(sysctl.value.visible)"
        case .hold(let sysctl): return "\(name) is \(sysctl.value.visible) already, and is needed from now on"
        case .setOwn(let sysctl, let old):
            return name + (old.map { " \($0.visible) →" } ?? " =") + " \(sysctl.value.visible)"
        case .release(_, let old, let restore, let companions):
            let others = companions.map { "\(Sysctl.dotted($0.path).visible) = \($0.value.visible)" }
            guard let restore else {
                return "\(name) is needed no longer, and stays \(old.visible)"
                    + (others.isEmpty ? "" : "; \(enumerated(others)), as before weft")
            }
            return "\(name) \(old.visible) → \(restore.visible)"
                + (others.isEmpty ? "" : ", and with it \(enumerated(others))") + ", as before weft"
        case .leave(let sysctl, let others):
            let holders = enumerated(others.map(\.visible))
            return "\(name) is still needed on \(holders), and stays \(sysctl.value.visible)"
        }
    }
}

extension DeviceOperation {
    /// One phrase for each setting that changes. No secret: a key is `(set)` or `(changed)`.
    var phrases: [String] {
        var result: [String] = []
        if privateKey != nil {
            let publicKeys = [oldPublicKey, newPublicKey].compactMap { $0?.short }.joined(separator: " → ")
            result.append(
                "private key \(oldPublicKey == nil ? "(set)" : "(changed)")"
                    + (publicKeys.isEmpty ? "" : ", public key \(publicKeys)"))
        }
        if let listenPort {
            result.append("listen port " + (oldListenPort.map { "\($0) → " } ?? "") + "\(listenPort)")
        }
        if let fwMark { result.append("fwmark \(markText(oldFwMark)) → \(markText(fwMark))") }
        return result
    }
}

extension PeerChange {
    /// `(set)`, `(changed)` or `(cleared)`; nil where it is left alone.
    var presharedKeyPhrase: String? {
        switch presharedKey {
        case nil: nil
        case .some(.none): "(cleared)"
        case .some(.tag): hadPresharedKey ? "(changed)" : "(set)"
        case .some(.external): "left to another program"
        }
    }

    /// One phrase for each setting that changes, allowed IPs apart.
    func phrases(written: String?) -> [String] {
        var result: [String] = []
        if let endpoint {
            let old = oldEndpoint.map { "\($0) → " } ?? ""
            result.append("endpoint \(old)\(endpointText(endpoint, written: written) ?? "")")
        }
        if let persistentKeepalive {
            result.append("keepalive \(keepaliveText(oldPersistentKeepalive)) → \(keepaliveText(persistentKeepalive))")
        }
        if let text = presharedKeyPhrase { result.append("preshared key \(text)") }
        return result
    }
}

extension Peer {
    /// What is said of a peer on one line, allowed IPs apart: `at 192.0.2.7:51820, keepalive 25 s`.
    func phrase(written: String?) -> String {
        var parts: [String] = []
        parts.append(endpointText(endpoint, written: written).map { "at \($0)" } ?? "dials in")
        if persistentKeepalive != 0 { parts.append("keepalive \(keepaliveText(persistentKeepalive))") }
        switch presharedKey {
        case .none: break
        case .tag: parts.append("preshared key (set)")
        case .external: parts.append("preshared key left to another program")
        }
        return parts.joined(separator: ", ")
    }
}

extension PlannedOperation {
    /// `outage: 10.1.0.0/16 only`, `hitless`.
    var effectPhrase: String {
        effectScope.isEmpty ? effect.rawValue : "\(effect.rawValue): \(effectScope.visible)"
    }
}

extension SessionEffect {
    var paint: Paint {
        switch self {
        case .hitless: .faint
        case .rehandshake: .change
        case .outage: .remove
        }
    }
}
