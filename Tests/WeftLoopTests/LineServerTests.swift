// The socket that people and programs ask at: what it answers, and who may have it.

import CLinux
import Glibc
import Testing
import WeftLoop

/// A server in a thread of its own, which ends with it.
final class RunningServer {
    let folder = TemporaryFolder()
    var path: String { "\(folder.path)/weft.sock" }
    private let commands: Inbox<Command>
    private let thread: Thread

    private enum Command: Sendable {
        case count(Promise<Int>)
        case tell([UInt8])
        case stop
    }

    /// What another thread waits for.
    final class Promise<Value: Sendable>: Sendable {
        private let inbox: Inbox<Value>
        init() throws { inbox = try Inbox() }
        func keep(_ value: Value) { inbox.post(value) }
        func wait() -> Value? {
            var entry = pollfd(fd: inbox.descriptor, events: Int16(POLLIN), revents: 0)
            poll(&entry, 1, 60_000)
            return inbox.drain().first
        }
    }

    /// Answers `large N` with a line of N bytes, `stay` with what is told to all, and everything else with itself.
    init(_ limits: LineServer.Limits = LineServer.Limits()) throws {
        let (commands, started) = (try Inbox<Command>(), try Promise<Bool>())
        let path = "\(folder.path)/weft.sock"
        self.commands = commands
        thread = Thread {
            do {
                let (loop, server) = (try EventLoop(), try LineServer(path: path, limits: limits))
                var staying: [LineServer.Client] = []
                try server.attach(to: loop) { client, line in
                    if line == "stay" {
                        client.onEnd = { staying.removeAll { $0 === client } }
                        staying.append(client)
                        return client.send(Array("hello\n".utf8))
                    }
                    if line.hasPrefix("large "), let size = Int(line.dropFirst(6)) {
                        client.send([UInt8](repeating: UInt8(ascii: "x"), count: size) + [UInt8(ascii: "\n")])
                    } else {
                        client.send(Array("\(line)\n".utf8))
                    }
                    client.finish()
                }
                try loop.watch(commands.descriptor) { _ in
                    for command in commands.drain() {
                        switch command {
                        case .count(let promise): promise.keep(server.clientCount)
                        case .tell(let bytes): for client in staying { client.send(bytes) }
                        case .stop: loop.stop()
                        }
                    }
                }
                started.keep(true)
                loop.run()
                server.close()
            } catch {
                Issue.record(error)
                started.keep(false)
            }
        }
        #expect(started.wait() == true)
    }

    deinit {
        commands.post(.stop)
        thread.join()
    }

    func tell(_ text: String) { commands.post(.tell(Array(text.utf8))) }

    func clientCount() throws -> Int {
        let promise = try Promise<Int>()
        commands.post(.count(promise))
        return promise.wait() ?? -1
    }

    /// Waits until there are so many clients.
    func expectClients(_ count: Int, _ location: SourceLocation = #_sourceLocation) throws {
        for _ in 0..<3000 {
            if try clientCount() == count { return }
            usleep(10_000)
        }
        Issue.record("there are \(try clientCount()) clients, not \(count)", sourceLocation: location)
    }

    /// All lines of an answer.
    func ask(_ line: String) throws -> [String] {
        let lines = try UnixClient.request(path, line, timeout: .seconds(60))
        var result: [String] = []
        while let line = try lines.next() { result.append(line) }
        return result
    }

    /// A plain connection, on which anything can be sent.
    func connect() throws -> Int32 {
        let connection = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let result = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(connection, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(result == 0)
        return connection
    }
}

/// Sends as much as is taken, and reads to the end.
func exchange(_ connection: Int32, _ bytes: [UInt8], isLast: Bool = true) -> String {
    var sent = 0
    while sent < bytes.count {
        let count = bytes.withUnsafeBytes {
            send(connection, $0.baseAddress?.advanced(by: sent), bytes.count - sent, Int32(MSG_NOSIGNAL))
        }
        if count < 0 { break }
        sent += count
    }
    if isLast { shutdown(connection, Int32(SHUT_WR)) }
    var (result, buffer) = ([UInt8](), [UInt8](repeating: 0, count: 4096))
    while true {
        let count = recv(connection, &buffer, buffer.count, 0)
        if count <= 0 { break }
        result += buffer[..<count]
    }
    close(connection)
    return String(decoding: result, as: UTF8.self)
}

@Suite struct LineServerTests {
    @Test func answersALineWithALine() throws {
        let server = try RunningServer()
        #expect(try server.ask("status") == ["status"])
        #expect(try server.ask("") == [""])
        #expect(try server.ask("grüße") == ["grüße"])
        // Who says no more, and who says more than a line, is answered too.
        #expect(exchange(try server.connect(), Array("one\ntwo\n".utf8)) == "one\n")
        #expect(exchange(try server.connect(), Array("one\n".utf8), isLast: false) == "one\n")
        try server.expectClients(0)
    }

    @Test(arguments: [1, 1000, 300_000, 20 << 20])
    func answersOfAnySizeArriveWhole(size: Int) throws {
        let server = try RunningServer()
        #expect(try server.ask("large \(size)").map(\.utf8.count) == [size])
    }

    @Test func tellsThoseWhoStayWhatComes() throws {
        let server = try RunningServer()
        let clients = try (0..<3).map { _ in try UnixClient.request(server.path, "stay", timeout: .seconds(60)) }
        for client in clients { #expect(try client.next() == "hello") }
        for number in 0..<1000 { server.tell("event \(number)\n") }
        for client in clients {
            for number in 0..<1000 { try #require(try client.next() == "event \(number)") }
        }
        clients[0].timeout = .milliseconds(50)
        #expect(throws: LoopError("ask at \(server.path)", errno: ETIMEDOUT)) { try clients[0].next() }
        try server.expectClients(3)
    }

    @Test func whoGoesIsForgotten() throws {
        let server = try RunningServer()
        do {
            let client = try UnixClient.request(server.path, "stay", timeout: .seconds(60))
            #expect(try client.next() == "hello")
        }
        close(try server.connect())
        try server.expectClients(0)
        server.tell("nobody hears\n")
        #expect(try server.ask("still there") == ["still there"])
    }

    @Test func aServerThatIsLetGoTakesItsClientsAlong() throws {
        let (folder, loop) = (TemporaryFolder(), try EventLoop())
        var server: LineServer? = try LineServer(path: "\(folder.path)/s")
        var (kept, ends): (LineServer.Client?, Int) = (nil, 0)
        try server?.attach(to: loop) { client, _ in
            client.onEnd = { ends += 1 }
            client.send([UInt8](repeating: UInt8(ascii: "x"), count: 5_000_000))
            kept = client
            loop.stop()
        }
        let asking = Thread {
            #expect(throws: Never.self) {
                let lines = try UnixClient.request("\(folder.path)/s", "all", timeout: .seconds(60))
                #expect(try (lines.next() ?? "").utf8.count < 5_000_000)
            }
        }
        loop.runBounded()
        server = nil
        asking.join()
        #expect(server == nil && ends == 1)
        let client = try #require(kept)
        #expect(!client.isOpen)
        #expect(client.peer?.process == getpid())
        client.send([1])
        client.finish()
    }

    // MARK: Whose socket it is

    @Test(arguments: [(UInt32(0o660), mode_t(0o777)), (0o600, 0), (0o666, 0o022)])
    func theSocketHasItsModeWhateverTheUmaskIs(mode: UInt32, mask: mode_t) throws {
        let folder = TemporaryFolder()
        let path = "\(folder.path)/s"
        // The umask of this thread alone.
        onThread {
            #expect(unshare(CLONE_FS) == 0)
            umask(mask)
            #expect(throws: Never.self) {
                let server = try LineServer(path: path, mode: mode)
                var status = stat()
                stat(path, &status)
                #expect(status.st_mode & 0o7777 == mode)
                server.close()
                #expect(access(path, F_OK) != 0)
            }
        }
    }

    @Test(.enabled(if: geteuid() == 0, "root")) func theSocketIsGivenToItsGroup() throws {
        let folder = TemporaryFolder()
        let server = try LineServer(path: "\(folder.path)/s", group: "daemon")
        defer { server.close() }
        var status = stat()
        stat("\(folder.path)/s", &status)
        #expect(status.st_gid == 1)
    }

    @Test func anUnknownGroupIsNamed() throws {
        let folder = TemporaryFolder()
        let error = #expect(throws: LoopError.self) {
            try LineServer(path: "\(folder.path)/s", group: "no-such-group")
        }
        #expect(error?.description.contains("there is no group no-such-group") == true)
        #expect(access("\(folder.path)/s", F_OK) != 0)
    }

    @Test func aLiveSocketIsNotTaken() throws {
        let server = try RunningServer()
        let error = #expect(throws: LoopError.self) { try LineServer(path: server.path) }
        #expect(error?.errno == EADDRINUSE)
        #expect(error?.description.contains("process \(getpid()), listens there") == true)
        #expect(try server.ask("still mine") == ["still mine"])
    }

    @Test func aDeadSocketIsReplaced() throws {
        let folder = TemporaryFolder()
        let path = "\(folder.path)/s"
        // Closed with its process, and nobody removed it.
        var dead: LineServer? = try LineServer(path: path)
        #expect(link(path, "\(path).kept") == 0)
        dead = nil
        #expect(dead == nil && rename("\(path).kept", path) == 0 && access(path, F_OK) == 0)
        // A program that another suite is starting at this moment has our descriptors until it runs.
        for _ in 0..<500 where (try? UnixClient.request(path, "anyone?", timeout: .seconds(1))) != nil {
            usleep(10_000)
        }
        let server = try LineServer(path: path)
        #expect(throws: LoopError.self) { try LineServer(path: path) }
        server.close()
        #expect(throws: LoopError("ask at \(path)", errno: ENOENT)) {
            try UnixClient.request(path, "anyone?", timeout: .seconds(60))
        }
    }

    @Test func whatIsNoSocketIsLeftAlone() throws {
        let folder = TemporaryFolder()
        let path = folder.write("precious", to: "s")
        let error = #expect(throws: LoopError.self) { try LineServer(path: path) }
        #expect(error?.errno == EEXIST)
        #expect(shell("grep -q precious '\(path)'"))
    }

    @Test func ofManyWhoStartAtOnceOneListens() throws {
        let folder = TemporaryFolder()
        let path = "\(folder.path)/s"
        let outcomes = try Inbox<Bool>()
        let servers = try Inbox<Int>()
        let threads = (0..<8).map { _ in
            Thread {
                let server = try? LineServer(path: path)
                outcomes.post(server != nil)
                // Whoever listens goes on until all have tried.
                while access("\(folder.path)/over", F_OK) != 0 { usleep(1000) }
                server?.close()
                servers.post(1)
            }
        }
        var tried: [Bool] = []
        while tried.count < 8 {
            tried += outcomes.drain()
            usleep(1000)
        }
        folder.write("", to: "over")
        for thread in threads { thread.join() }
        #expect(tried.filter { $0 }.count == 1)
        #expect(servers.drain().count == 8)
    }

    @Test func anotherOnesSocketIsNotRemoved() throws {
        let folder = TemporaryFolder()
        let path = "\(folder.path)/s"
        let first = try LineServer(path: path)
        unlink(path)
        let second = try LineServer(path: path)
        first.close()
        #expect(access(path, F_OK) == 0)
        second.close()
        #expect(access(path, F_OK) != 0)
    }

    @Test func pathsThatCannotBeAreRefused() throws {
        let folder = TemporaryFolder()
        let long = "\(folder.path)/\(String(repeating: "x", count: 100))"
        #expect(throws: LoopError.self) { try LineServer(path: long) }
        let error = #expect(throws: LoopError.self) { try LineServer(path: "\(folder.path)/none/s") }
        #expect(error?.description.contains("make its folder") == true)
    }
}
