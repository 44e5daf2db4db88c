// Turning WireGuard's debug lines on and back, by a file that stands for the kernel's.

import Glibc
import Testing

@testable import WeftLinux

@Suite struct WireGuardLogTests {
    private let temporary = TemporaryFolder()

    private func line(_ number: Int, _ flags: String) -> String {
        "drivers/net/wireguard/send.c:\(number) [wireguard]wg_packet_send =\(flags) \"%s: Sending to peer %llu\\012\""
    }

    /// What is written goes over the file's beginning; the kernel's own takes each write as an order.
    private func control(_ lines: String...) -> String {
        temporary.write(
            (["# filename:lineno [module]function flags format", "init/main.c:7 [main]run =p \"[wireguard]\""] + lines)
                .joined(separator: "\n") + "\n", to: "control")
    }

    @Test func turnsThemOnAndOff() throws {
        let path = control(line(34, "_"), line(55, "_"))
        let log = try WireGuardLog(controls: ["/nonexistent", path])
        #expect(contents(of: path).hasPrefix("module wireguard +p\n"))
        try log.restore()
        #expect(contents(of: path).hasPrefix("module wireguard -p\n"))
    }

    @Test func whatWasOnStaysOn() throws {
        let path = control(line(34, "pf"), line(55, "_"))
        let log = try WireGuardLog(controls: [path])
        try log.restore()
        #expect(contents(of: path).hasPrefix("file drivers/net/wireguard/send.c line 34 +p\n"))
        let all = control(line(34, "p"))
        let before = contents(of: all)
        try WireGuardLog(controls: [all]).restore()
        #expect(contents(of: all) == before)
    }

    @Test func saysWhyNot() throws {
        #expect(
            throws: WireGuardLog.Problem(description: "this kernel has no dynamic debug, or debugfs is not mounted")
        ) {
            try WireGuardLog(controls: ["/nonexistent"])
        }
        let path = control()
        let error = #expect(throws: WireGuardLog.Problem.self) { try WireGuardLog(controls: [path]) }
        #expect(error?.description.contains("is not loaded") == true)
    }
}
