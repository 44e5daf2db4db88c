// A mesh's dataplane for tests on a kernel, with memories that forget.

import Netlink
import Testing
import WeftKeys
import WeftModel
import WeftPlan

@testable import WeftLinux

/// A ledger that remembers as long as it lives.
final class TestLedger: SysctlLedger {
    var stored = SysctlMemory()

    func memory() throws(DataplaneError) -> SysctlMemory { stored }

    func record(
        _ sysctl: Sysctl, over current: String, companions: [Sysctl], by interface: String
    ) throws(DataplaneError) {
        let new = SysctlMemory.Original(
            value: current, written: sysctl.value,
            companions: Dictionary(uniqueKeysWithValues: companions.map { ($0.path, $0.value) }))
        stored.originals[sysctl.path, default: new].written = sysctl.value
        stored.claims[interface, default: []].insert(sysctl.path)
    }

    func release(_ path: String, by interface: String) throws(DataplaneError) {
        stored.claims[interface]?.remove(path)
    }
}

/// A tun device without a program behind it: enough for all that is not WireGuard.
final class TestTunnels: UserspaceDevices {
    var recorded: Set<String> = []
    var device = TestDevice()

    func start(interface: String) throws(DataplaneError) {
        recorded.insert(interface)
        guard shell("ip tuntap add dev \(interface) mode tun") else {
            throw DataplaneError(.noWireGuard, "no tun")
        }
    }

    func requireProgram() throws(DataplaneError) {}
    func isOurs(interface: String) -> Bool { recorded.contains(interface) }
    func control(interface: String) -> any WireGuardControl { device }
    func stop(interface: String) throws(DataplaneError) { recorded.remove(interface) }
}

/// Remembers what it is told.
final class TestDevice: WireGuardControl {
    var reading = DeviceReading(device: Device(privateKey: nil, publicKey: nil, listenPort: nil))

    func read() throws(DataplaneError) -> DeviceReading { reading }
    func perform(_ operation: DeviceOperation) -> Outcome { .done }
    func perform(_ operations: [PeerOperation]) -> [Outcome] { operations.map { _ in .done } }
    func removeAllPeers() throws(DataplaneError) { reading.peers = [] }
}

/// One mesh in one namespace.
struct KernelFixture {
    let mesh = MeshIdentity(mesh: "corp", interface: "wg0")
    let arena = SecretArena(capacity: 64)
    let ledger = TestLedger()
    let tunnels = TestTunnels()
    let plane: KernelDataplane

    init(transports: TransportFactory? = nil) throws(DataplaneError) {
        let arena = arena
        let parts = KernelDataplane.Parts(userspace: tunnels, sysctls: ledger, secrets: { arena })
        if let transports {
            plane = try KernelDataplane(parts, transports: transports)
        } else {
            plane = try KernelDataplane(parts)
        }
    }

    /// A secret of 32 equal bytes, in the arena.
    func secret(_ byte: UInt8) -> SecretTag {
        let bytes = [UInt8](repeating: byte, count: 32)
        return arena.insert(bytes.span)
    }

    static let link = Link(name: "wg0", mtu: 1420, alias: "weft:corp")
}

func address(_ text: String) -> InterfaceAddress {
    InterfaceAddress(host: IPAddress(text) ?? IPAddress(v4: 0))
}

func prefix(_ text: String) -> IPPrefix { IPPrefix(text) ?? IPPrefix(IPAddress(v4: 0), length: 0) }

/// A route of the main table out of the interface.
func route(_ text: String, metric: UInt32? = nil, source: String? = nil, target: Route.Target = .interface) -> Route {
    let prefix = prefix(text)
    return Route(
        prefix, table: Route.mainTable, metric: metric ?? Route.defaultMetric(prefix.family), target: target,
        source: source.flatMap { IPAddress($0) })
}

func key(_ number: Int) -> PublicKey {
    // The top bit of the last byte is not part of a key, and the kernel clears it nowhere.
    PublicKey(bigEndianWords: UInt64(number), 0x0102_0304_0506_0708, 7, 0x10)
}

/// The error of an outcome, nil where it went well.
func failure(_ outcome: Outcome?) -> DataplaneError? {
    if case .failed(let error)? = outcome { error } else { nil }
}
