// Policy rules: which routing table a packet is looked up in.

/// A rule of the routing policy that Weft owns (`ip rule`). Key: family, priority and what it does.
package struct PolicyRule: ConfiguredObject, Hashable {
    package struct Key: Hashable, Comparable, Sendable {
        package var family: IPAddress.Family
        /// Lower comes first; the main table is looked up at 32,766.
        package var priority: UInt32
        package var action: Action

        package static func < (left: Self, right: Self) -> Bool {
            if left.family != right.family { return left.family.rawValue < right.family.rawValue }
            if left.priority != right.priority { return left.priority < right.priority }
            if left.action.rank != right.action.rank { return left.action.rank < right.action.rank }
            if case .lookupMain(let first) = left.action, case .lookupMain(let second) = right.action {
                return first < second
            }
            return false
        }
    }

    package enum Action: Hashable, Sendable {
        /// `lookup main suppress_prefixlength 0`: all of the main table but its default route.
        case lookupMainWithoutDefault
        /// `to PREFIX lookup main`: what goes there stays beside the tunnel, by the default route too.
        case lookupMain(to: IPPrefix)
        /// `fwmark MARK lookup main`: while the tunnel's own packets get another mark, and its rule still goes by the old one.
        case lookupMainIfMarked(UInt32)
        /// `not fwmark MARK lookup TABLE`: all that is not the tunnel's own, nor any other of Weft's tunnels' (see
        /// `MeshIdentity.mask`).
        case lookupUnlessMarked(mark: UInt32, table: UInt32)

        fileprivate var rank: UInt64 {
            switch self {
            case .lookupMainWithoutDefault: 0
            case .lookupMain: 1
            case .lookupMainIfMarked(let mark): 2 << 32 | UInt64(mark)
            case .lookupUnlessMarked(let mark, let table): 1 << 63 | UInt64(mark & 0x7FFF_FFFF) << 32 | UInt64(table)
            }
        }
    }

    package var key: Key
    /// A live rule that is not exactly one of Weft's, as `ip rule` prints it without its priority: `from 10.0.0.0/8
    /// unreachable`. Empty in a desired state.
    package var strange: String

    package init(_ family: IPAddress.Family, priority: UInt32, _ action: Action, strange: String = "") {
        key = Key(family: family, priority: priority, action: action)
        self.strange = strange
    }

    package func isSatisfied(by live: PolicyRule) -> Bool { strange == live.strange }

    /// What it does, as ip-rule(8) prints it, without its priority: `not fwmark 0xca6c lookup 51820`.
    package var words: String {
        if !strange.isEmpty { return strange }
        return switch key.action {
        case .lookupMainWithoutDefault: "lookup main suppress_prefixlength 0"
        case .lookupMain(let prefix): "to \(prefix) lookup main"
        case .lookupMainIfMarked(let mark): "fwmark 0x\(String(mark, radix: 16)) lookup main"
        case .lookupUnlessMarked(let mark, let table): "not \(MeshIdentity.words(forMark: mark)) lookup \(table)"
        }
    }
}

extension IPAddress.Family {
    /// `IPv4`, `IPv6`.
    package var name: String { self == .v4 ? "IPv4" : "IPv6" }
}

/// The numbers by which a mesh's full tunnel is told from all others on the host: derived from the interface's name,
/// unless the topology says otherwise.
package struct RoutingNumbers: Hashable, Sendable {
    /// Of the tunnel's own packets; never 0.
    package var mark: UInt32
    package var table: UInt32
    /// Of the rule that keeps the main table's specific routes; the tunnel's own rule has the next one.
    package var priority: UInt32

    package init(mark: UInt32, table: UInt32, priority: UInt32) {
        self.mark = mark
        self.table = table
        self.priority = priority
    }
}
