// What a host has besides the mesh: the networks it is connected to, and who listens to router advertisements.

internal import Glibc
package import WeftModel

/// The networks of this host's other interfaces that are up, each once; loopback and link-local ones are left out.
///
/// - Parameter isExcluded: says which interfaces do not count, by name.
package func connectedNetworks(isExcluded: (String) -> Bool) -> [HostFacts.ConnectedNetwork] {
    var list: UnsafeMutablePointer<ifaddrs>?
    guard unsafe getifaddrs(&list) == 0 else { return [] }
    defer { unsafe freeifaddrs(list) }
    var networks: [HostFacts.ConnectedNetwork] = []
    var entry = unsafe list
    while let current = unsafe entry {
        unsafe entry = current.pointee.ifa_next
        let name = unsafe String(cString: current.pointee.ifa_name)
        let flags = unsafe current.pointee.ifa_flags
        guard flags & interfaceFlag(IFF_UP) != 0, flags & interfaceFlag(IFF_LOOPBACK) == 0, !isExcluded(name),
            let address = unsafe ipAddress(current.pointee.ifa_addr), !address.isLinkLocal,
            let mask = unsafe ipAddress(current.pointee.ifa_netmask)
        else { continue }
        let length = mask.high.nonzeroBitCount + mask.low.nonzeroBitCount
        // The host's own address alone is no network.
        if length == address.family.bitWidth { continue }
        let prefix = IPPrefix(address, length: length)
        if let known = networks.firstIndex(where: { $0.prefix == prefix && $0.interface == name }) {
            networks[known].addresses.append(address)
        } else {
            networks.append(HostFacts.ConnectedNetwork(prefix: prefix, interface: name, addresses: [address]))
        }
    }
    return networks
}

/// Interfaces, and `default`, whose accept_ra is 1 or 2: with IPv6 forwarding on, only 2 still listens.
///
/// - Parameter isExcluded: says which interfaces do not count, by name.
package func interfacesAcceptingRouterAdvertisements(isExcluded: (String) -> Bool) -> Set<String> {
    let folder = "/proc/sys/net/ipv6/conf"
    guard let handle = unsafe opendir(folder) else { return [] }
    defer { unsafe closedir(handle) }
    var names: Set<String> = []
    while let entry = unsafe readdir(handle) {
        let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
            unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
        }
        if name.hasPrefix(".") || name == "all" || name == "lo" || isExcluded(name) { continue }
        let value = readKernelText("\(folder)/\(name)/accept_ra")
        if value == "1" || value == "2" { names.insert(name) }
    }
    return names
}
