// The name servers that a host asks by itself.

import Glibc
import Testing
import WeftModel

@testable import WeftLinux

@Suite(.enabled(if: TestNamespace.obstacle == nil, TestNamespace.obstacle))
struct NameServersTests {
    private func servers(_ resolv: String, resolved: String? = nil) throws -> [String] {
        let folder = TemporaryFolder()
        system("mkdir -p '\(folder.path)/etc' '\(folder.path)/run/systemd/resolve'")
        system("printf '\(resolv)' >'\(folder.path)/etc/resolv.conf'")
        if let resolved { system("printf '\(resolved)' >'\(folder.path)/run/systemd/resolve/resolv.conf'") }
        return try HostFeatures().nameServers(root: folder.path).map(\.description)
    }

    @Test func areThoseOfResolvConf() throws {
        let text = "# nameserver 1.1.1.1\\nsearch lan\\nnameserver 192.168.1.1\\nnameserver\\tfe80::1%%eth0\\n"
        #expect(
            try servers(text + "nameserver 192.168.1.1\\nnameserver\\nnameserver nonsense\\n") == [
                "192.168.1.1", "fe80::1",
            ])
        #expect(try servers("") == [])
    }

    @Test func areThoseOfResolvedWhereItStandsBetween() throws {
        let stub = "nameserver 127.0.0.53\\n"
        #expect(try servers(stub, resolved: "nameserver 10.0.0.1\\n") == ["10.0.0.1"])
        #expect(try servers(stub) == [])
        #expect(
            try servers(stub + "nameserver 10.0.0.2\\n", resolved: "nameserver 10.0.0.1\\n") == [
                "127.0.0.53", "10.0.0.2",
            ])
    }
}
