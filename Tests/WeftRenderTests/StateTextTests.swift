// Desired states as `weft show` prints them.

import Testing
import WeftModel

@testable import WeftRender

@Suite struct StateTextTests {
    @Test func withAllFacts() throws {
        try expectGolden(StateText(StateDocument(Samples.desired)).text, "show.txt")
    }

    @Test func withoutFacts() throws {
        try expectGolden(StateText(Samples.stateWithoutFacts).text, "show-without-facts.txt")
    }

    @Test func disabled() throws {
        let desired = DesiredState(mesh: "corp", interface: "wg0", node: "fra", state: HostState())
        #expect(
            StateText(StateDocument(desired)).text == """
                fra in mesh corp, interface wg0

                  The mesh is not on this host.

                """)
    }

    @Test func saysWhatTheHostDecides() {
        #expect(StateDocument(Samples.desired).decidedOnHost == ["device.privateKey"])
        #expect(
            Samples.stateWithoutFacts.decidedOnHost == [
                "link.mtu", "device.privateKey", "device.listenPort", "peers.endpoint", "peers.presharedKey",
                "sysctls",
            ])
    }
}

extension Samples {
    static var stateWithoutFacts: StateDocument {
        var desired = desired
        desired.state.device?.privateKey = nil
        desired.state.device?.listenPort = nil
        desired.state.device?.fwMark = 0xCA6C
        for index in desired.state.peers.indices {
            desired.state.peers[index].presharedKey = .none
            if desired.endpointNames[desired.state.peers[index].publicKey] != nil {
                desired.state.peers[index].endpoint = nil
            }
        }
        desired.state.sysctls.append(Sysctl("net/ipv6/conf/all/forwarding", "1"))
        return StateDocument(
            desired, decidedOnHost: HostDecisions(mtu: true, presharedKeys: true, routerAdvertisements: true))
    }
}
