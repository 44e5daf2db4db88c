// Other programs' firewalls that drop what the mesh needs, or change its addresses: an accept of ours is not final across
// tables, a drop of theirs is.

import CLinux
import Glibc
import Netlink
import WeftModel
import WeftPlan

/// Follows the mesh's packets through the base chains of all tables but Weft's own, and names those that do them harm.
///
/// Tables of bridges are left out.
struct Neighbours {
    let channel: Channel
    let interface: String
    let traffic: MeshTraffic
    /// The number of our link, 0 where there is none. Asked only where there are others' chains.
    let index: () -> UInt32

    func read() throws(DataplaneError) -> [ForeignObject] {
        if traffic.flows.isEmpty { return [] }
        do throws(NetlinkError) {
            return try chains()
        } catch {
            // A kernel without nf_tables has no such chains.
            if error.meansNoNfTables { return [] }
            throw DataplaneError(error, Request(.readTable, "read the chains of other tables"))
        }
    }

    private func chains() throws(NetlinkError) -> [ForeignObject] {
        var reading = NeighbourChainReading()
        try channel.dump(UInt16(nfTables: NFT_MSG_GETCHAIN), into: &reading) {
            $0.putNetfilterHeader(family: UInt8(AF_UNSPEC))
        }
        let own = "weft-\(interface)"
        let packets = NeighbourTraffic(traffic).packets
        let shut = shutTunnels(among: reading.chains)
        let bases = reading.chains.filter { chain in
            if chain.table == own, chain.family == UInt8(NFPROTO_INET) { return false }
            guard let base = chain.base else { return false }
            if let other = chain.weftInterface {
                guard shut.contains(other), base.hook == .output || base.hook == .forward else { return false }
            }
            let harms = harms(in: base)
            return packets.contains { candidate in
                harms.contains { $0.concerns(candidate) }
                    && candidate.packet(at: base, family: chain.family, interface) != nil
            }
        }
        if bases.isEmpty { return [] }
        var tables: [NeighbourTable] = []
        for chain in bases where !tables.contains(where: { $0.holds(chain) }) {
            if let table = try table(of: chain) { tables.append(table) }
        }
        let index = index()
        let marks = tables.contains(where: \.marks)
        var found: [ForeignObject] = []
        for chain in bases {
            guard let base = chain.base, let table = tables.first(where: { $0.holds(chain) }) else { continue }
            let program = NeighbourProgram(chain, base.hook, reading.chains.filter { table.holds($0) })
            for harm in harms(in: base) {
                // What another mesh's table does to addresses is for that mesh's own packets.
                if harm != .drop, table.weftInterface != nil { continue }
                let walk = Walk(chain: chain, base: base, table: table, harm: harm, index: index, marks: marks)
                let remedies = NeighbourRemedies(
                    program: program, chain: chain, base: base, harm: harm, interface: interface, traffic: traffic)
                if let object = remedies.object(try fates(of: packets, walk)) { found.append(object) }
            }
        }
        return found
    }

    /// The interfaces of other meshes of Weft's whose kill switch is shut. All else in their tables is about their own packets:
    /// who may reach whom in that mesh, and who comes by another way with one of its addresses.
    private func shutTunnels(among chains: [NeighbourChain]) -> Set<String> {
        let others = Set(chains.compactMap(\.weftInterface)).subtracting([interface])
        return others.filter { other in
            let table = NfTables(channel: channel, table: "weft-\(other)")
            // One that cannot be read may be.
            do throws(DataplaneError) {
                guard let firewall = try table.read().firewall else { return true }
                return IPAddress.Family.allCases.contains(where: firewall.isShut)
            } catch { return true }
        }
    }

    /// What the mesh's own table does not go by is no loss.
    private func harms(in base: NeighbourBase) -> [NeighbourHarm] {
        NeighbourHarm.possible(in: base).filter { $0 != .untracked || traffic.isTracked }
    }

    private struct Walk {
        var chain: NeighbourChain
        var base: NeighbourBase
        var table: NeighbourTable
        var harm: NeighbourHarm
        var index: UInt32
        /// Whether anybody gives packets a mark.
        var marks: Bool
    }

    private func fates(
        of packets: [NeighbourTraffic.Packets], _ way: Walk
    ) throws(NetlinkError) -> [NeighbourTraffic.Kind: NeighbourWalk.Fate] {
        var fates: [NeighbourTraffic.Kind: NeighbourWalk.Fate] = [:]
        for candidate in packets where way.harm.concerns(candidate) {
            guard var packet = candidate.packet(at: way.base, family: way.chain.family, interface) else { continue }
            if way.marks { packet.mark = nil }
            var judge = NeighbourJudge(packet: packet, interface: interface, index: way.index)
            let other = way.table.weftInterface
            // The tunnel's own packets may go through another tunnel; all else does not.
            if let other, packet.transport == nil { judge.uninvolved.insert(other) }
            // What goes anywhere does not go to containers.
            if packet.output == .other, packet.destinations == nil { judge.uninvolved.insert("docker0") }
            var walk = NeighbourWalk(way.table, judge, way.harm, looksUpAddresses: other != nil)
            let fate = try walk.fate(in: way.chain.name, dropsByDefault: way.base.dropsByDefault)
            fates[candidate.kind] = max(fates[candidate.kind] ?? .passes, fate)
        }
        return fates
    }

    /// Nil where it has gone meanwhile, or sleeps.
    private func table(of chain: NeighbourChain) throws(NetlinkError) -> NeighbourTable? {
        var flags = NeighbourTableReading()
        do throws(NetlinkError) {
            try channel.get(UInt16(nfTables: NFT_MSG_GETTABLE), into: &flags) { encoder in
                encoder.putNetfilterHeader(family: chain.family)
                encoder.text(NFTA_TABLE_NAME, chain.table)
            }
        } catch {
            if error.errno?.rawValue == ENOENT { return nil }
            throw error
        }
        if flags.isDormant { return nil }
        var reading = NeighbourRuleReading()
        try dump(NFT_MSG_GETRULE, of: chain, into: &reading) { $0.text(NFTA_RULE_TABLE, chain.table) }
        return NeighbourTable(family: chain.family, name: chain.table, rules: reading.rules) {
            (name) throws(NetlinkError) in
            var elements = NeighbourElementReading()
            try dump(NFT_MSG_GETSETELEM, of: chain, into: &elements) { encoder in
                encoder.text(NFTA_SET_ELEM_LIST_TABLE, chain.table)
                encoder.text(NFTA_SET_ELEM_LIST_SET, name)
            }
            return elements.set
        }
    }

    private func dump<Consumer: MessageConsumer>(
        _ message: nf_tables_msg_types, of chain: NeighbourChain, into consumer: inout Consumer,
        _ body: (inout Encoder) -> Void
    ) throws(NetlinkError) {
        do throws(NetlinkError) {
            try channel.dump(UInt16(nfTables: message), into: &consumer) { encoder in
                encoder.putNetfilterHeader(family: chain.family)
                body(&encoder)
            }
        } catch {
            // What has gone meanwhile is in nobody's way.
            if error.errno?.rawValue == ENOENT { return consumer.reset() }
            throw error
        }
    }
}

extension NeighbourChain {
    /// The interface of the mesh of Weft's in whose table it is.
    var weftInterface: String? {
        family == UInt8(NFPROTO_INET) && table.hasPrefix("weft-") ? String(table.dropFirst(5)) : nil
    }
}

extension NeighbourTable {
    func holds(_ chain: NeighbourChain) -> Bool { chain.family == family && chain.table == name }

    /// The interface of another mesh on this host whose table it is.
    var weftInterface: String? {
        family == UInt8(NFPROTO_INET) && name.hasPrefix("weft-") ? String(name.dropFirst(5)) : nil
    }
}
