// What a mesh sends and gets through a host, as kinds of packets that other programs' chains are asked about.

import CLinux
import Netlink
import WeftModel
import WeftPlan

/// The packets that a mesh needs to get through this host.
struct NeighbourTraffic {
    /// What is said about packets together.
    enum Kind: Int, Hashable, Comparable, CaseIterable {
        /// The tunnel's own packets, which come in, or go out.
        case tunnelIn, tunnelOut
        /// What comes out of the tunnel for this host, and what this host sends into it.
        case deliver, send
        /// What is passed on out of the tunnel, or into it.
        case forwardFrom, forwardTo

        static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    }

    struct Packets {
        var kind: Kind
        var packet: NeighbourPacket

        /// As a base chain of a family sees them; nil where they never come there.
        ///
        /// - Parameter interface: the mesh's.
        func packet(at base: NeighbourBase, family: UInt8, _ interface: String) -> NeighbourPacket? {
            if family == UInt8(NFPROTO_IPV4), packet.family != .v4 { return nil }
            if family == UInt8(NFPROTO_IPV6), packet.family != .v6 { return nil }
            let isMeant =
                switch base.hook {
                case .prerouting: packet.input != .none
                case .input: kind == .tunnelIn || kind == .deliver
                case .forward: kind == .forwardFrom || kind == .forwardTo
                case .output: kind == .tunnelOut || kind == .send
                case .postrouting: packet.output != .none
                case .ingress: base.isFor(packet.input, interface)
                case .egress: base.isFor(packet.output, interface)
                }
            guard isMeant else { return nil }
            var packet = packet
            // Where it goes is not decided yet, or where it came from not known any more.
            if base.hook == .prerouting || base.hook == .ingress { packet.output = .none }
            if base.hook == .egress { packet.input = .none }
            return packet
        }
    }

    private(set) var packets: [Packets] = []
    private let traffic: MeshTraffic

    init(_ traffic: MeshTraffic) {
        self.traffic = traffic
        for family in IPAddress.Family.allCases {
            tunnel(family)
            if hasAddress(family) { inner(family) }
        }
    }

    /// Where addresses are not known, there may be any.
    private func hasAddress(_ family: IPAddress.Family) -> Bool {
        traffic.addresses?.contains { $0.family == family } ?? true
    }

    private mutating func tunnel(_ family: IPAddress.Family) {
        let port = traffic.listenPort
        func packet(_ body: (inout NeighbourPacket) -> Void) -> NeighbourPacket {
            var packet = NeighbourPacket(family: family)
            packet.transport = NeighbourPacket.udp
            body(&packet)
            return packet
        }
        func add(_ kind: Kind, _ body: (inout NeighbourPacket) -> Void) {
            packets.append(Packets(kind: kind, packet: packet(body)))
        }
        if let port {
            add(.tunnelIn) {
                $0.input = .other
                $0.isForThisHost = true
                $0.destinationPort = port
            }
        }
        if let port, traffic.isDialled {
            add(.tunnelOut) {
                $0.output = .other
                $0.sourcePort = port
                $0.mark = traffic.mark
                $0.state = NeighbourPacket.established
            }
        }
        let dialled = Dictionary(grouping: traffic.endpoints.filter { $0.address.family == family }, by: \.port)
        for (number, endpoints) in dialled.sorted(by: { $0.key < $1.key }) {
            let far = endpoints.map { IPPrefix(host: $0.address) }
            add(.tunnelOut) {
                $0.output = .other
                $0.sourcePort = port
                $0.destinationPort = number
                $0.destinations = far
                $0.mark = traffic.mark
            }
            if port != nil { continue }
            add(.tunnelIn) {
                $0.input = .other
                $0.isForThisHost = true
                $0.sourcePort = number
                $0.sources = far
                $0.state = NeighbourPacket.established
            }
        }
    }

    private mutating func inner(_ family: IPAddress.Family) {
        let mesh = traffic.reached?.filter { $0.family == family }
        let own = traffic.addresses.map { $0.filter { $0.family == family }.map { IPPrefix(host: $0) } }
        func add(
            _ kind: Kind, _ input: NeighbourPacket.Interface, _ output: NeighbourPacket.Interface, from: [IPPrefix]?,
            to: [IPPrefix]?, state: UInt32 = NeighbourPacket.new
        ) {
            var packet = NeighbourPacket(family: family, input: input, output: output)
            packet.sources = from
            packet.destinations = to
            packet.state = state
            packet.isForThisHost = kind == .deliver
            packets.append(Packets(kind: kind, packet: packet))
        }
        if traffic.flows.contains(.deliver) { add(.deliver, .ours, .none, from: mesh, to: own) }
        add(.send, .none, .ours, from: own, to: mesh)
        if traffic.flows.contains(.relay) {
            for kind in [Kind.forwardFrom, .forwardTo] { add(kind, .ours, .ours, from: mesh, to: mesh) }
        }
        if traffic.flows.contains(.forward) {
            add(.forwardFrom, .ours, .other, from: mesh, to: nil)
            add(.forwardTo, .other, .ours, from: nil, to: mesh, state: NeighbourPacket.established)
        }
        for case .reach(let networks) in traffic.flows {
            let near = networks.filter { $0.family == family }
            if near.isEmpty { continue }
            add(.forwardFrom, .ours, .other, from: mesh, to: near)
            add(.forwardTo, .other, .ours, from: near, to: mesh)
        }
    }
}
