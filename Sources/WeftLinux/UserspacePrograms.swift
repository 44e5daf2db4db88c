// placeholder until keys lands
package import WeftKeys
package import WeftPlan
package struct UserspacePrograms: UserspaceDevices {
    package init(state: StateFolder, secrets: @escaping () throws(DataplaneError) -> SecretArena) {}
    package mutating func start(interface: String) throws(DataplaneError) { throw DataplaneError(.noWireGuard, "none") }
    package func isOurs(interface: String) -> Bool { false }
    package func control(interface: String) -> any WireGuardControl { fatalError() }
    package mutating func stop(interface: String) throws(DataplaneError) {}
}
