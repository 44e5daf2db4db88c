// Name servers of a link, told to programs that stand in for resolvectl and resolvconf.

import Glibc
import Testing
import WeftModel
import WeftPlan

@testable import WeftLinux

struct ResolverProgramsTests {
    /// A host's programs, state and /proc, in a folder.
    private final class Host {
        let folder = TemporaryFolder()
        let state: StateFolder
        var resolver: ResolverPrograms { resolver(patience: .seconds(10)) }

        init() {
            for name in ["bin", "proc/1/ns", "proc/thread-self/ns", "etc/resolvconf", "store", "state"] {
                system("mkdir -p '\(folder.path)/\(name)'")
            }
            symlink("net:[7]", "\(folder.path)/proc/thread-self/ns/net")
            state = StateFolder(path: "\(folder.path)/state", namespace: "host", bootID: "boot-1")
        }

        func resolver(patience: Duration, boot: String? = nil) -> ResolverPrograms {
            let state = boot.map { StateFolder(path: "\(folder.path)/state", namespace: "host", bootID: $0) }
            return ResolverPrograms(
                state ?? self.state, environment: ["PATH": "\(folder.path)/bin:/usr/bin:/bin"],
                proc: "\(folder.path)/proc", etc: "\(folder.path)/etc", patience: patience)
        }

        func program(_ name: String, _ script: String) {
            let path = "\(folder.path)/bin/\(name)"
            folder.write(
                "#!/bin/sh\nstore=\(folder.path)/store\necho \"$@\" >>$store/calls\n\(script)\n", to: "bin/\(name)")
            chmod(path, 0o755)
        }

        /// As systemd-resolved's: it keeps what it is told for each link and verb.
        func addResolved(namespace: String = "net:[7]") {
            folder.write("systemd-resolve\n", to: "proc/1/comm")
            unlink("\(folder.path)/proc/1/ns/net")
            symlink(namespace, "\(folder.path)/proc/1/ns/net")
            program(
                "resolvectl",
                """
                case $1 in
                revert) rm -f $store/*.$2; exit ;;
                esac
                if [ $# = 2 ]; then
                    echo "Link 7 ($2): $(cat $store/$1.$2 2>/dev/null)"
                else
                    verb=$1 link=$2; shift 2; echo "$@" >$store/$verb.$link
                fi
                """)
        }

        /// As openresolv's.
        func addResolvconf() {
            program(
                "resolvconf",
                """
                case $1 in
                -a) echo "# resolv.conf from $2" >$store/conf.$2; cat >>$store/conf.$2 ;;
                -d) rm $store/conf.$2 ;;
                -l) echo "# resolv.conf from eth0"; echo nameserver 192.0.2.1; cat $store/conf.$2 ;;
                esac
                """)
        }

        var calls: [String] {
            contents(of: "\(folder.path)/store/calls").split(separator: "\n").map(String.init)
        }

        func forgetCalls() { unlink("\(folder.path)/store/calls") }

        func read(isWanted: Bool = true, hasLink: Bool = true) throws(DataplaneError) -> ResolverSetting? {
            try resolver.read("wg0", isWanted: isWanted, hasLink: hasLink)
        }
    }

    private func setting(_ servers: [String], _ domains: [String] = []) -> ResolverSetting {
        ResolverSetting(interface: "wg0", servers: servers.compactMap { IPAddress($0) }, domains: domains)
    }

    private func set(_ setting: ResolverSetting, on host: Host) -> Outcome {
        host.resolver.perform(.set(setting, old: nil))
    }

    @Test func prefersResolvedWhereItRuns() {
        let host = Host()
        #expect(host.resolver.available() == [])
        host.addResolvconf()
        #expect(host.resolver.available() == [.resolvconf])
        host.addResolved(namespace: "net:[8]")
        // It runs in another network namespace, where our link's number is somebody else's.
        #expect(host.resolver.available() == [.resolvconf])
        host.addResolved()
        #expect(host.resolver.available() == [.resolved, .resolvconf])
        // systemd's own `resolvconf` is nothing without it.
        unlink("\(host.folder.path)/bin/resolvconf")
        symlink("../bin/resolvectl", "\(host.folder.path)/bin/resolvconf")
        #expect(host.resolver.available() == [.resolved])
        unlink("\(host.folder.path)/proc/1/comm")
        #expect(host.resolver.available() == [])
    }

    @Test func startsNothingThatNobodyAskedFor() throws {
        let host = Host()
        host.addResolved()
        host.addResolvconf()
        #expect(try host.read(isWanted: false) == nil)
        #expect(host.resolver.perform(.clear(setting(["10.80.0.1"]))) == .already)
        #expect(host.calls == [])
        #expect(try host.read() == nil)
    }

    @Test(arguments: [["10.80.0.1"], ["10.80.0.1", "fd80::1"]], [[], ["corp.internal"], ["a.example", "b.example"]])
    func tellsResolvedReadsAndUndoes(_ servers: [String], _ domains: [String]) throws {
        let host = Host()
        host.addResolved()
        let wanted = setting(servers, domains)
        #expect(set(wanted, on: host) == .done)
        #expect(
            host.calls == [
                "dns wg0 \(servers.joined(separator: " "))",
                "domain wg0 \(domains.isEmpty ? "~." : domains.joined(separator: " "))",
                "default-route wg0 \(domains.isEmpty ? "yes" : "no")",
            ])
        #expect(try host.read() == wanted)
        // Nobody wants it any more: it is on record, seen, and undone.
        #expect(try host.read(isWanted: false) == wanted)
        #expect(try host.read(isWanted: false, hasLink: false) == nil)
        #expect(host.resolver.perform(.clear(wanted)) == .done)
        #expect(host.calls.last == "revert wg0")
        host.forgetCalls()
        #expect(try host.read(isWanted: false) == nil)
        #expect(host.resolver.perform(.clear(wanted)) == .already)
        #expect(host.calls == [])
    }

    @Test(arguments: [
        ("dns.wg0", "10.80.0.2"), ("dns.wg0", ""), ("dns.wg0", "10.80.0.1 10.80.0.2"), ("dns.wg0", "10.80.0.1:54"),
        ("domain.wg0", "corp.internal other.example"), ("domain.wg0", "~corp.internal"), ("domain.wg0", ""),
        ("domain.wg0", "~."), ("default-route.wg0", "yes"),
    ])
    func whatWasChangedInResolvedShows(_ file: String, _ content: String) throws {
        let host = Host()
        host.addResolved()
        let wanted = setting(["10.80.0.1"], ["corp.internal"])
        #expect(set(wanted, on: host) == .done)
        host.folder.write(content + "\n", to: "store/\(file)")
        let live = try host.read()
        #expect(live != nil)
        #expect(live != wanted)
        #expect(set(wanted, on: host) == .done)
        #expect(try host.read() == wanted)
    }

    @Test(arguments: [[], ["corp.internal", "b.example"]])
    func tellsResolvconfReadsAndUndoes(_ domains: [String]) throws {
        let host = Host()
        host.addResolvconf()
        var wanted = setting(["10.80.0.1", "fd80::1"], domains)
        wanted.isForAllNames = true
        #expect(try host.read() == nil)
        #expect(set(wanted, on: host) == .done)
        #expect(host.calls.last == "-a wg0 -m 0 -x")
        #expect(try host.read() == wanted)
        // It stays when the link goes.
        #expect(try host.read(isWanted: false, hasLink: false) == wanted)
        host.folder.write("# resolv.conf from wg0\nnameserver 10.80.0.9\noptions rotate\n", to: "store/conf.wg0")
        let strange = try #require(try host.read())
        #expect(strange.domains == ["(options rotate)"] && strange.isForAllNames)
        // What is to be routed alone cannot be, and is not searched in.
        #expect(set(setting(["10.80.0.1"], ["~corp.internal", "b.example"]), on: host) == .done)
        #expect(try host.read()?.domains == ["b.example"])
        #expect(host.resolver.perform(.clear(wanted)) == .done)
        #expect(host.calls.last == "-d wg0 -f")
        host.forgetCalls()
        #expect(try host.read(isWanted: false) == nil)
        #expect(host.calls == [])
    }

    /// Debian's resolvconf asks in the order of names, and a name that it does not know comes last.
    @Test func takesANameThatComesFirst() throws {
        let host = Host()
        host.addResolvconf()
        host.folder.write(
            "# order\nlo.inet6\nlo.@(dnsmasq|pdnsd)\nlo\ntun*\ntap*\n*\n", to: "etc/resolvconf/interface-order")
        let wanted = setting(["10.80.0.1"])
        #expect(set(wanted, on: host) == .done)
        #expect(host.calls.last == "-a tun.wg0 -m 0 -x")
        #expect(try host.read() == wanted)
        // It is undone under the name that it was given, whatever the order says now.
        unlink("\(host.folder.path)/etc/resolvconf/interface-order")
        #expect(try host.read() == wanted)
        #expect(host.resolver.perform(.clear(wanted)) == .done)
        #expect(host.calls.last == "-d tun.wg0 -f")
    }

    @Test func movesToTheOneThatRunsNow() throws {
        let host = Host()
        host.addResolvconf()
        let wanted = setting(["10.80.0.1"])
        #expect(set(wanted, on: host) == .done)
        host.addResolved()
        // What is told is told; a change goes to the one that is asked now, and is taken back from the other.
        #expect(try host.read() == wanted)
        let other = setting(["10.80.0.2"])
        #expect(set(other, on: host) == .done)
        #expect(host.calls.contains("-d wg0 -f"))
        #expect(try host.read() == other)
        #expect(host.calls.last == "domain wg0")
    }

    @Test func aRecordOfAnotherBootIsVoid() throws {
        let host = Host()
        host.addResolvconf()
        #expect(set(setting(["10.80.0.1"]), on: host) == .done)
        host.forgetCalls()
        let later = host.resolver(patience: .seconds(10), boot: "boot-2")
        #expect(try later.read("wg0", isWanted: false, hasLink: true) == nil)
        #expect(host.calls == [])
    }

    @Test func saysWhatIsMissing() {
        let host = Host()
        let error = failure(set(setting(["10.80.0.1"]), on: host))
        #expect(error?.code == .unsupported)
        #expect(error?.message.contains("install openresolv") == true)
    }

    @Test func saysWhatAProgramSaid() throws {
        let host = Host()
        host.addResolved()
        host.program("resolvectl", "echo 'Failed to set DNS configuration: Link wg0 is loopback device.' >&2; exit 1")
        let error = try #require(failure(set(setting(["10.80.0.1"]), on: host)))
        #expect(error.message.contains("Link wg0 is loopback device"))
        #expect(error.operation == "resolvectl dns wg0 10.80.0.1")
        // What cannot be read counts as not there, and what was begun is on record.
        #expect(try host.read() == nil)
        host.addResolved()
        #expect(host.resolver.perform(.clear(setting(["10.80.0.1"]))) == .done)
    }

    /// systemd 239 knows no `default-route`.
    @Test func doesWithoutWhatOldVersionsLack() throws {
        let host = Host()
        host.addResolved()
        let script = contents(of: "\(host.folder.path)/bin/resolvectl")
        host.program(
            "resolvectl",
            "case $1 in default-route) echo 'Unknown operation default-route.' >&2; exit 1;; esac\n\(script)")
        let wanted = setting(["10.80.0.1"], ["corp.internal"])
        #expect(set(wanted, on: host) == .done)
        #expect(try host.read() == wanted)
    }

    @Test func endsAProgramThatHangs() throws {
        let host = Host()
        host.addResolvconf()
        host.program("resolvconf", "sleep 60 & echo $! >$store/child; wait")
        let start = ContinuousClock.now
        let outcome = host.resolver(patience: .seconds(2)).perform(.set(setting(["10.80.0.1"]), old: nil))
        #expect(ContinuousClock.now - start < .seconds(30))
        #expect(failure(outcome)?.message.contains("did not end") == true)
        let child = Int32(contents(of: "\(host.folder.path)/store/child").split(separator: "\n").first ?? "") ?? -1
        // With all that it has started; init takes what is left of it.
        var isGone = false
        for _ in 0..<100 where !isGone {
            isGone = kill(child, 0) != 0 || contents(of: "/proc/\(child)/stat").contains(") Z ")
            usleep(10_000)
        }
        #expect(child > 0 && isGone)
    }
}
