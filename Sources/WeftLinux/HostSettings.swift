// Settings of the whole host that meshes change: what is to be looked at where nothing is on record of them any more.

package import WeftModel
package import WeftPlan

/// A setting with the value that a mesh gives it.
package struct HostSetting: Hashable, Sendable {
    package var sysctl: Sysctl
    /// What it has where nobody has set it.
    package var usual: String

    /// Those that have a mesh's value now, whoever gave it to them.
    ///
    /// - Parameter proc: where /proc is.
    package static func inForce(proc: String = "/proc") throws(DataplaneError) -> [HostSetting] {
        var candidates = [
            HostSetting(sysctl: Sysctl("net/ipv4/ip_forward", "1"), usual: "0"),
            HostSetting(sysctl: Sysctl("net/ipv6/conf/all/forwarding", "1"), usual: "0"),
        ]
        for interface in SmallFile.names(in: "\(proc)/sys/net/ipv6/conf").sorted() where interface != "all" {
            candidates.append(
                HostSetting(sysctl: Sysctl("net/ipv6/conf/\(interface)/accept_ra", "2"), usual: "1"))
        }
        candidates.append(HostSetting(sysctl: Sysctl("net/ipv4/conf/all/src_valid_mark", "1"), usual: "0"))
        candidates.append(HostSetting(sysctl: Sysctl("net/ipv4/conf/all/send_redirects", "0"), usual: "1"))
        let live = try Sysctls(folder: "\(proc)/sys").read(candidates.map(\.sysctl.path))
        let found = Set(live)
        return candidates.filter { found.contains($0.sysctl) }
    }
}
