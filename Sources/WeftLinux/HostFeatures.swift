// What a host's kernel and its settings allow, as far as a topology's meaning hangs on it.

import CLinux
import Glibc
package import Netlink
package import WeftModel
package import WeftPlan

/// Asks the kernel of the calling thread's network namespace.
package struct HostFeatures {
    let channel: Channel
    private let proc: String
    /// Nil where this kernel has no such sockets.
    private let netfilter: Channel?

    /// - Parameter proc: where /proc is.
    package init(
        proc: String = "/proc", transports: TransportFactory = { (bus) throws(Errno) in try Socket(bus) }
    ) throws(DataplaneError) {
        self.proc = proc
        netfilter = (try? transports(.netfilter)).map { Channel($0) }
        do throws(Errno) {
            channel = Channel(try transports(.route))
        } catch {
            throw DataplaneError(error, Request(.openSocket, "open a netlink socket"))
        }
    }

    /// The names of all interfaces.
    package func interfaces() throws(DataplaneError) -> Set<String> { Set(try readLinks(channel).map(\.name)) }

    /// Families in which the kernel takes routes and policy rules: a kernel that was started with `ipv6.disable=1`, or built
    /// without, has IPv4 only. One with `disable_ipv6` in its settings takes both.
    package func families() throws(DataplaneError) -> Set<IPAddress.Family> {
        var families: Set<IPAddress.Family> = []
        for family in IPAddress.Family.allCases {
            var rules = PolicyRuleReading()
            do throws(NetlinkError) {
                try channel.dump(UInt16(RTM_GETRULE), into: &rules) { $0.putRuleHeader(family: family.number) }
                families.insert(family)
            } catch {
                guard let errno = error.errno?.rawValue, errno == EAFNOSUPPORT || errno == EOPNOTSUPP else {
                    throw DataplaneError(error, Request(.readRules, "read rules"))
                }
            }
        }
        return families
    }

    /// See `HostFacts.ipv6Switch`. An interface that is yet to be made takes over what holds for `default`.
    package func ipv6Switch(on interface: String) -> HostFacts.IPv6Switch {
        func isOff(_ name: String) -> Bool? {
            readKernelText("\(proc)/sys/net/ipv6/conf/\(name)/disable_ipv6").map { $0 == "1" }
        }
        // A kernel without IPv6 has no such setting.
        guard let byDefault = isOff("default") else { return .offOnHost }
        guard isOff(interface) ?? byDefault else { return .on }
        return byDefault || isOff("all") == true ? .offOnHost : .offOnInterface
    }

    /// See `HostFacts.hasStrictReversePath`.
    package func hasStrictReversePath(on interface: String) -> Bool {
        func value(_ name: String) -> String? { readKernelText("\(proc)/sys/net/ipv4/conf/\(name)/rp_filter") }
        if value("all") == "2" { return false }
        return ["all", "default", interface].contains { value($0) == "1" }
    }

    /// See `HostFacts.hasForwardingOff`.
    package func hasForwardingOff(on interface: String) -> Bool {
        func value(_ name: String) -> String? { readKernelText("\(proc)/sys/net/ipv4/conf/\(name)/forwarding") }
        return value("all") == "1" && (value(interface) ?? value("default")) == "0"
    }

    /// Whether the kernel has nf_tables; nil where it would not say.
    package func hasFirewall() -> Bool? {
        // Asking loads the module.
        guard let netfilter else { return false }
        do throws(NetlinkError) {
            _ = try NfTables(channel: netfilter, table: "").generation()
            return true
        } catch {
            return error.meansNoNfTables ? false : nil
        }
    }
}
