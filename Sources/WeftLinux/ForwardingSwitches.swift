// Interfaces that are not Weft's, by which packets into the mesh come in, and of which the kernel passes none on.

import Netlink
import WeftModel
import WeftPlan

/// Reads `net.ipv4.conf.IF.forwarding`. The kernel asks it of the interface that an IPv4 packet comes in by, and only there;
/// for IPv6 it asks the whole host's alone.
struct ForwardingSwitches {
    /// Where /proc is.
    let proc: String
    let interface: String
    let traffic: MeshTraffic
    let transports: TransportFactory

    func read() -> [ForeignObject] {
        let folder = "\(proc)/sys/net/ipv4/conf"
        let flows = traffic.flows
        let forwards = flows.contains { if case .reach = $0 { true } else { $0 == .forward } }
        // Where the host passes nothing on yet, turning that on turns it on for each interface.
        guard forwards, readKernelText("\(folder)/all/forwarding") == "1" else { return [] }
        let off = SmallFile.names(in: folder).filter {
            !["all", "default", "lo", interface].contains($0) && readKernelText("\(folder)/\($0)/forwarding") == "0"
        }
        if off.isEmpty { return [] }
        let ways = (try? ways()) ?? []
        return off.sorted().filter { ways.contains($0) }.map { name in
            let setting = Sysctl.dotted("net/ipv4/conf/\(name)/forwarding")
            return ForeignObject(
                kind: "sysctl",
                description: "\(setting) = 0: no IPv4 packet that comes in by \(name) is passed on into the mesh",
                relation: .hinders,
                remedy: "Turn it on: `sysctl -w \(setting)=1`, and look in /etc/sysctl.d for what turns it off.")
        }
    }

    /// The interfaces by which others' packets for the mesh come in: those by which they are reached.
    private func ways() throws(DataplaneError) -> Set<String> {
        let lookup = try RouteLookup(transports: transports)
        var ways: Set<String> = []
        var addresses: [IPAddress] = []
        for flow in traffic.flows {
            switch flow {
            case .deliver, .listen, .relay: break
            // An address for documentation (RFC 5737): what routes there is a default route.
            case .forward: addresses.append(IPAddress(v4: 0xC000_0201))
            case .reach(let networks):
                let networks = networks.filter { $0.family == .v4 }
                let connected = connectedNetworks { $0 == interface }
                ways.formUnion(
                    connected.filter { near in networks.contains { $0.overlaps(near.prefix) } }.map(\.interface))
                // The first host's: a network's own address may be one to broadcast to.
                addresses += networks.map { $0.isHost ? $0.address : IPAddress(v4: UInt32($0.address.low) | 1) }
            }
        }
        for address in addresses {
            for index in try lookup.route(to: address, mark: traffic.mark)?.interfaces ?? [] {
                if let name = lookup.links[index]?.name { ways.insert(name) }
            }
        }
        return ways
    }
}
