// Real wireguard-go in a network namespace with a /run of its own: started, known again, spoken to, and ended.

import CLinux
import Glibc
import Testing
import WeftKeys
import WeftModel
import WeftPlan

@testable import WeftLinux

/// Each test runs in a process of its own, in namespaces that end with it.
@Suite(.enabled(if: canRunDevices, "needs root, /dev/net/tun, wireguard-go and wg"))
struct UserspaceProgramsTests {
    @Test func aDeviceIsStartedConfiguredReadAndEnded() async {
        await #expect(processExitsWith: .success) {
            let bed = Bed()
            var programs = bed.programs()
            check(!programs.isOurs(interface: "wg0"))
            try programs.start(interface: "wg0")
            check(programs.isOurs(interface: "wg0"))
            check(if_nametoindex("wg0") != 0)

            let secret = [UInt8](repeating: 0x3f, count: 32)
            let key = bed.arena.insert(clamped(secret).span)
            let preshared = bed.arena.insert([UInt8](repeating: 0x77, count: 32).span)
            var control = programs.control(interface: "wg0")
            var device = DeviceOperation(interface: "wg0")
            device.privateKey = key
            device.listenPort = 40_001
            device.fwMark = 0xca6c
            check(control.perform(device) == .done)
            let endpoint = SocketAddress(IPAddress(v4: 0x7f00_0001), port: 40_002)
            let peer = Peer(
                publicKey: PublicKey(bigEndianWords: 9, 8, 7, 6), presharedKey: .tag(preshared),
                persistentKeepalive: 25, allowedIPs: [IPPrefix(IPAddress(v4: 10 << 24), length: 8)],
                endpoint: endpoint)
            check(control.perform([.add(peer)]) == [.done])

            var reading = try control.read()
            check(reading.device.privateKey == key)
            check(reading.device.listenPort == 40_001 && reading.device.fwMark == 0xca6c)
            check(reading.peers == [peer])
            // wg says the same.
            check(bash("wg show wg0 public-key") == (reading.device.publicKey?.base64 ?? "") + "\n")
            check(bash("wg show wg0 allowed-ips") == "\(peer.publicKey.base64)\t10.0.0.0/8\n")
            check(bash("wg show wg0 preshared-keys").hasSuffix("\td3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3c=\n"))

            // An explicit zero clears; an allowed IP goes with a throw-away peer, and nobody has it then.
            var change = PeerChange(of: peer)
            change.presharedKey = PresharedKey.none
            change.persistentKeepalive = 0
            change.removed = Array(peer.allowedIPs)
            change.added = [IPPrefix(IPAddress(v6: 0xfd00 << 48, 0), length: 64)]
            check(control.perform([.change(change)]) == [.done])
            reading = try control.read()
            check(reading.peers.count == 1)
            check(reading.peers.first?.presharedKey == PresharedKey.none)
            check(reading.peers.first?.persistentKeepalive == 0)
            check(reading.peers.first?.allowedIPs.description == "fd00::/64")
            check(reading.peers.first?.endpoint == endpoint)

            // What is at one peer moves by being added at another.
            var other = Peer(publicKey: PublicKey(bigEndianWords: 1, 1, 1, 1))
            other.allowedIPs = PrefixList(change.added)
            check(control.perform([.add(other), .remove(peer)]) == [.done, .done])
            reading = try control.read()
            check(reading.peers == [other])

            // A change of a peer that is not there makes none.
            check(control.perform([.change(change)]) == [.done])
            check(try control.read().peers.count == 1)
            try control.removeAllPeers()
            check(try control.read().peers.isEmpty)

            bash("ip link delete wg0")
            try programs.stop(interface: "wg0")
            check(!programs.isOurs(interface: "wg0"))
            check(bash("ls /run/wireguard") == "")
            check(try bed.state.programToken(of: "wg0") == nil)
            try programs.stop(interface: "wg0")
        }
    }

    @Test func aStartThatWasCutOffIsTakenUpAgain() async {
        await #expect(processExitsWith: .success) {
            let bed = Bed()
            // As a run leaves it that is killed after it started the program and before it did anything else.
            try bed.state.store(programToken: "0123", of: "wg0")
            bash("WEFT_DEVICE=0123 wireguard-go wg0")
            var programs = bed.programs()
            check(programs.isOurs(interface: "wg0"))
            try programs.start(interface: "wg0")
            check(try bed.state.programToken(of: "wg0") == "0123")
            bash("ip link delete wg0")
            try programs.stop(interface: "wg0")
            // A record without a program, as a run leaves it that is killed between the two, is in nobody's way.
            try bed.state.store(programToken: "0124", of: "wg0")
            check(!programs.isOurs(interface: "wg0"))
            try programs.start(interface: "wg0")
            check(programs.isOurs(interface: "wg0"))
            bed.end(programs)
        }
    }

    @Test func aProgramThatIsEndingIsNotTakenForItsSuccessor() async {
        await #expect(processExitsWith: .success) {
            let bed = Bed()
            // As it is for a moment after its link was taken away.
            try bed.state.store(programToken: "0127", of: "wg0")
            bash("WEFT_DEVICE=0127 sleep 0.3 >/dev/null 2>&1 &")
            var programs = bed.programs()
            try programs.start(interface: "wg0")
            check(programs.isOurs(interface: "wg0"))
            check(try bed.state.programToken(of: "wg0") != "0127")
            bed.end(programs)
        }
    }

    @Test func somebodyElsesDeviceIsNeverOurs() async {
        await #expect(processExitsWith: .success) {
            let bed = Bed()
            try bed.state.store(programToken: "0125", of: "wg0")
            bash("wireguard-go wg0")
            var programs = bed.programs()
            check(!programs.isOurs(interface: "wg0"))
            let found = failure { () throws(DataplaneError) in try programs.start(interface: "wg0") }
            check(found?.code == .obstructed)
            check(found?.message.contains("held by wireguard-go, process") ?? false)
            // It runs on.
            check(bash("wg show interfaces") == "wg0\n")
            // Also once its interface has another name, its socket is in the way.
            bash("ip link set wg0 name other")
            check(
                failure { () throws(DataplaneError) in try programs.start(interface: "wg0") }?.message.contains(
                    "another program answers") ?? false)
            bash("ip link delete other")
        }
    }

    @Test func aSocketThatAKilledProgramLeftIsNoObstacle() async {
        await #expect(processExitsWith: .success) {
            let bed = Bed()
            var programs = bed.programs()
            try programs.start(interface: "wg0")
            for process in MarkedProcesses().find(try bed.state.programToken(of: "wg0") ?? "") {
                kill(process, SIGKILL)
            }
            while if_nametoindex("wg0") != 0 { usleep(1000) }
            check(!programs.isOurs(interface: "wg0"))
            check(bash("ls /run/wireguard") == "wg0.sock\n")
            try programs.start(interface: "wg0")
            check(programs.isOurs(interface: "wg0"))
            bed.end(programs)
        }
    }

    /// A mesh may be taken down after its program was killed, and with it its link.
    @Test func whatAKilledProgramLeftIsCleared() async {
        await #expect(processExitsWith: .success) {
            let bed = Bed()
            var programs = bed.programs()
            try programs.start(interface: "wg0")
            let token = try bed.state.programToken(of: "wg0") ?? ""
            // While it lives, nothing of it is touched.
            try programs.clear(interface: "wg0")
            check(try bed.state.programToken(of: "wg0") == token)
            check(bash("ls /run/wireguard") == "wg0.sock\n")
            let killed = MarkedProcesses().find(token)
            for process in killed { kill(process, SIGKILL) }
            // Its environment goes first, then its files, in which order ever.
            for _ in 0..<10_000 where !killed.allSatisfy(hasEnded) { usleep(1000) }
            check(if_nametoindex("wg0") == 0)
            try programs.clear(interface: "wg0")
            check(bash("ls /run/wireguard") == "")
            check(try bed.state.programToken(of: "wg0") == nil)
            // A socket without a record is not ours to remove, whoever left it.
            bash(
                """
                cd /run/wireguard && perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "wg1.sock", Listen => 1)'
                """)
            check(bash("ls /run/wireguard") == "wg1.sock\n")
            try programs.clear(interface: "wg1")
            check(bash("ls /run/wireguard") == "wg1.sock\n")
        }
    }

    @Test func theProgramInheritsNothingAndOutlivesCtrlC() async {
        await #expect(processExitsWith: .success) {
            let bed = Bed()
            setenv("WEFT_TEST_SECRET", "1", 1)
            _ = dup2(open("/etc/hostname", O_RDONLY), 77)
            signal(SIGPIPE, SIG_IGN)
            var programs = bed.programs()
            try programs.start(interface: "wg0")
            let token = try bed.state.programToken(of: "wg0") ?? ""
            for process in MarkedProcesses().find(token) {
                check(getsid(process) != getsid(0))
                check(!bash("cat /proc/\(process)/environ").contains("WEFT_TEST_SECRET"))
                check(access("/proc/\(process)/fd/77", F_OK) != 0)
                check(bash("readlink /proc/\(process)/cwd") == "/\n")
                check(
                    bash("cat /proc/\(process)/cmdline").utf8.elementsEqual(Array("/usr/bin/wireguard-go\0wg0\0".utf8))
                )
            }
            bed.end(programs)
        }
    }

    @Test func whatIsMissingIsNamed() async {
        await #expect(processExitsWith: .success) {
            let bed = Bed()
            func start(_ environment: [String: String], tun: String = "/dev/net/tun") -> DataplaneError? {
                var programs = UserspacePrograms(bed.state, environment: environment, tun: tun)
                return failure { () throws(DataplaneError) in try programs.start(interface: "wg0") }
            }
            let none = start(["PATH": "/nonexistent"])
            check(none?.code == .noWireGuard && none?.message.contains("package wireguard-go") ?? false)
            let named = start(["PATH": "/usr/bin", "WG_QUICK_USERSPACE_IMPLEMENTATION": "no-such-program"])
            check(named?.code == .noWireGuard && named?.message.contains("\"no-such-program\"") ?? false)
            let tun = start(["PATH": "/usr/bin"], tun: "/nonexistent/tun")
            check(tun?.code == .noWireGuard && tun?.message.contains("modprobe tun") ?? false)
            // Programs that fail, say nothing, or say that they are not permitted to.
            let failing = start(["PATH": "/usr/bin", "WG_QUICK_USERSPACE_IMPLEMENTATION": "/bin/false"])
            check(failing?.message == "/bin/false: it ended with status 1")
            let quiet = start(["PATH": "/usr/bin", "WG_QUICK_USERSPACE_IMPLEMENTATION": "/bin/true"])
            check(quiet?.message == "/bin/true: it ended with status 0")
            let echo = start(["PATH": "/usr/bin", "WG_QUICK_USERSPACE_IMPLEMENTATION": "/bin/cat"])
            check(echo?.message.contains("No such file or directory") ?? false)
            check(try bed.state.programToken(of: "wg0") == nil)
        }
    }

    @Test func nothingIsStartedThatCannotBeRemembered() async {
        await #expect(processExitsWith: .success) {
            let bed = Bed()
            close(open("/run/state", O_WRONLY | O_CREAT, 0o600))
            var programs = bed.programs()
            check(failure { () throws(DataplaneError) in try programs.start(interface: "wg0") }?.code == .file)
            check(if_nametoindex("wg0") == 0)
        }
    }

    @Test func aProgramThatHangsIsNamed() async {
        await #expect(processExitsWith: .success) {
            let bed = Bed()
            var programs = bed.programs()
            try programs.start(interface: "wg0")
            // Not the one that put it into the background, and may be about to end.
            let started = MarkedProcesses().find(try bed.state.programToken(of: "wg0") ?? "")
            let process = started.first { MarkedProcesses().holds("wg0", $0) } ?? 0
            check(process != 0)
            stop(process)
            var control = UserspaceControl(
                interface: "wg0", sockets: ["/run/wireguard/wg0.sock"], patience: .milliseconds(100))
            let found = failure { () throws(DataplaneError) in _ = try control.read() }
            check(found?.message.contains("(wireguard-go, process \(process))") ?? false)
            check(found?.message.contains("kill -9 \(process)") ?? false)
            // Once its link is gone, it is ended although it hangs.
            kill(process, SIGCONT)
            bash("ip link set wg0 down")
            stop(process)
            try programs.stop(interface: "wg0")
            check(hasEnded(process))
        }
    }

    @Test func manyPeersAndManyAllowedIPsAreReadBackEqual() async {
        await #expect(processExitsWith: .success) {
            let bed = Bed()
            var programs = bed.programs()
            try programs.start(interface: "wg0")
            var control = programs.control(interface: "wg0")
            let preshared = bed.arena.insert([UInt8](repeating: 1, count: 32).span)
            let count: UInt64 = getenv("WEFT_NIGHTLY") == nil ? 1_000 : 10_000
            var peers = (1...count).map { number in
                Peer(
                    publicKey: PublicKey(bigEndianWords: number, number &* 0x9E37_79B9_7F4A_7C15, 3, 4),
                    presharedKey: number.isMultiple(of: 2) ? .tag(preshared) : .none,
                    persistentKeepalive: UInt16(number % 60),
                    allowedIPs: [IPPrefix(host: IPAddress(v4: 10 << 24 | UInt32(number)))],
                    endpoint: SocketAddress(IPAddress(v4: 0x7f00_0001), port: UInt16(number)))
            }
            peers[7].allowedIPs = PrefixList(
                (0..<3_000 as Range<UInt32>).map { IPPrefix(host: IPAddress(v4: 11 << 24 | $0)) }
                    + (0..<3_000 as Range<UInt64>).map { IPPrefix(host: IPAddress(v6: 0xfd << 56, $0)) })
            for start in stride(from: 0, to: peers.count, by: 500) {
                let batch = peers[start..<min(peers.count, start + 500)]
                check(control.perform(batch.map { .add($0) }).allSatisfy { $0 == .done })
            }
            check(try control.read().peers == peers)
            // All of them go at once, and quickly.
            let start = ContinuousClock.now
            try control.removeAllPeers()
            bash("ip link delete wg0")
            try programs.stop(interface: "wg0")
            check(ContinuousClock.now - start < .seconds(count == 1_000 ? 2 : 10))
        }
    }

    @Test func aBusyPortIsNamed() async {
        await #expect(processExitsWith: .success) {
            let bed = Bed()
            bash("ip link set lo up")
            var programs = bed.programs()
            try programs.start(interface: "wg0")
            bash("ip link set wg0 up")
            let holder = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = UInt16(40_009).bigEndian
            let bound = withUnsafePointer(to: address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(holder, $0, 16) }
            }
            check(bound == 0)
            var control = programs.control(interface: "wg0")
            var device = DeviceOperation(interface: "wg0")
            device.listenPort = 40_009
            guard case .failed(let error) = control.perform(device) else { fatalError("no failure") }
            check(error.code == .portInUse && error.errno == EADDRINUSE)
            bed.end(programs)
        }
    }
}

private let canRunDevices =
    geteuid() == 0 && access("/dev/net/tun", R_OK | W_OK) == 0 && access("/usr/bin/wireguard-go", X_OK) == 0
    && access("/usr/bin/wg", X_OK) == 0

/// Namespaces of this process's own thread, and a state folder in them.
private struct Bed {
    let state: StateFolder
    let arena = SecretArena(capacity: 4)

    init() {
        // What the test's own harness left open would keep it waiting for a program that outlives a failed test.
        for descriptor in 3..<1024 as Range<Int32> { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        check(unshare(CLONE_NEWNET | CLONE_NEWNS) == 0)
        check(mount("none", "/", nil, UInt(MS_REC | MS_PRIVATE), nil) == 0)
        check(mount("tmpfs", "/run", "tmpfs", 0, nil) == 0)
        state = StateFolder(path: "/run/state")
        check(state.namespace != "host")
    }

    func programs() -> UserspacePrograms {
        let arena = arena
        return UserspacePrograms(
            state, secrets: { arena }, environment: ["PATH": "/usr/bin:/bin:/sbin"], patience: .seconds(10))
    }

    func end(_ programs: UserspacePrograms) {
        bash("ip link delete wg0")
        var programs = programs
        check(failure { () throws(DataplaneError) in try programs.stop(interface: "wg0") } == nil)
    }
}

/// The state of each of a process's threads, as in proc_pid_stat(5); none once it is no more.
private func states(_ process: pid_t) -> [Substring] {
    bash("cat /proc/\(process)/task/*/stat 2>/dev/null").split(separator: "\n")
        .compactMap { $0.split(separator: ")").last?.split(separator: " ").first }
}

/// Makes a process hang. The signal does not wait until each thread has taken it.
private func stop(_ process: pid_t) {
    kill(process, SIGSTOP)
    for _ in 0..<10_000 where !states(process).allSatisfy({ $0 == "T" }) { usleep(1000) }
}

/// Whether a process has let go of everything, though nobody has asked for its end. Its first thread need not be the last.
private func hasEnded(_ process: pid_t) -> Bool {
    let states = states(process)
    return states.isEmpty || states == ["Z"]
}

/// In a test's own process, what does not hold ends it.
private func check(_ condition: @autoclosure () throws -> Bool, line: UInt = #line) {
    do {
        if try condition() { return }
        complain("line \(line): does not hold\n")
    } catch {
        complain("line \(line): \(error)\n")
    }
    for name in ["wg0", "other"] { bash("ip link delete \(name)") }
    exit(1)
}

private func complain(_ text: String) { _ = text.withCString { write(2, $0, text.utf8.count) } }

private func failure(_ body: () throws(DataplaneError) -> Void) -> DataplaneError? {
    do throws(DataplaneError) { try body() } catch { return error }
    return nil
}

private func clamped(_ key: [UInt8]) -> [UInt8] {
    var key = key
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    return key
}

@discardableResult
private func bash(_ command: String) -> String {
    guard let pipe = popen("(\(command)) 2>&1 < /dev/null", "r") else { return "" }
    defer { pclose(pipe) }
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = fread(&buffer, 1, buffer.count, pipe)
        if count == 0 { return String(decoding: output, as: UTF8.self) }
        output += buffer.prefix(count)
    }
}
