// That an interface has somebody in charge, told to all of its network namespace.

internal import Glibc
internal import WeftLinux
internal import WeftLoop
internal import WeftPlan

/// The lock in the state folder keeps those apart who have the same one. This also finds who was given another one, by a name
/// that the network namespace has once. Agents have it, and who watches over a trial; commands ask for it.
struct InterfaceClaim {
    private var held: NameClaim?
    /// Why somebody else would not be noticed; nil where he would.
    private(set) var problem: String?

    /// Has the interface from now on. Called again, it does nothing where it has.
    ///
    /// - Throws: `.inCharge` where somebody else has it.
    mutating func take(_ interface: String) throws(DataplaneError) {
        if let held { return held.dismissWhoAsked() }
        do throws(LoopError) {
            held = try NameClaim(Self.name(of: interface))
            problem = nil
        } catch {
            try Self.refuse(interface)
            problem =
                "\(error.description): an agent with another state folder that takes \(interface) would not be noticed"
        }
    }

    /// - Throws: `.inCharge` where somebody has the interface.
    static func refuse(_ interface: String) throws(DataplaneError) {
        guard let holder = NameClaim.holder(of: name(of: interface)), isEntitled(holder) else { return }
        let process = holder.process == 0 ? "in another container" : "process \(holder.process)"
        throw DataplaneError(
            .inCharge,
            "another weft (\(process)), with a state folder of its own, is in charge of interface \(interface): change the "
                + "topology that it watches; to do without it, stop it first",
            errno: EADDRINUSE)
    }

    /// Names are anybody's to take: who could not change the interface anyhow is not in charge of it.
    private static func isEntitled(_ holder: NameClaim.Holder) -> Bool {
        if holder.user == 0 || holder.user == geteuid() { return true }
        let process = "\(holder.process)"
        return holder.process != 0 && sharesUserNamespace(process: process)
            && hasNetworkRights(process: process) == true
    }

    private static func name(of interface: String) -> String { "weft/\(interface)" }
}
