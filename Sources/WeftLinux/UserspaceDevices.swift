// The seam to WireGuard in user space: programs that are started, spoken to over a socket, and ended.

package import WeftPlan

/// Starts and knows user-space WireGuard programs (`wireguard-go`, `boringtun-cli`). What it started is remembered
/// outside the kernel, because a tun device looks the same whoever made it.
package protocol UserspaceDevices {
    /// Writes down that the program for `interface` is ours, then starts it and returns when the interface exists and
    /// its socket answers. Nothing is left behind after a failure.
    ///
    /// - Throws: `.noWireGuard` where no program is installed or /dev/net/tun is missing; `.file` for the record.
    mutating func start(interface: String) throws(DataplaneError)

    /// Finds out whether `start` has what it needs; changes nothing.
    ///
    /// - Throws: `.noWireGuard` where it has not.
    func requireProgram() throws(DataplaneError)

    /// Whether `start` was recorded for this interface, in this network namespace and since this boot. True also for
    /// one whose start was interrupted.
    func isOurs(interface: String) -> Bool

    /// Speaks to the program behind `interface`. Nothing is opened before the first use.
    func control(interface: String) -> any WireGuardControl

    /// Called after the link is gone (the program ends by itself then): waits a bounded time for the program's end,
    /// ends it where it hangs, removes its socket, and forgets the record. Nothing to do is success.
    mutating func stop(interface: String) throws(DataplaneError)
}
