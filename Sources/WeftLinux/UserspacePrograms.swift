// A host without kernel WireGuard.
package import WeftKeys
package import WeftPlan
package struct UserspacePrograms: UserspaceDevices {
    package init(_ state: StateFolder, secrets: @escaping () throws(DataplaneError) -> SecretArena, environment: [String: String]) {}
    package mutating func start(interface: String) throws(DataplaneError) { throw DataplaneError(.noWireGuard, "none") }
    package func isOurs(interface: String) -> Bool { false }
    package func control(interface: String) -> any WireGuardControl { fatalError() }
    package mutating func stop(interface: String) throws(DataplaneError) {}
}
