// Whether this machine has what a mesh needs, before one is made.

import CLinux
package import Netlink
package import WeftPlan

/// One thing that a mesh needs of the machine.
package struct Support: Sendable {
    /// A stable name: `wireguard`.
    package var check: String
    /// What there is; or what is missing and what to do about it.
    package var result: Result<String, DataplaneError>
}

/// WireGuard in the kernel, which may load its module now; else a program that takes its place.
package func wireGuardSupport(_ programs: UserspacePrograms, transports: TransportFactory) -> Support {
    let check = "wireguard"
    do throws(Errno) {
        let channel = Channel(try transports(.generic))
        if (try? KernelWireGuard.family(channel)) != nil {
            return Support(check: check, result: .success("the kernel has WireGuard"))
        }
    } catch {
        return Support(
            check: check, result: .failure(DataplaneError(error, Request(.openSocket, "open a netlink socket"))))
    }
    do throws(DataplaneError) {
        let program = try programs.implementation()
        return Support(check: check, result: .success("the kernel has no WireGuard: \(program) takes its place"))
    } catch {
        return Support(check: check, result: .failure(error))
    }
}
