// What must not be cut off: sessions, git remotes and name servers, read from files and from the kernel.

import CLinux
import Glibc
import Testing
import WeftModel

@testable import WeftLinux

@Suite struct OutsideTests {
    private func connection(_ remote: String, _ remotePort: UInt16, _ local: String, _ port: UInt16) throws
        -> TCPConnection
    {
        TCPConnection(
            local: SocketAddress(try #require(IPAddress(local)), port: port),
            remote: SocketAddress(try #require(IPAddress(remote)), port: remotePort))
    }

    private func put(_ folder: TemporaryFolder, _ name: String, _ text: String) {
        system("mkdir -p \"$(dirname '\(folder.path)/\(name)')\"")
        folder.write(text, to: name)
    }

    @Test(
        arguments: [
            ("https://git.example.net/corp.git", "git.example.net", 443),
            ("http://git.example.net:3000/x", "git.example.net", 3000),
            ("ssh://git@192.0.2.9/corp.git", "192.0.2.9", 22),
            ("ssh://git@[2001:db8::9]:2222/corp.git", "2001:db8::9", 2222),
            ("git@git.example.net:corp.git", "git.example.net", 22),
            ("git.example.net:corp.git", "git.example.net", 22),
            ("git://git.example.net/x", "git.example.net", 9418),
        ] as [(String, String, UInt16)])
    func remotes(url: String, host: String, port: UInt16) throws {
        let remote = try #require(GitRemote(url))
        #expect(remote.host == host && remote.port == port)
    }

    @Test(arguments: ["/srv/git/corp.git", "./a:b", "file:///srv/git", "", "ssh:///x", "corp.git"])
    func noRemotes(url: String) { #expect(GitRemote(url) == nil) }

    @Test func theRemoteOfAFolderAboveIsFound() throws {
        let folder = TemporaryFolder()
        put(
            folder, "repository/.git/config",
            "[core]\n\tbare = false\n[remote \"other\"]\n\turl = /x\n[remote \"origin\"]\n\turl = git@192.0.2.9:corp.git\n"
        )
        put(folder, "repository/mesh/nodes/fra.yaml", "")
        let outside = Outside()
        #expect(outside.gitRemote(of: "\(folder.path)/repository/mesh/nodes")?.host == "192.0.2.9")
        #expect(outside.gitRemote(of: "\(folder.path)/repository")?.port == 22)
        #expect(outside.gitRemote(of: folder.path) == nil)
        #expect(
            outside.gitRemote(of: "\(folder.path)/repository")?.addresses() == [
                SocketAddress(try #require(IPAddress("192.0.2.9")), port: 22)
            ])
    }

    @Test func nameServers() {
        let folder = TemporaryFolder()
        let outside = Outside(etc: "\(folder.path)/etc", run: "\(folder.path)/run")
        #expect(outside.nameServers.isEmpty)
        put(folder, "run/systemd/resolve/resolv.conf", "nameserver 192.0.2.53\nnameserver 2001:db8::53\n")
        #expect(outside.nameServers.isEmpty)
        put(folder, "etc/resolv.conf", "# local\nnameserver 127.0.0.53\noptions edns0\n")
        #expect(outside.nameServers.map(\.description) == ["192.0.2.53", "2001:db8::53"])
        put(folder, "etc/resolv.conf", "nameserver\t192.168.0.1\nnameserver fe80::1%eth0\nnameserver 127.0.0.1\n")
        #expect(outside.nameServers.map(\.description) == ["192.168.0.1"])
    }

    @Test func portsOfSSHD() {
        let folder = TemporaryFolder()
        let outside = Outside(etc: folder.path)
        #expect(outside.sessionPorts == [22])
        put(folder, "ssh/sshd_config", "#Port 23\nPermitRootLogin no\n")
        #expect(outside.sessionPorts == [22])
        put(folder, "ssh/sshd_config.d/10-port.conf", "Port 2222\nport 2223\n")
        #expect(outside.sessionPorts == [2222, 2223])
    }

    @Test func sessions() throws {
        let folder = TemporaryFolder()
        let outside = Outside(proc: folder.path)
        let found = try connection("203.0.113.9", 40_022, "192.0.2.1", 22)
        #expect(outside.session(environment: "203.0.113.9 40022 192.0.2.1 22") == found)
        for text in [
            "", "203.0.113.9 40022 192.0.2.1", "a b c d", "127.0.0.1 40022 127.0.0.1 22",
            "203.0.113.9 70000 192.0.2.1 22",
        ] {
            #expect(outside.session(environment: text) == nil, "\(text)")
        }
        // sudo has dropped it: somebody further up still has it.
        #expect(outside.session(environment: nil) == nil)
        let own = getpid()
        put(folder, "\(own)/environ", "PATH=/bin\u{0}")
        put(folder, "\(own)/stat", "\(own) (weft) (x)) S 70001 1 1 0")
        put(folder, "70001/environ", "SUDO_USER=ana\u{0}SSH_CONNECTION=203.0.113.9 40022 192.0.2.1 22\u{0}")
        #expect(outside.session(environment: nil) == found)
    }

    /// A connection over the loopback interface: what is taken is acknowledged, and what is not waits.
    @Test func progressOfAConnection() throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(client) }
        var own = sockaddr_in()
        let isConnected = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(listener, pointer, length) == 0 && listen(listener, 1) == 0
                    && getsockname(listener, pointer, &length) == 0 && connect(client, pointer, length) == 0
            }
        }
        try #require(isConnected)
        _ = withUnsafeMutablePointer(to: &own) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(client, $0, &length) }
        }
        let connection = try connection(
            "127.0.0.1", UInt16(bigEndian: address.sin_port), "127.0.0.1", UInt16(bigEndian: own.sin_port))
        let sockets = try TCPSockets()
        let before = try #require(sockets.progress(of: connection))
        let text = Array("hello".utf8)
        #expect(send(client, text, text.count, 0) == text.count)
        var after = sockets.progress(of: connection)
        // The loopback interface acknowledges at once, or after a delayed acknowledgement's time.
        for _ in 0..<100 where after?.waiting != 0 {
            usleep(10_000)
            after = sockets.progress(of: connection)
        }
        #expect(after?.acknowledged == before.acknowledged + UInt64(text.count))
        #expect(sockets.progress(of: TCPConnection(local: connection.remote, remote: connection.remote)) == nil)
        #expect(sockets.connections(to: [connection.remote.port]).isEmpty)
    }
}
