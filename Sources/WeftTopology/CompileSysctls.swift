// Kernel settings that a host's part in the mesh calls for, in the order in which they are written.

import WeftModel

extension Compiler {
    func sysctls() -> [Sysctl] {
        var sysctls: [Sysctl] = []
        if facts.ipv6Switch == .offOnInterface, families.contains(.v6) {
            sysctls.append(Sysctl("net/ipv6/conf/\(interface)/disable_ipv6", "0"))
        }
        if forwarded.contains(.v4) {
            // Turned on, this turns it on for each interface; one that was turned off afterwards stays so.
            sysctls.append(Sysctl("net/ipv4/ip_forward", "1"))
            if facts.hasForwardingOff { sysctls.append(Sysctl("net/ipv4/conf/\(interface)/forwarding", "1")) }
        }
        // Whether IPv6 is passed on is decided for the whole host: an interface's own `forwarding` says only whether the
        // host is a router to those on that link.
        if forwarded.contains(.v6) {
            // A host that forwards stops listening to router advertisements unless it is told to go on: first that.
            for interface in facts.acceptingRouterAdvertisements.sorted() where interface != "all" {
                sysctls.append(Sysctl("net/ipv6/conf/\(interface)/accept_ra", "2"))
            }
            sysctls.append(Sysctl("net/ipv6/conf/all/forwarding", "1"))
        }
        if tunnel != nil {
            // Else the tunnel's own packets, which come in without their mark, would be looked up in its table.
            sysctls.append(Sysctl("net/ipv4/conf/all/src_valid_mark", "1"))
        }
        if relays, forwarded.contains(.v4) {
            // What goes out by the interface that it came in by is no detour between two nodes.
            sysctls.append(Sysctl("net/ipv4/conf/all/send_redirects", "0"))
            sysctls.append(Sysctl("net/ipv4/conf/\(interface)/send_redirects", "0"))
        }
        if hasRoutesAside, facts.hasStrictReversePath == true {
            sysctls.append(Sysctl("net/ipv4/conf/\(interface)/rp_filter", "2"))
        }
        return sysctls
    }

    /// Whether the mesh's routes stand where the kernel's reverse path check does not look: in another table than the main
    /// one, with no policy rule that leads there.
    private var hasRoutesAside: Bool { tunnel == nil && node.table != .main && families.contains(.v4) }

    /// Whether some settings hang on facts that were not looked up.
    var hasOpenSysctls: Bool { hasRoutesAside && facts.hasStrictReversePath == nil }
}
