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
        return "name servers \(list)\(Self.scope(domains, isForAllNames: isForAllNames))"
    }

    /// For which names servers are asked, as words that follow them.
    static func scope(_ domains: [String], isForAllNames: Bool) -> String {
        let list = domains.map(\.visible).joined(separator: ", ")
        if !isForAllNames { return " for \(list)" }
        return " for all names" + (list.isEmpty ? "" : ", also looked up below \(list)")
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
