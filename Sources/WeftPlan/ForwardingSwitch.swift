// What the kernel sets by itself where a host begins or ceases to pass packets on.

package import WeftModel

/// A setting that makes a host pass packets of a family on. At each change of it the kernel sets companions: whether each
/// interface passes packets on, and those that come later; for IPv4 also whether redirects are accepted, which it has only
/// hosts do that pass nothing on.
package struct ForwardingSwitch: Sendable {
    package let family: IPAddress.Family

    /// Nil where a path is no such setting's.
    package init?(_ path: String) {
        switch path {
        case "net/ipv4/ip_forward": family = .v4
        case "net/ipv6/conf/all/forwarding": family = .v6
        default: return nil
        }
    }

    /// Where interfaces have settings of their own.
    package var folder: String { family == .v4 ? "net/ipv4/conf" : "net/ipv6/conf" }

    /// - Parameter names: what is in the folder: interfaces, `default` and `all`.
    package func companions(_ names: [String]) -> [String] {
        (family == .v4 ? ["\(folder)/all/accept_redirects"] : [])
            + names.filter { $0 != "all" }.map { "\(folder)/\($0)/forwarding" }
    }

    /// What the kernel sets a companion to.
    package func value(of companion: String, at value: String) -> String {
        companion.hasSuffix("/accept_redirects") ? (value == "0" ? "1" : "0") : value
    }
}
