// What reading makes of each field, over files and defaults, and at a moment.

import Testing
import WeftDiagnostics
import WeftModel
import WeftTopology

private func read(_ texts: String..., at time: UnixTime? = nil) -> (topology: Topology?, diagnostics: [Diagnostic]) {
    TopologyReader.read(
        SourceFiles(
            texts.enumerated().map { SourceFiles.File(name: "\($0.offset).yaml", bytes: Array($0.element.utf8)) }),
        at: time)
}

private let mesh = "mesh: {name: corp, addresses: [10.80.0.0/16, 'fd80::/48']}\n"
private let keys = [
    "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=",
    "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=",
]

@Suite struct ReaderTests {
    @Test func readsEveryField() throws {
        let (read, diagnostics) = read(
            """
            mesh:
              name: corp
              interface: wg7
              addresses: [10.80.0.0/16, fd80::/48]
              connect: hubs
              presharedKeys: directory
            defaults: {listenPort: 51900, mtu: 1400, persistentKeepalive: 0}
            nodes:
              fra:
                publicKey: \(keys[0])
                addresses: [10.80.0.1/32, "fd80::1"]
                endpoint: "[2001:db8::7]:7"
                hub: true
                allowedIPs: [192.168.3.0/24, 203.0.113.9]
                interface: wg8
                listenPort: 9
                persistentKeepalive: 15
                mtu: 1300
                table: 100
                fwMark: 0xca6c
                connect: full
                exit: true
                masquerade: {interfaces: [ens3], sources: [10.80.0.0/16, "fd80::/48"], destinations: [198.51.100.0/24]}
              ana:
                publicKey: \(keys[1])
                addresses: [10.80.0.2]
                table: 51820
                connect: [fra]
                expires: 2027-01-01T01:00:00+01:00
                useExit: fra
                killSwitch: {allow: [192.168.0.0/24]}
                dns: {servers: [10.80.0.1], domains: [corp.internal, "~."]}
              old: {publicKey: \(keys[2]), addresses: [10.80.0.2], disabled: true, unmanaged: true, endpoint: o.example}
            groups: {all: [fra, some], some: [ana]}
            links:
              - {between: [fra, ana], endpoints: {fra: "10.0.0.5"}, persistentKeepalive: 3}
            access:
              - {from: [all, 10.80.0.0/24], to: [internet, fra], ports: [tcp/22, udp/5000-6000, icmp]}
              - {from: [ana], to: [10.80.0.1]}
            tests:
              - {from: ana, to: 192.168.3.10, port: tcp/22, expect: deny}
            """)
        #expect(diagnostics == [])
        let topology = try #require(read)
        #expect(topology.mesh.name.value == "corp")
        #expect(topology.mesh.interface.value == "wg7")
        #expect(topology.mesh.addresses.map(\.value) == [IPPrefix("10.80.0.0/16"), IPPrefix("fd80::/48")])
        #expect(topology.mesh.connect == .hubs)
        #expect(topology.mesh.presharedKeys == .directory)
        #expect(topology.nodes.map(\.name) == ["ana", "fra", "old"])

        let fra = topology.nodes[1]
        #expect(fra.publicKey.value.base64 == keys[0])
        #expect(fra.addresses.map(\.value) == [IPAddress("10.80.0.1"), IPAddress("fd80::1")])
        #expect(fra.endpoint?.value == NodeEndpoint(host: .address(try #require(IPAddress("2001:db8::7"))), port: 7))
        #expect(fra.isHub && fra.isExit && !fra.isUnmanaged && !fra.isDisabled)
        #expect(fra.allowedIPs.map(\.value) == [IPPrefix("192.168.3.0/24"), IPPrefix("203.0.113.9/32")])
        #expect(fra.interface?.value == "wg8")
        #expect(fra.listenPort == 9)
        #expect(fra.persistentKeepalive == 15)
        #expect(fra.mtu == 1300)
        #expect(fra.table == .number(100))
        #expect(fra.fwMark == 0xCA6C)
        #expect(fra.connect == .full)
        #expect(fra.masquerade?.interfaces.map(\.value) == ["ens3"])
        #expect(fra.masquerade?.sources.map(\.value.description) == ["10.80.0.0/16", "fd80::/48"])
        #expect(fra.masquerade?.destinations.map(\.value.description) == ["198.51.100.0/24"])
        #expect(fra.place.start == SourcePosition(line: 9, column: 3))

        let ana = topology.nodes[0]
        #expect(ana.listenPort == 51900 && ana.mtu == 1400 && ana.persistentKeepalive == 0)
        #expect(ana.endpoint == nil && ana.masquerade == nil && ana.interface == nil)
        #expect(ana.table == .number(51_820))
        #expect(ana.connect == .nodes(["fra"]))
        #expect(!ana.isUnmanaged && !ana.isDisabled)
        #expect(ana.expires == UnixTime(rfc3339: "2027-01-01T00:00:00Z"))
        #expect(ana.useExit?.value == "fra")
        #expect(ana.killSwitch?.allow.map(\.value.description) == ["192.168.0.0/24"])
        #expect(ana.dns?.servers.map(\.value.description) == ["10.80.0.1"])
        #expect(ana.dns?.domains.map(\.value) == ["corp.internal", "~."])
        #expect(topology.nodes[2].isDisabled && topology.nodes[2].isUnmanaged)
        #expect(topology.nodes[2].endpoint?.value == NodeEndpoint(host: .name("o.example"), port: nil))

        #expect(topology.groups.map(\.name.value) == ["all", "some"])
        #expect(topology.groups[0].members.map(\.value) == ["fra", "some"])
        let link = try #require(topology.links.first)
        #expect(link.between.0.value == "fra" && link.between.1.value == "ana")
        #expect(link.persistentKeepalive == 3)
        #expect(link.endpoints["fra"]?.value.host == .address(IPAddress(v4: 0x0A00_0005)))
        let access = try #require(topology.access)
        #expect(access.map(\.from.count) == [2, 1])
        #expect(access[0].from.map(\.value) == [.named("all"), .prefix(try #require(IPPrefix("10.80.0.0/24")))])
        #expect(access[0].to.map(\.value) == [.internet, .named("fra")])
        #expect(access[0].ports.map(\.value) == [.tcp(22...22), .udp(5000...6000), .icmp])
        #expect(access[1].ports.isEmpty)
        let test = try #require(topology.tests.first)
        #expect(test.expect == .deny && test.port?.value == .tcp(22...22) && test.from.value == .named("ana"))
    }

    @Test func defaultsAndAbsence() throws {
        let topology = try #require(
            read(
                "defaults: {hub: true, masquerade: true, allowedIPs: [192.168.1.0/24]}\n",
                mesh + "nodes: {b: {publicKey: \(keys[0]), addresses: [10.80.0.1], endpoint: b.example}}\n",
                "nodes: {a: {publicKey: \(keys[1]), addresses: [10.80.0.2], hub: false, masquerade: false, allowedIPs: []}}\n"
            ).topology)
        #expect(topology.nodes.map(\.name) == ["a", "b"])
        #expect(topology.nodes.map(\.isHub) == [false, true])
        #expect(topology.nodes.map { $0.masquerade != nil } == [false, true])
        #expect(topology.nodes.map(\.allowedIPs.count) == [0, 1])
        #expect(topology.nodes.map(\.place.file) == [2, 1])
        #expect(topology.access == nil)
        #expect(topology.mesh.interface.value == "corp")
        #expect(topology.nodes[0].table == .main && topology.nodes[0].fwMark == 0 && topology.nodes[0].connect == nil)
    }

    @Test func anEmptyAccessSectionRefusesEverything() throws {
        let nodes = "nodes: {a: {publicKey: \(keys[0]), addresses: [10.80.0.1], endpoint: a.example}}\n"
        #expect(try #require(read(mesh + nodes + "access: []\n").topology).access?.isEmpty == true)
        #expect(read(mesh + nodes + "access:\n").topology == nil)
    }

    @Test func expiredNodesStandInNobodysWay() {
        let text =
            mesh + """
                nodes:
                  new: {publicKey: \(keys[0]), addresses: [10.80.0.1], endpoint: vpn.example}
                  old: {publicKey: \(keys[1]), addresses: [10.80.0.1], endpoint: vpn.example, expires: 2027-01-01T00:00:00Z}
                """
        let end = UnixTime(rfc3339: "2027-01-01T00:00:00Z")
        #expect(read(text, at: end).diagnostics == [])
        #expect(read(text, at: UnixTime(rfc3339: "2026-12-31T23:59:59Z")).diagnostics.count == 2)
        #expect(read(text).diagnostics.count == 2)
    }

    @Test func nothingToRead() {
        #expect(read().diagnostics.map(\.id) == ["topology.empty"])
        #expect(read("").diagnostics.map(\.id) == ["topology.no-mesh"])
    }

    /// A file that cannot be read may hold what others name.
    @Test func anUnreadableFileMakesNoNameUnknown() {
        let nodes = "nodes: {a: {publicKey: \(keys[0]), addresses: [10.80.0.1], connect: [b]}}\n"
        let (topology, diagnostics) = read(mesh + nodes, "nodes: {b: [\n")
        #expect(topology == nil)
        #expect(diagnostics.map(\.id) == ["yaml.syntax"])
    }

    @Test func severalHundredProblemsAreCutPerFile() {
        let lines = (0..<500).map { "  n\($0): {publicKey: x, addresses: [10.80.1.\($0 % 250 + 1)]}\n" }.joined()
        let (_, diagnostics) = read(mesh, "nodes:\n" + lines, "nodes: {a: {mtu: 1}}\n")
        #expect(diagnostics.count { $0.place?.file == 1 } == 101)
        #expect(diagnostics.count { $0.place?.file == 2 } == 3)
        #expect(diagnostics.contains { $0.id == "topology.too-many" })
    }
}
