// The state folder: what it remembers, what ends a memory, and that neither crashes nor damage lose anything silently.

import Glibc
import Testing
import WeftDiagnostics
import WeftModel
import WeftPlan

@testable import WeftLinux

@Suite struct StateFolderTests {
    let temporary = TemporaryFolder()
    let key = PublicKey("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=")

    func folder(_ namespace: String = "host", boot: String = "a") -> StateFolder {
        StateFolder(path: "\(temporary.path)/state", namespace: namespace, bootID: boot)
    }

    func memory(port: UInt16 = 51820) throws -> MeshMemory {
        let key = try #require(key)
        let address = try #require(IPAddress("2001:db8::1"))
        let endpoint = AppliedEndpoint(written: "fra.example.net:\(port)", address: SocketAddress(address, port: port))
        return MeshMemory(endpoints: [key: endpoint])
    }

    @Test func remembersEndpoints() throws {
        let written = try memory()
        try folder().store(written, of: "wg0")
        #expect(try folder().meshMemory(of: "wg0") == written)
        #expect(try folder().meshMemory(of: "wg1") == MeshMemory())
        #expect(try folder("netns-7").meshMemory(of: "wg0") == MeshMemory())
        // A host's endpoints outlive a boot; those of a namespace that was numbered in it do not.
        #expect(try folder(boot: "b").meshMemory(of: "wg0") == written)
        try folder("netns-7").store(written, of: "wg0")
        #expect(try folder("netns-7").meshMemory(of: "wg0") == written)
        #expect(try folder("netns-7", boot: "b").meshMemory(of: "wg0") == MeshMemory())
    }

    @Test func remembersATrial() throws {
        var record = TrialRecord(
            id: "0123456789ab", deadline: UnixTime(seconds: 1_800_000_000),
            wanted: [try #require(IPAddress("10.80.0.1"))],
            isRejected: false)
        (record.isResumable, record.reason) = (false, "no answer from fra")
        record.handshakes = ["fra"]
        try folder().store(record, of: "wg0")
        #expect(try folder().trial(of: "wg0") == record)
        #expect(folder().interfacesWithTrials == ["wg0"])
        let (before, after) = (UnixTime(seconds: 1_799_999_999), UnixTime(seconds: 1_800_000_001))
        #expect(record.isDangling(at: before) && !record.isAwaited(at: before))
        // An agent's is gone on with while there is time.
        record.isResumable = true
        #expect(!record.isDangling(at: before) && record.isAwaited(at: before))
        #expect(record.isDangling(at: after) && !record.isAwaited(at: after))
        record.isUndone = true
        #expect(!record.isDangling(at: after) && !record.isAwaited(at: before))
        // A machine that was started anew gives it no time.
        #expect(try folder(boot: "b").trial(of: "wg0")?.deadline == UnixTime(seconds: 0))
        // As an earlier weft wrote it.
        temporary.write(
            #"{"version": 1, "bootID": "a", "topology": "x", "deadline": 5, "wanted": [], "isRejected": true}"#,
            to: "state/host/wg1-trial.json")
        let old = try #require(try folder().trial(of: "wg1"))
        #expect(old.isRejected && old.isResumable && old.isDangling(at: before))
        try folder().store(nil, of: "wg0")
        #expect(try folder().trial(of: "wg0") == nil)
    }

    @Test func aLockSaysWhoHoldsItForLong() throws {
        #expect(!folder().isHeld("wg0") && folder().holders.isEmpty)
        do {
            let lock = try folder().lock("wg0", as: .trial("/run/x.sock"))
            #expect(folder().isHeld("wg0"))
            #expect(folder().holders == ["/run/x.sock"])
            do {
                _ = try folder().lock("wg0")
                Issue.record("it was locked twice")
            } catch {
                #expect(error.code == .inCharge)
                #expect(error.description.contains("`weft confirm` keeps it, `weft revert` takes it back"))
            }
            _ = consume lock
        }
        // A program that another suite is starting at this moment has our descriptors until it runs.
        for _ in 0..<500 where folder().isHeld("wg0") { usleep(10_000) }
        #expect(!folder().isHeld("wg0"))
        let lock = try folder().lock("wg0")
        #expect(!folder().isHeld("wg0"))
        _ = consume lock
    }

    /// Its file still names an agent, which was killed.
    @Test func aLockThatIsOnlyAskedAboutIsFree() throws {
        _ = try folder().lock("wg0", as: .agent("/run/x.sock"))
        // Shared for half a second by a program that outlives the shell.
        try #require(shell("exec 9<'\(temporary.path)/state/host/wg0.lock'; flock --shared 9 && { sleep 0.5 & }"))
        _ = try folder().lock("wg0", timeout: .zero)
    }

    /// An agent asks in each pass, and reads JSON only where the file is another one.
    @Test func seesWhatAnotherRunHasWritten() throws {
        let agent = folder()
        #expect(try agent.programToken(of: "wg0") == nil)
        try folder().store(programToken: "one", of: "wg0")
        #expect(try agent.programToken(of: "wg0") == "one")
        #expect(try agent.programToken(of: "wg0") == "one")
        // Of the same length.
        try folder().store(programToken: "two", of: "wg0")
        #expect(try agent.programToken(of: "wg0") == "two")
        try folder().store(try memory(), of: "wg0")
        #expect(try agent.programToken(of: "wg0") == "two")
        #expect(try agent.resolver(of: "wg0") == nil)
        try folder().store(resolver: (.resolvconf, "tun.wg0"), of: "wg0")
        #expect(try agent.resolver(of: "wg0")?.name == "tun.wg0")
        try folder().forget("wg0")
        #expect(try agent.programToken(of: "wg0") == nil)
        #expect(agent.problems.isEmpty)
    }

    @Test(arguments: ["fra.example.net:51820", "192.0.2.1:51820", "[2001:db8::1]:51820", "a b", "", " "])
    func textsOfEndpointsComeBackAsTheyWere(written: String) throws {
        let key = try #require(key)
        for address in ["192.0.2.1", "2001:db8::1"] {
            let endpoint = AppliedEndpoint(
                written: written, address: SocketAddress(try #require(IPAddress(address)), port: 51820))
            try folder().store(MeshMemory(endpoints: [key: endpoint]), of: "wg0")
            #expect(try folder().meshMemory(of: "wg0").endpoints == EndpointMemory([key: endpoint]))
        }
    }

    @Test func knowsWhetherAnythingIsOnRecord() throws {
        #expect(!folder().remembers("wg0"))
        try folder().store(memory(), of: "wg0")
        #expect(folder().remembers("wg0") && !folder().remembers("wg1"))
        // Without the claims of all interfaces, nobody knows what was this one's.
        temporary.write("broken", to: "state/host/sysctls-of-all-interfaces.json")
        let state = folder()
        #expect(try StateSysctls(state).memory() == SysctlMemory())
        #expect(!state.remembers("wg0"))
        #expect(state.keptAside(of: "wg0").isEmpty)
    }

    @Test func readingChangesNothing() throws {
        let state = folder()
        #expect(try state.meshMemory(of: "wg0") == MeshMemory())
        #expect(try state.programToken(of: "wg0") == nil)
        #expect(try StateSysctls(state).memory() == SysctlMemory())
        try state.forget("wg0")
        #expect(access("\(temporary.path)/state", F_OK) != 0)
    }

    @Test func onlyTheOwnerCanReadIt() throws {
        umask(0)
        defer { umask(0o022) }
        try folder().store(memory(), of: "wg0")
        for (name, mode) in [("", 0o700), ("/host", 0o700), ("/host/wg0.json", 0o600)] as [(String, mode_t)] {
            var status = stat()
            #expect(stat("\(temporary.path)/state\(name)", &status) == 0)
            #expect(status.st_mode & 0o7777 == mode, "\(name)")
        }
    }

    @Test func anUnchangedRecordIsNotWritten() throws {
        try folder().store(memory(), of: "wg0")
        var before = stat()
        stat("\(temporary.path)/state/host/wg0.json", &before)
        try folder().store(memory(), of: "wg0")
        var after = stat()
        stat("\(temporary.path)/state/host/wg0.json", &after)
        #expect(before.st_ino == after.st_ino)
    }

    @Test func aProgramIsRememberedUntilTheNextBoot() throws {
        try folder().store(memory(), of: "wg0")
        try folder().store(programToken: "token", of: "wg0")
        #expect(try folder().programToken(of: "wg0") == "token")
        #expect(try folder().meshMemory(of: "wg0") == memory())
        #expect(try folder(boot: "b").programToken(of: "wg0") == nil)
        try folder().store(MeshMemory(), of: "wg0")
        #expect(try folder().programToken(of: "wg0") == "token")
        try folder().store(programToken: nil, of: "wg0")
        #expect(try folder().programToken(of: "wg0") == nil)
        try folder().forget("wg0")
        #expect(access("\(temporary.path)/state/host/wg0.json", F_OK) != 0)
    }

    @Test(arguments: ["", "{", "nonsense", "{\"version\": 1, \"endpoints\": 7}", "{\"version\": 99}", "\0\0\0"])
    func whatCannotBeReadIsSaidAndKept(text: String) throws {
        try folder().store(MeshMemory(), of: "wg1")
        let path = "\(temporary.path)/state/host/wg0.json"
        temporary.write(text, to: "state/host/wg0.json")
        let state = folder()
        #expect(try state.meshMemory(of: "wg0") == MeshMemory())
        let problem = try #require(state.problems.first)
        #expect(problem.path == path)
        #expect(problem.message.contains(text.contains("99") ? "a newer weft" : "damaged"))
        #expect(contents(of: path) == text)

        #expect(!state.remembers("wg0"))
        try state.store(memory(), of: "wg0")
        #expect(contents(of: path + ".corrupt") == text)
        #expect(state.keptAside(of: "wg0") == [path + ".corrupt"] && state.keptAside(of: "wg").isEmpty)
        #expect(state.problems.map(\.path) == [path + ".corrupt"])
        #expect(try folder().meshMemory(of: "wg0") == memory())

        // A second one does not take the first one's place, also where it was not read before.
        temporary.write("again", to: "state/host/wg0.json")
        try folder().store(memory(), of: "wg0")
        #expect(contents(of: path + ".corrupt") == text)
        #expect(contents(of: path + ".corrupt-2") == "again")
    }

    @Test func aCrashBeforeTheRenameLeavesTheOldOne() throws {
        try folder().store(memory(), of: "wg0")
        temporary.write("{\"versi", to: "state/host/wg0.json.tmp")
        #expect(try folder().meshMemory(of: "wg0") == memory())
        try folder().store(memory(port: 7), of: "wg0")
        #expect(try folder().meshMemory(of: "wg0") == memory(port: 7))
        #expect(access("\(temporary.path)/state/host/wg0.json.tmp", F_OK) != 0)
    }

    @Test func killedAtAnyMomentTheRecordIsWhole() async throws {
        let path = "\(temporary.path)/state"
        for delay in [3_000, 7_000, 20_000] as [UInt32] {
            await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, delay = delay as UInt32] in
                let state = StateFolder(path: path, namespace: "host", bootID: "a")
                alarmKill(after: delay)
                var port: UInt16 = 1
                while true {
                    guard let address = IPAddress("192.0.2.1") else { return }
                    let endpoint = AppliedEndpoint(written: "x", address: SocketAddress(address, port: port))
                    let keys = (0..<100 as Range<UInt64>).map { PublicKey(bigEndianWords: $0, 1, 2, 3) }
                    let memory = MeshMemory(endpoints: Dictionary(uniqueKeysWithValues: keys.map { ($0, endpoint) }))
                    try? state.store(memory, of: "wg0")
                    port &+= 1
                }
            }
            let state = folder()
            let found = try state.meshMemory(of: "wg0")
            #expect(state.problems.isEmpty)
            let endpoints = found.endpoints.entries.map(\.endpoint)
            #expect(endpoints.isEmpty || endpoints.count == 100)
            #expect(Set(endpoints).count <= 1)
        }
    }

    @Test func writersDoNotLoseEachOthersChanges() async throws {
        let path = "\(temporary.path)/state"
        try await withThrowingTaskGroup { group in
            for index in 0..<8 {
                group.addTask {
                    var ledger = StateSysctls(StateFolder(path: path, namespace: "host", bootID: "a"))
                    for round in 0..<5 {
                        let sysctl = Sysctl("net/\(index)/\(round)", "1")
                        try ledger.record(sysctl, over: "0", companions: [], by: "wg\(index)")
                    }
                }
            }
            try await group.waitForAll()
        }
        let memory = try StateSysctls(folder()).memory()
        #expect(memory.originals.count == 40)
        #expect(memory.claims.count == 8)
    }

    @Test func aFolderThatCannotBeMadeIsAnError() {
        temporary.write("", to: "file")
        let state = StateFolder(path: "\(temporary.path)/file", namespace: "host", bootID: "a")
        let found = #expect(throws: DataplaneError.self) { try state.store(memory(), of: "wg0") }
        #expect(found?.code == .file)
        #expect(found?.message.contains("\(temporary.path)/file/host") ?? false)
    }

    @Test func aSecondRunWaitsAndSaysForWhom() throws {
        let first = try folder().lock("wg0")
        var holders: [String] = []
        let found = #expect(throws: DataplaneError.self) {
            _ = try folder().lock("wg0", timeout: .milliseconds(50)) { holders.append($0) }
        }
        #expect(holders.count == 1 && holders[0].contains("(process \(getpid()))"))
        #expect(found?.code == .file)
        #expect(found?.message.contains("(process \(getpid()))") ?? false)
        // Another interface is another lock.
        _ = try folder().lock("wg1", timeout: .zero)
        _ = consume first
        // A child that another test is starting just now may hold a copy of the descriptor until it executes.
        _ = try folder().lock("wg0", timeout: .seconds(5))
    }

    @Test func aMeshThatIsGoneLeavesNoFile() throws {
        let state = folder()
        var ledger = StateSysctls(state)
        func names() -> [String] { SmallFile.names(in: "\(temporary.path)/state/host").sorted() }
        let lock = try state.lock("wg0")
        try state.store(memory(), of: "wg0")
        try ledger.record(Sysctl("a", "1"), over: "0", companions: [], by: "wg0")
        try ledger.record(Sysctl("a", "1"), over: "0", companions: [], by: "wg1")
        try ledger.release("a", by: "wg0")
        try state.forget("wg0")
        // What another mesh claims is kept.
        try ledger.removeIfEmpty()
        lock.remove()
        let sysctls = "sysctls-of-all-interfaces.json"
        #expect(names() == [sysctls, "\(sysctls).lock"])
        try ledger.release("a", by: "wg1")
        try ledger.removeIfEmpty()
        #expect(names() == [])
        try ledger.removeIfEmpty()
        try state.forget("wg0")

        temporary.write("damaged", to: "state/host/\(sysctls)")
        try ledger.removeIfEmpty()
        #expect(contents(of: "\(temporary.path)/state/host/\(sysctls)") == "damaged")
    }

    /// Who waits for a lock that is removed must not take it for the one that the next run makes.
    @Test func aLockThatIsRemovedKeepsOthersOutAllTheSame() async throws {
        let path = "\(temporary.path)/lock"
        temporary.write("0", to: "count")
        let counter = "\(temporary.path)/count"
        try await withThrowingTaskGroup { group in
            for worker in 0..<8 {
                group.addTask {
                    for round in 0..<25 {
                        let lock = try FileLock.acquire(path, timeout: .seconds(60))
                        let count = readKernelText(counter).flatMap { Int($0) } ?? 0
                        // Time for another one to come in between, if it could.
                        usleep(200)
                        try SmallFile.write("\(count + 1)", to: counter)
                        if (worker + round) % 2 == 0 { lock.remove() }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(contents(of: counter) == "200")
    }

    @Test func foldersOfNamespacesOfOtherBootsAreDropped() throws {
        try folder("netns-1").store(memory(), of: "wg0")
        try folder("host").store(memory(), of: "wg0")
        try folder("netns-3").store(memory(), of: "wg0")
        temporary.write("damaged", to: "state/netns-3/wg1.json")
        system("mkdir -p '\(folder("netns-1").folder(named: "git-1"))/repository/refs'")
        #expect(access("\(temporary.path)/state/netns-1/git-1", F_OK) == 0)
        try folder("netns-2", boot: "b").store(memory(), of: "wg0")
        // The first write of another boot drops what only that boot could have read.
        try folder("netns-4", boot: "b").store(memory(), of: "wg0")
        func isThere(_ name: String) -> Bool { access("\(temporary.path)/state/\(name)", F_OK) == 0 }
        #expect(!isThere("netns-1"))
        #expect(isThere("netns-2/wg0.json"))
        #expect(isThere("host/wg0.json"))
        #expect(isThere("netns-3/wg1.json") && isThere("netns-3/wg0.json"))
    }

    /// An agent with a user of its own, and root's commands beside it, in the same folder.
    @Test(.enabled(if: geteuid() == 0, "needs root"))
    func whatRootWritesBelongsToTheFoldersOwner() throws {
        let path = "\(temporary.path)/state"
        chmod(temporary.path, 0o755)
        mkdir(path, 0o700)
        chown(path, 65534, 65534)
        try folder().store(memory(), of: "wg0")
        let lock = try folder().lock("wg0")
        for file in ["host", "host/wg0.json", "host/wg0.json.lock", "host/wg0.lock"] {
            var status = stat()
            #expect(
                stat("\(path)/\(file)", &status) == 0 && status.st_uid == 65534 && status.st_gid == 65534, "\(file)")
        }
        _ = consume lock
        #expect(geteuid() == 0 && access("/root", R_OK) == 0)

        // A link that this user has made leads root nowhere that the user may not go.
        let secret = "\(temporary.path)/roots"
        mkdir(secret, 0o755)
        rename("\(path)/host", "\(path)/away")
        symlink(secret, "\(path)/host")
        #expect(throws: DataplaneError.self) { try folder().store(memory(port: 2), of: "wg0") }
        #expect(contents(of: "\(secret)/wg0.json").isEmpty)
    }

    @Test func thisNamespaceHasAName() {
        let name = NetworkNamespace.currentName()
        #expect(name == "host" || name.hasPrefix("netns-"))
        #expect(NetworkNamespace.bootID().count == 36)
    }
}

/// Ends this process as a crash does, from another thread.
func alarmKill(after microseconds: UInt32) {
    var thread = pthread_t()
    let argument = UnsafeMutableRawPointer(bitPattern: UInt(microseconds))
    pthread_create(
        &thread, nil,
        { argument in
            usleep(UInt32(UInt(bitPattern: argument)))
            kill(getpid(), SIGKILL)
            return nil
        }, argument)
}
