// The model's policy rules, nf_tables and name servers.

import WeftModel
import WeftPlan

extension ModelKernel {
    mutating func apply(_ operation: PolicyRuleOperation, _ mesh: MeshIdentity) -> Outcome {
        var present = rules[mesh.interface] ?? []
        defer { rules[mesh.interface] = present }
        switch operation {
        case .add(let rule):
            if present.contains(rule) { return .already }
            present.append(rule)
        case .remove(let rule):
            guard let index = present.firstIndex(of: rule) else { return .already }
            present.remove(at: index)
        }
        return .done
    }

    /// One batch: all of it or nothing.
    mutating func apply(_ operation: FirewallOperation) throws(DataplaneError) -> Outcome {
        switch operation {
        case .create(let firewall, let table):
            guard firewalls[table] == nil else { throw DataplaneError(.obstructed, "exists", errno: 17) }
            firewalls[table] = firewall
        case .rebuild(_, let firewall, let table): firewalls[table] = firewall
        case .remove(_, let table):
            if firewalls.removeValue(forKey: table) == nil { return .already }
        case .change(let change, let table):
            guard let firewall = firewalls[table] else { throw DataplaneError(.gone, "no table", errno: 2) }
            firewalls[table] = firewall.applying(change)
        }
        return .done
    }

    mutating func apply(_ operation: ResolverOperation, _ mesh: MeshIdentity) -> Outcome {
        switch operation {
        case .set(let setting, _): resolvers[mesh.interface] = setting
        case .clear: resolvers[mesh.interface] = nil
        }
        return .done
    }
}
