// Network managers and the older iptables: named where they may undo or drop what a mesh needs.

import Glibc
import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

struct NetworkManagersTests {
    private let folder = TemporaryFolder()

    init() {
        for name in [
            "proc/1/ns", "proc/2/ns", "proc/thread-self/ns", "run/systemd/netif", "run/NetworkManager/conf.d",
            "etc/systemd/networkd.conf.d", "etc/NetworkManager/conf.d", "usr/lib/systemd/networkd.conf.d",
            "usr/lib/NetworkManager/conf.d",
        ] {
            system("mkdir -p '\(folder.path)/\(name)'")
        }
        symlink("net:[7]", "\(folder.path)/proc/thread-self/ns/net")
    }

    private func start(_ name: String, namespace: String = "net:[7]") {
        folder.write(name + "\n", to: "proc/1/comm")
        unlink("\(folder.path)/proc/1/ns/net")
        symlink(namespace, "\(folder.path)/proc/1/ns/net")
    }

    private func found(routes: Bool = true, rules: Bool = true) -> [ForeignObject] {
        NetworkManagers(proc: "\(folder.path)/proc", root: folder.path, interface: "wg0")
            .read(routes: routes, rules: rules)
    }

    @Test func namesNetworkdUntilItIsToldToLetBe() {
        #expect(found() == [])
        start("systemd-network", namespace: "net:[8]")
        #expect(found() == [])
        start("systemd-network")
        #expect(found().map(\.kind) == ["manager"])
        #expect(found().first?.relation == .hinders)
        #expect(found().first?.description.contains("removes routes and policy rules") == true)
        #expect(found().first?.remedy.contains("/etc/systemd/networkd.conf.d/weft.conf") == true)
        #expect(found(routes: true, rules: false).first?.remedy.contains("RoutingPolicy") == false)
        #expect(found(routes: false, rules: false) == [])
        folder.write("[Network]\nManageForeignRoutes = no\n", to: "etc/systemd/networkd.conf")
        #expect(found().first?.description.contains("removes policy rules that") == true)
        folder.write(
            "# ours\n[Network]\nManageForeignRoutingPolicyRules=false\n", to: "etc/systemd/networkd.conf.d/weft.conf")
        #expect(found() == [])
        // A drop-in that counts later has the last word.
        folder.write("[Network]\nManageForeignRoutes=yes\n", to: "usr/lib/systemd/networkd.conf.d/zz.conf")
        #expect(found().first?.description.contains("removes routes that") == true)
        folder.write("", to: "etc/systemd/networkd.conf.d/zz.conf")
        #expect(found() == [])
    }

    @Test(arguments: ["etc/nftables.conf", "etc/sysconfig/nftables.conf"])
    func namesWhatFlushesAllTables(_ path: String) {
        let wants = "etc/systemd/system/sysinit.target.wants"
        system("mkdir -p '\(folder.path)/\(wants)' '\(folder.path)/etc/sysconfig'")
        func flushers() -> [ForeignObject] {
            NetworkManagers(proc: "\(folder.path)/proc", root: folder.path, interface: "wg0").flushers()
        }
        folder.write("#!/usr/sbin/nft -f\n\nflush ruleset\ntable inet filter {\n}\n", to: path)
        #expect(flushers() == [])
        folder.write("", to: "\(wants)/nftables.service")
        #expect(flushers().map(\.kind) == ["manager"])
        #expect(flushers().first?.description.hasSuffix("`flush ruleset` in /\(path)") == true)
        start("another", namespace: "net:[8]")
        #expect(flushers() == [])
        start("systemd", namespace: "net:[7]")
        #expect(flushers().count == 1)
        folder.write("# flush ruleset\ntable inet filter\ndelete table inet filter\n", to: path)
        #expect(flushers() == [])
    }

    /// What the remedy says is a command, and doing it is enough.
    @Test(arguments: ["systemd-network", "NetworkManager"])
    func theRemedyIsEnough(_ name: String) throws {
        start(name)
        let remedy = try #require(found().first?.remedy)
        let command = remedy.split(separator: "`")[1].split(separator: ";").dropLast().joined(separator: ";")
        #expect(system(command.replacing("/etc", with: "\(folder.path)/etc")) == 0)
        #expect(found() == [])
    }

    @Test(arguments: [
        ("[keyfile]\nunmanaged-devices=interface-name:wg0", true),
        ("[keyfile]\nunmanaged-devices=mac:00:11:22:33:44:55;interface-name:wg*", true),
        ("[keyfile]\nunmanaged-devices=type:wireguard", true), ("[keyfile]\nunmanaged-devices=*", true),
        ("[keyfile]\nunmanaged-devices=*,except:interface-name:wg0", false),
        ("[keyfile]\nunmanaged-devices=interface-name:wg1", false),
        ("[main]\nunmanaged-devices=interface-name:wg0", false),
        ("[device-x]\nmatch-device=interface-name:wg*\nmanaged=0", true),
        ("[device-x]\nmatch-device=interface-name:wg*\nmanaged=1", false),
    ])
    func knowsWhatNetworkManagerWasTold(_ text: String, _ isSilent: Bool) {
        start("NetworkManager")
        #expect(found().count == 1)
        folder.write(text + "\n", to: "usr/lib/NetworkManager/conf.d/10-x.conf")
        #expect(found().isEmpty == isSilent)
    }
}

struct LegacyTablesTests {
    private let folder = TemporaryFolder()

    @Test func namesTablesThatItCannotSeeInto() {
        func found(_ port: UInt16?) -> [ForeignObject] {
            LegacyTables(proc: folder.path, interface: "wg0", port: port).read()
        }
        // A kernel without them has no such files, and one where nobody used them has nothing in them.
        #expect(found(nil) == [])
        system("mkdir -p '\(folder.path)/thread-self/net'")
        folder.write("", to: "thread-self/net/ip_tables_names")
        folder.write("", to: "thread-self/net/ip6_tables_names")
        #expect(found(nil) == [])
        folder.write("nat\nfilter\n", to: "thread-self/net/ip_tables_names")
        #expect(
            found(51_820).map(\.description) == [
                "iptables has the tables filter, nat (IPv4): weft cannot see into these"
            ])
        #expect(found(51_820).first?.relation == .leftAlone)
        #expect(found(51_820).first?.remedy.contains("`iptables-legacy-save`") == true)
        #expect(found(51_820).first?.remedy.contains("UDP port 51820, or wg0") == true)
        folder.write("raw\n", to: "thread-self/net/ip6_tables_names")
        #expect(
            found(nil).last?.description == "ip6tables has the table raw (IPv6): weft cannot see into these")
        #expect(found(nil).last?.remedy.contains("accepts wg0.") == true)
    }
}
