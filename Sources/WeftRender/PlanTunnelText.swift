// Policy rules and name servers, in a few words each.

import WeftModel
import WeftPlan

extension PolicyRule {
    /// `10000: lookup main suppress_prefixlength 0 (IPv4)`.
    var phrase: String { "\(key.priority): \(words.visible) (\(key.family.name))" }
}

extension ResolverSetting {
    /// `name servers 10.80.0.1 for corp.internal`.
    var phrase: String {
        let list = servers.map(\.description).joined(separator: ", ")
        let scope = domains.isEmpty ? "" : " for \(domains.map(\.visible).joined(separator: ", "))"
        return "name servers \(list)\(scope)"
    }
}

extension ResolverOperation {
    var phrase: String {
        switch self {
        case .set(let setting, let old): (old.map { "\($0.phrase) → " } ?? "") + setting.phrase
        case .clear(let setting): setting.phrase
        }
    }
}
