// Status as `weft status` prints it.

import Testing
import WeftModel
import WeftPlan
import WeftStatus

@testable import WeftRender

extension Samples {
    /// Five live peers in every state, one of which the topology has not; `bob` is missing.
    static var observation: Observation {
        var live = desired.state
        live.peers.removeAll { $0.publicKey == key(4) }
        live.peers += [
            peer(5, ["10.80.2.0/24", "10.80.3.0/24", "10.80.4.0/24", "10.80.5.0/24", "10.80.6.0/24"], keepalive: 25),
            peer(6, ["10.80.9.9"], endpoint: "198.51.100.6", presharedKey: .external),
            peer(7, []),
        ]
        let ages: [PublicKey: (Int64?, UInt64, UInt64)] = [
            key(2): (83, 1_288_490_188, 3_565_158), key(3): (nil, 0, 148), key(5): (150, 1023, 1024),
            key(6): (3 * 86_400 + 4 * 3600, 5_000_000_000_000, 999_999), key(7): (7500, 17, 0),
        ]
        var observation = Observation(
            state: live, deviceKind: .kernel,
            statistics: live.peers.map { peer in
                let (age, received, sent) = ages[peer.publicKey] ?? (nil, 0, 0)
                return PeerStatistics(
                    lastHandshake: age.map { UnixTime(seconds: now.seconds - $0) }, receivedBytes: received,
                    sentBytes: sent)
            },
            foreign: [ForeignObject(kind: "address", description: "10.7.7.7/24 dev wg0 proto static")], time: now)
        observation.counts = [
            FirewallCount(name: "access-0badcafe", comment: "ops → fra: tcp/22", packets: 12_345, bytes: 9_876_543),
            FirewallCount(name: "access-refused", comment: "refused by access rules", packets: 3, bytes: 180),
        ]
        return observation
    }

    static var desiredWithCarl: DesiredState {
        var desired = desired
        desired.state.peers += [
            peer(5, ["10.80.2.0/24"], keepalive: 25), peer(6, ["10.80.9.9"], endpoint: "198.51.100.6"),
        ]
        desired.peerNames[key(5)] = "carl"
        desired.peerNames[key(6)] = "dora"
        return desired
    }
}

@Suite struct StatusTextTests {
    @Test func everyState() throws {
        let document = StatusDocument(Samples.observation, of: Samples.mesh, desired: Samples.desiredWithCarl)
        try expectGolden(StatusText(document).text, "status.txt")
        try expectGolden(StatusText(document, options: TextOptions(style: .ansi)).text, "status.ansi.txt")
        try expectGolden(StatusText(document, options: TextOptions(full: true)).text, "status-full.txt")
    }

    @Test func whatElseThereIsThanWhatIsInForce() {
        var document = StatusDocument(Samples.observation, of: Samples.mesh, desired: Samples.desiredWithCarl)
        func lines() -> [Substring] {
            StatusText(document).text.split(separator: "\n").filter {
                $0.contains("opology") && !$0.contains("missing")
            }
        }
        #expect(lines().isEmpty)
        document.trial = StatusDocument.Trial(topology: "5f12941d4739", until: "2026-11-28T00:15:28Z")
        #expect(
            lines() == [
                "  Topology 5f12941d4739 is on trial until 2026-11-28T00:15:28Z: `weft confirm` keeps it, `weft revert` takes it "
                    + "back."
            ])
        document.trial = StatusDocument.Trial(topology: "5f12941d4739", reason: "by user 0")
        #expect(lines() == ["  Topology 5f12941d4739 was taken back by user 0."])
        document.problem = "it is gone"
        #expect(lines().isEmpty && StatusText(document).text.contains("  The agent says: it is gone.\n"))
    }

    @Test func withoutTopology() throws {
        let document = StatusDocument(Samples.observation, of: Samples.mesh, desired: nil)
        #expect(document.node == nil)
        #expect(document.peers.allSatisfy { $0.name == nil && $0.inTopology == nil })
        try expectGolden(StatusText(document).text, "status-without-topology.txt")
    }

    @Test func notThere() throws {
        let document = StatusDocument(
            Observation(time: Samples.now), of: Samples.mesh, desired: Samples.desired)
        #expect(!document.present)
        try expectGolden(StatusText(document).text, "status-absent.txt")
    }

    /// Not made yet, half made, taken and gone are not the same.
    @Test func whyTheInterfaceIsNotThereIsSaid() {
        var observation = Observation(time: Samples.now)
        func absence(_ wasInForce: Bool, _ expected: StatusDocument.Absence) -> String {
            let document = StatusDocument(
                observation, of: Samples.mesh, wasInForce: wasInForce, desired: Samples.desired)
            #expect(document.absence == expected)
            return StatusText(document).text.split(separator: "\n")[1].trimmingPrefix("  ").description
        }
        let notApplied = "The interface is not there: the mesh is not applied on this host."
        #expect(absence(false, .notMade) == notApplied)
        #expect(absence(true, .gone) == notApplied)
        observation.state.firewall = Firewall(chains: [])
        #expect(
            absence(false, .notMade)
                == "The interface is not there, and the rest holds: no apply has come to its end yet.")
        #expect(absence(true, .gone) == "The interface is gone, and the rest still holds.")
        observation.halfMadeLink = "wg0"
        for wasInForce in [false, true] {
            #expect(
                absence(wasInForce, .halfMade) == "The interface is half made: an apply has not come to its end.")
        }
        observation.foreign = [ForeignObject(kind: "interface", description: "wg0 is a bridge", relation: .blocksLink)]
        #expect(absence(true, .taken).hasPrefix("The interface's name is taken by what does not bear the mesh's mark"))
        observation.state.firewall = nil
        #expect(
            absence(true, .taken) == "The mesh is not applied on this host: the name of its interface is taken.")
    }

    @Test func aHostThatIsDisabledIsToldSo() {
        var desired = Samples.desired
        let line = "This host is disabled in the topology, or has expired: the mesh is not wanted here."
        for observation in [Samples.observation, Observation(time: Samples.now)] {
            desired.state = Samples.desired.state
            let wanted = StatusDocument(observation, of: Samples.mesh, desired: desired)
            #expect(wanted.wanted == true && !StatusText(wanted).text.contains(line))
            desired.state = HostState()
            let unwanted = StatusDocument(observation, of: Samples.mesh, desired: desired)
            #expect(unwanted.wanted == false && StatusText(unwanted).text.contains(line))
        }
        #expect(StatusDocument(Samples.observation, of: Samples.mesh, desired: nil).wanted == nil)
    }

    /// A table that somebody flushed, or removed.
    @Test func rulesThatAreMissingAreSaid() throws {
        var observation = Samples.observation
        var desired = Samples.desired
        let rule = FirewallRule([.counter])
        desired.state.firewall = Firewall(chains: [
            FirewallChain("forward", rules: [rule]), FirewallChain("input", rules: [rule]), FirewallChain("output"),
        ])
        func line() -> String? {
            let document = StatusDocument(observation, of: Samples.mesh, desired: desired)
            let lines = StatusText(document).text.split(separator: "\n")
            return lines.first { $0.contains("missing in") || $0.contains("is missing") }.map(String.init)
        }
        let end = "`weft apply` writes them as the topology wants them."
        observation.state.firewall = desired.state.firewall
        #expect(line() == nil)
        observation.state.firewall?.chains[1].rules = []
        #expect(line() == "  Of the firewall, the rules are missing in input: \(end)")
        observation.state.firewall?.chains.removeFirst()
        #expect(line() == "  Of the firewall, the rules are missing in forward, input: \(end)")
        observation.state.firewall = nil
        #expect(line() == "  The firewall table inet weft-wg0 is missing: \(end)")
        // A mesh that is not applied misses nothing.
        observation.state.link = nil
        #expect(line() == nil)
    }

    /// With --watch: a screen that is too small for all of it.
    @Test func aScreenHasRoomForSoMuch() {
        let document = StatusDocument(Samples.observation, of: Samples.mesh, desired: Samples.desiredWithCarl)
        let text = StatusText(document).text
        let all = text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init)
        #expect(StatusText(document).screen(rows: 99, columns: 999) == all)
        for rows in 1..<all.count {
            for style in [Style.plain, .ansi] {
                let lines = StatusText(document, options: TextOptions(style: style)).screen(rows: rows, columns: 50)
                #expect(lines.count <= rows)
                for line in lines {
                    #expect(line.replacing(#/\u{1B}\[[0-9]+m/#, with: "").columns <= 50)
                    #expect(!line.contains("\u{1B}") || line.hasSuffix("\u{1B}[0m"))
                }
            }
        }
        let lines = StatusText(document).screen(rows: all.count - 2, columns: 999)
        #expect(lines.count == all.count - 2)
        #expect(lines.contains("  and 3 more peers: the screen has no room for them"))
        #expect(lines.last == all.last)
    }

    @Test(arguments: [
        ("abc", 3, "abc"), ("abcd", 3, "ab…"), ("abcd", 1, "…"), ("abcd", 0, ""), ("", 0, ""), ("日本", 4, "日本"),
        ("日本", 3, "日…"), ("日本語", 4, "日…"), ("a日本", 3, "a…"), ("\u{1B}[1mabcd\u{1B}[0m", 4, "\u{1B}[1mabcd\u{1B}[0m"),
        ("\u{1B}[1mabcd\u{1B}[0m", 3, "\u{1B}[1mab…\u{1B}[0m"),
    ])
    func cutsLines(_ text: String, _ width: Int, _ cut: String) {
        #expect(text.cut(to: width) == cut)
    }

    /// Who finds the network dead and the tunnel down reads why.
    @Test func aKillSwitchThatIsShutIsSaid() throws {
        var observation = Samples.observation
        observation.state.firewall = Firewall(chains: [
            FirewallChain(
                "output", base: .init(.filter, .output, priority: 0),
                rules: [FirewallRule([.counter, .reject(.prohibited)], comment: "kill switch")])
        ])
        var wasInForce = true
        func line() -> String? {
            let document = StatusDocument(observation, of: Samples.mesh, wasInForce: wasInForce, desired: nil)
            #expect(document.firewall?.killSwitch == true)
            return StatusText(document).text.split(separator: "\n").first { $0.contains("kill switch") }.map(
                String.init)
        }
        let rest = "and what goes elsewhere than to `allow` is refused."
        #expect(line() == nil)
        observation.state.peers = []
        #expect(line() == "  The kill switch is shut: no peer is up, \(rest)")
        observation.state.link?.isUp = false
        #expect(line() == "  The kill switch is shut: the interface is down, \(rest)")
        observation.state.link = nil
        #expect(line() == "  The kill switch is shut: the interface is gone, \(rest)")
        wasInForce = false
        #expect(line() == "  The kill switch is shut: the interface is not there, \(rest)")
    }

    @Test(arguments: [
        (0, "0s"), (59, "59s"), (60, "1m 0s"), (83, "1m 23s"), (3599, "59m 59s"), (3600, "1h 0m"), (86_399, "23h 59m"),
        (86_400, "1d 0h"), (100_000_000, "1,157d 9h"), (-3, "0s"),
    ])
    func durations(seconds: Int64, text: String) {
        #expect(durationText(seconds: seconds) == text)
    }

    @Test(arguments: [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1075, "1.05 KiB"), (1535, "1.50 KiB"),
        (1_048_575, "1024.00 KiB"), (1_048_576, "1.00 MiB"), (1_288_490_188, "1.20 GiB"),
        (5_000_000_000_000, "4.55 TiB"), (UInt64.max, "16777216.00 TiB"),
    ])
    func bytes(count: UInt64, text: String) {
        #expect(byteText(count) == text)
    }
}
