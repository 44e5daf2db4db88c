// Whether this process may change the network at all, so that what it may not do is said before anything else.

import Glibc
import Netlink
package import WeftPlan

/// Refuses a process without CAP_NET_ADMIN among its effective capabilities: see capabilities(7), and `CapEff` in
/// proc_pid_status(5). Where /proc does not say, the kernel's own refusal has to do.
///
/// - Parameters:
///   - operation: what was to be done: `change wg0`.
///   - proc: where /proc is.
package func requireNetworkRights(for operation: String, proc: String = "/proc") throws(DataplaneError) {
    guard hasNetworkRights(process: "self", proc: proc) == false else { return }
    throw DataplaneError(Errno(EPERM), Request(.openSocket, operation))
}

/// Whether a process's rights are of the same kind as ours: in a user namespace of his own, everybody has all of them.
package func sharesUserNamespace(process: String, proc: String = "/proc") -> Bool {
    // The link in ns/ would say more, and may not be read by everybody.
    guard let own = try? SmallFile.read("\(proc)/self/uid_map") else { return false }
    return (try? SmallFile.read("\(proc)/\(process)/uid_map")) == own
}

/// Whether a process may change the network; nil where /proc does not say.
package func hasNetworkRights(process: String, proc: String = "/proc") -> Bool? {
    guard let status = try? SmallFile.read("\(proc)/\(process)/status"), let mask = effectiveCapabilities(status)
    else { return nil }
    // CAP_NET_ADMIN, from linux/capability.h.
    return mask & (1 << 12) != 0
}

/// The mask in the line `CapEff:`; nil where there is none.
private func effectiveCapabilities(_ status: [UInt8]) -> UInt64? {
    for line in status.split(separator: UInt8(ascii: "\n")) {
        let name = Array("CapEff:\t".utf8)
        guard line.starts(with: name) else { continue }
        return UInt64(String(decoding: line.dropFirst(name.count), as: UTF8.self), radix: 16)
    }
    return nil
}
