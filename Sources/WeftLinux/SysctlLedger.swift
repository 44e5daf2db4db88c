// The seam to what is remembered of sysctls: every claim is written down before its value is.

package import WeftModel
package import WeftPlan

/// Durable memory of who claimed which sysctl, and of the value before the first claim (see `SysctlMemory`).
package protocol SysctlLedger {
    /// Records that `interface` claims `sysctl.path` and is about to write `sysctl.value` over `current`. Where there is
    /// an original value already, it stays, and its companions with it. Returns when the record is on disk.
    mutating func record(
        _ sysctl: Sysctl, over current: String, companions: [Sysctl], by interface: String
    ) throws(DataplaneError)

    /// What is recorded now; empty where nothing is, or where the record is of another boot.
    func memory() throws(DataplaneError) -> SysctlMemory

    /// Ends the claim of `interface` on `path`; with the last claim the original value is forgotten. Called after the
    /// value was restored. A claim that is not there is success.
    mutating func release(_ path: String, by interface: String) throws(DataplaneError)
}
