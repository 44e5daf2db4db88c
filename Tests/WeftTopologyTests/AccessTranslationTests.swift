// Access rules for flows that a host's own NAT gives other addresses on their way into the mesh or out of it.

import Testing
import WeftModel
import WeftTestSupport

@testable import WeftTopology

/// fra has a LAN, containers, and rules of others that translate; `access` is the topology's section.
private func firewall(_ access: String, exit: String = "") throws -> ModelFirewall {
    try topology(
        exit: "allowedIPs: [192.168.3.0/24]\(exit)", client: "endpoint: 192.0.2.7",
        more: """
              uma:
                publicKey: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
                addresses: [10.80.1.8]
                unmanaged: true
                \(exit.isEmpty ? "connect: full" : "useExit: fra")
            access: [\(access)]
            """
    ).firewall(of: "fra")
}

private func flow(_ source: String, _ sourcePort: UInt16, _ destination: String, _ port: UInt16) throws
    -> ModelPacket.Tuple
{
    .init(try ip(source), sourcePort, try ip(destination), port)
}

/// A packet of a UDP flow from port 4000, and one of its answers, as both are where they are passed on: destinations are
/// translated already, sources not yet.
private func exchange(
    _ source: String, to sent: (String, UInt16), ledTo real: (String, UInt16), masqueradedAs name: String? = nil,
    from input: String, to output: String
) throws -> (first: ModelPacket, answer: ModelPacket) {
    let original = try flow(source, 4000, sent.0, sent.1)
    let first = try packet(source, real.0, in: input, out: output) {
        $0.setPorts(4000, real.1)
        $0.original = original
        $0.masqueradedAs = name.flatMap { try? ip($0) }
    }
    let answer = try packet(real.0, source, in: output, out: input) {
        $0.setPorts(real.1, 4000)
        $0.isReply = true
        $0.original = original
        $0.reply = try? flow(real.0, real.1, name ?? source, 4000)
    }
    return (first, answer)
}

extension ModelFirewall {
    fileprivate mutating func forward(_ exchange: (first: ModelPacket, answer: ModelPacket)) -> Verdict {
        var (first, answer) = exchange
        let (one, other) = (forward(&first), forward(&answer))
        #expect(one == other, "both ways alike")
        return one
    }
}

@Suite struct AccessTranslationTests {
    /// A container's port, published at its host's address in the mesh: what counts is what the peer spoke to.
    @Test func aPublishedPortIsJudgedAsItWasAddressed() throws {
        var firewall = try firewall("{from: [ana], to: [fra], ports: [udp/8080]}")
        for (port, verdict) in [(8080, .accepted), (8081, .refused), (80, .refused)]
            as [(UInt16, ModelFirewall.Verdict)]
        {
            let exchange = try exchange(
                "10.80.1.7", to: ("10.80.0.1", port), ledTo: ("172.17.0.2", 80), from: "wg0", to: "docker0")
            #expect(firewall.forward(exchange) == verdict, "\(port)")
        }
        // On the host itself, too: a port that leads to another one.
        var redirected = try packet("10.80.1.7", "10.80.0.1", in: "wg0") {
            $0.setPorts(4000, 80)
            $0.original = try? flow("10.80.1.7", 4000, "10.80.0.1", 8080)
        }
        #expect(firewall.receive(&redirected) == .accepted)
    }

    /// Whoever is led into the mesh, or on to another peer, gets no farther than rules let it come to who answers.
    @Test func whatIsLedIntoTheMeshIsJudgedByWhereItGoes() throws {
        var firewall = try firewall(
            "{from: [ana], to: [fra], ports: [udp/8080]}, {from: [198.51.100.0/24, ana], to: [uma], ports: [udp/80]}")
        for (source, input, port, verdict) in [
            ("198.51.100.9", "eth0", 80, .accepted), ("198.51.100.9", "eth0", 81, .refused),
            ("10.80.1.7", "wg0", 80, .accepted), ("10.80.1.7", "wg0", 81, .refused),
        ] as [(String, String, UInt16, ModelFirewall.Verdict)] {
            let exchange = try exchange(
                source, to: ("10.80.0.1", 8080), ledTo: ("10.80.1.8", port), from: input, to: "wg0")
            #expect(firewall.forward(exchange) == verdict, "\(source) to \(port)")
        }
    }

    @Test func aContainerReachesWhatItsHostMayReach() throws {
        var firewall = try firewall("{from: [fra], to: [ana, fra], ports: [udp/80]}")
        for (destination, port, verdict) in [
            ("10.80.1.7", 80, .accepted), ("10.80.1.7", 81, .refused), ("10.80.1.8", 80, .refused),
        ] as [(String, UInt16, ModelFirewall.Verdict)] {
            let exchange = try exchange(
                "172.17.0.2", to: (destination, port), ledTo: (destination, port), masqueradedAs: "10.80.0.1",
                from: "docker0", to: "wg0")
            #expect(firewall.forward(exchange) == verdict, "\(destination) \(port)")
        }
        // Not as the host itself: who is in the mesh, who is behind a node, and who comes to the host by another way.
        for (source, input) in [("10.80.1.8", "wg0"), ("192.168.3.9", "br0"), ("10.80.0.1", "eth0")] {
            var other = try packet(source, "10.80.1.7", in: input, out: "wg0") { $0.setPorts(4000, 80) }
            #expect(firewall.forward(&other) == .refused, "\(source)")
        }
        var here = try packet("172.17.0.2", "10.80.0.1", in: "docker0") { $0.setPorts(4000, 80) }
        #expect(firewall.receive(&here) == .refused)
    }

    /// Whom rules take for the host must leave in its name: who asks nobody takes what it likes.
    @Test func whoIsNotMasqueradedDoesNotPassForTheHost() throws {
        var firewall = try firewall("{from: [fra], to: [ana, uma], ports: [udp/80]}")
        for destination in ["10.80.1.7", "10.80.1.8"] {
            for (name, verdict) in [(nil, .dropped), ("10.80.0.1", .accepted), ("203.0.113.9", .accepted)]
                as [(String?, ModelFirewall.Verdict)]
            {
                var packet = try packet("198.51.100.9", destination, in: "eth0", out: "wg0") {
                    $0.setPorts(4000, 80)
                    $0.masqueradedAs = name.flatMap { try? ip($0) }
                }
                #expect(firewall.forward(&packet) == verdict, "\(name ?? "as it is") to \(destination)")
            }
        }
        #expect(firewall.counts["access-refused"] == 2)
        // Answers to flows that were opened in the mesh are as they are.
        var answer = try packet("198.51.100.9", "10.80.1.7", in: "eth0", out: "wg0") {
            $0.setPorts(80, 4000)
            $0.isReply = true
        }
        #expect(firewall.run(&answer, .postrouting) == .accepted)
        // So is what the host itself sends.
        var own = try packet("198.51.100.1", "10.80.1.7", out: "wg0") { $0.isFromHere = true }
        #expect(firewall.send(&own) == .accepted)
    }

    /// It is sent everything as it is, and asks nobody.
    @Test func whoUsesTheExitAndAsksNobodyIsReachedInNoOnesName() throws {
        var firewall = try firewall(
            "{from: [fra], to: [ana, uma], ports: [udp/80]}, {from: [203.0.113.0/24], to: [uma], ports: [udp/80]}",
            exit: "\n    masquerade: true")
        for (source, destination, verdict) in [
            ("198.51.100.9", "10.80.1.8", .refused), ("203.0.113.9", "10.80.1.8", .accepted),
            ("198.51.100.9", "10.80.1.7", .dropped),
        ] as [(String, String, ModelFirewall.Verdict)] {
            var packet = try packet(source, destination, in: "eth0", out: "wg0") { $0.setPorts(4000, 80) }
            #expect(firewall.forward(&packet) == verdict, "\(source) to \(destination)")
        }
    }

    /// A source of a node's is a forged one by every other way, wherever it goes.
    @Test func forgedSourcesReachNothingElseEither() throws {
        var firewall = try firewall("{from: [ana], to: [fra, 192.168.3.0/24]}")
        for (destination, output) in [("192.168.3.9", "br0"), ("172.17.0.2", "docker0"), ("198.51.100.1", "")] {
            for (source, verdict) in [("10.80.1.7", .refused), ("10.80.1.8", .refused), ("198.51.100.9", .accepted)]
                as [(String, ModelFirewall.Verdict)]
            {
                var packet = try packet(source, destination, in: "eth0", out: output)
                let isForHere = output.isEmpty
                #expect((isForHere ? firewall.receive(&packet) : firewall.forward(&packet)) == verdict, "\(source)")
            }
        }
    }

    /// What this host asks in its own name elsewhere is none of the rules' business, and neither is the answer.
    @Test func answersFromOutsideReachTheHostsAddress() throws {
        var firewall = try firewall("{from: [ana], to: [fra]}")
        for (isReply, isTracked, verdict) in [
            (true, true, .accepted), (false, true, .refused), (true, false, .refused),
        ] as [(Bool, Bool, ModelFirewall.Verdict)] {
            var packet = try packet("192.168.7.9", "10.80.0.1", in: "br0") {
                $0.isReply = isReply
                $0.isTracked = isTracked
            }
            #expect(firewall.receive(&packet) == verdict)
        }
    }

    /// Clouds give a machine its credentials at a link-local address; what is behind a node has to be named.
    @Test func theInternetIsNeitherNearNorBehindANode() throws {
        let exit = "allowedIPs: [172.17.0.0/16, \"fd00:17::/64\"]"
        let both = ("10.80.0.1, \"fd80::1\"", "10.80.1.7, \"fd80::107\"")
        let mesh = try topology(
            exit: "masquerade: true\n    \(exit)", more: "access: [{from: [ana], to: [internet]}]",
            ranges: "10.80.0.0/16, \"fd80::/48\"", addresses: both)
        for (peer, target, fate) in [
            ("10.80.1.7", "198.51.100.9", .accepted), ("10.80.1.7", "192.168.9.9", .accepted),
            ("10.80.1.7", "169.254.169.254", .refused), ("10.80.1.7", "172.17.0.2", .refused),
            ("fd80::107", "2001:db8::9", .accepted), ("fd80::107", "fe80::a9fe:a9fe", .refused),
            ("fd80::107", "fd00:17::2", .refused),
        ] as [(String, String, ModelFirewall.Verdict)] {
            var firewall = try mesh.firewall(of: "fra")
            let ways = try exchange(peer, to: (target, 80), ledTo: (target, 80), from: "wg0", to: "eth0")
            #expect(firewall.forward(ways) == fate, "\(target)")
        }
    }

    /// Not at the host's own other addresses, not at a port that it publishes there.
    @Test(arguments: [("10.80.1.7", "198.51.100.9", "192.168.7.1"), ("fd80::107", "2001:db8::9", "fd00:7::1")])
    func theInternetLiesBeyondTheHost(_ peer: String, _ outside: String, _ own: String) throws {
        func firewall(_ access: String) throws -> ModelFirewall {
            try topology(
                client: "endpoint: 192.0.2.7", more: "access: [\(access)]", ranges: "10.80.0.0/16, \"fd80::/48\"",
                addresses: ("10.80.0.1, \"fd80::1\"", "10.80.1.7, \"fd80::107\"")
            ).firewall(of: "fra")
        }
        for (rules, reached) in [
            ("{from: [ana], to: [internet]}", [outside]),
            ("{from: [ana], to: [192.168.7.0/24, \"fd00:7::/64\"]}", [own]),
            ("{from: [ana], to: [internet]}, {from: [ana], to: [192.168.7.0/24, \"fd00:7::/64\"]}", [outside, own]),
            ("{from: [ana], to: [0.0.0.0/0, \"::/0\"]}", [outside, own]),
        ] {
            var firewall = try firewall(rules)
            let ways = try exchange(peer, to: (outside, 80), ledTo: (outside, 80), from: "wg0", to: "eth0")
            #expect(firewall.forward(ways) == (reached.contains(outside) ? .accepted : .refused), "\(rules)")
            var here = try packet(peer, own, in: "wg0")
            #expect(firewall.receive(&here) == (reached.contains(own) ? .accepted : .refused), "\(rules)")
            let container = peer.contains(":") ? "fd00:17::2" : "172.17.0.2"
            let published = try exchange(peer, to: (own, 8080), ledTo: (container, 80), from: "wg0", to: "docker0")
            #expect(firewall.forward(published) == (reached.contains(own) ? .accepted : .refused), "\(rules)")
        }
        // What is to all on the mesh's network is to this host.
        var many = try firewall("{from: [ana], to: [internet]}")
        for group in ["224.0.0.251", "255.255.255.255"] where !peer.contains(":") {
            var packet = try packet(peer, group, in: "wg0")
            #expect(many.receive(&packet) == .refused)
        }
        // What this host asks there itself, through another exit, is answered.
        var client = try topology(more: "access: [{from: [ana], to: [internet]}]").firewall(of: "ana")
        for (sender, verdict) in [("198.51.100.9", ModelFirewall.Verdict.accepted), ("10.80.0.1", .refused)] {
            var answer = try packet(sender, "10.80.1.7", in: "wg0") { $0.isReply = true }
            #expect(client.receive(&answer) == verdict)
        }
    }

    @Test func packetsOfNoFlowAreRefused() throws {
        var firewall = try firewall("{from: [ana, fra], to: [ana, fra]}")
        for (source, destination, input, output) in [
            ("10.80.1.7", "10.80.0.1", "wg0", ""), ("172.17.0.2", "10.80.1.7", "docker0", "wg0"),
        ] {
            var packet = try packet(source, destination, in: input, out: output) { $0.isTracked = false }
            #expect((output.isEmpty ? firewall.receive(&packet) : firewall.forward(&packet)) == .refused)
        }
    }
}
