// Clients that flood, dawdle, talk rubbish, or never read: nobody else notices.

import Glibc
import Testing
import WeftLoop

@Suite struct HostileClientTests {
    @Test func rubbishIsAnsweredByOneLine() throws {
        let server = try RunningServer()
        #expect(exchange(try server.connect(), [0xFF, 0xFE, 0x0A]) == "error: a request is text in UTF-8\n")
        #expect(exchange(try server.connect(), Array("no end".utf8)) == "error: a request is a line, with its end\n")
        #expect(exchange(try server.connect(), []).isEmpty)
        let long = [UInt8](repeating: UInt8(ascii: "x"), count: 10 << 20)
        #expect(exchange(try server.connect(), long) == "error: a request may have 65536 bytes\n")
        for _ in 0..<200 {
            let noise = (0..<Int.random(in: 1..<5000)).map { _ in UInt8.random(in: 0...255) }
            _ = exchange(try server.connect(), noise)
        }
        try server.expectClients(0)
        #expect(try server.ask("status") == ["status"])
    }

    @Test func aRequestThatDoesNotComeEndsTheWait() throws {
        var limits = LineServer.Limits()
        limits.requestTime = .seconds(1)
        let server = try RunningServer(limits)
        #expect(exchange(try server.connect(), [], isLast: false) == "error: no whole line came in 1 s\n")
        #expect(
            exchange(try server.connect(), Array("stat".utf8), isLast: false) == "error: no whole line came in 1 s\n")
        // A byte now and then does not buy more time.
        let slow = try server.connect()
        for _ in 0..<30 {
            _ = send(slow, "x", 1, Int32(MSG_NOSIGNAL))
            usleep(100_000)
        }
        #expect(exchange(slow, []) == "error: no whole line came in 1 s\n")
    }

    @Test func whoFloodsKeepsNobodyWaiting() throws {
        let server = try RunningServer()
        let stop = try Inbox<Bool>()
        let flooders = (0..<4).map { number in
            Thread {
                let bytes = [UInt8](repeating: number % 2 == 0 ? 0x78 : 0x0A, count: 1 << 16)
                while stop.drain().isEmpty {
                    guard let connection = try? server.connect() else { continue }
                    if number < 2 { _ = exchange(connection, bytes) } else { close(connection) }
                }
                stop.post(true)
            }
        }
        for number in 0..<200 {
            var answer = try server.ask("question \(number)")
            // All places may be taken for a moment.
            while answer.first?.hasPrefix("error: 64 clients") == true { answer = try server.ask("question \(number)") }
            #expect(answer == ["question \(number)"])
        }
        stop.post(true)
        for flooder in flooders { flooder.join() }
        try server.expectClients(0)
    }

    @Test func whoNeverReadsIsDropped() throws {
        var limits = LineServer.Limits()
        limits.readingTime = .seconds(1)
        let server = try RunningServer(limits)
        let silent = try server.connect()
        _ = send(silent, "large 5000000\n", 14, Int32(MSG_NOSIGNAL))
        let staying = try server.connect()
        _ = send(staying, "stay\n", 5, Int32(MSG_NOSIGNAL))
        try server.expectClients(2)
        server.tell(String(repeating: "x", count: 900_000))
        #expect(try server.ask("status") == ["status"])
        try server.expectClients(0)
        close(silent)
        close(staying)
    }

    @Test func aSlowReaderGetsAllOfIt() throws {
        var limits = LineServer.Limits()
        limits.readingTime = .seconds(2)
        let server = try RunningServer(limits)
        let connection = try server.connect()
        _ = send(connection, "large 1500000\n", 14, Int32(MSG_NOSIGNAL))
        var (count, buffer) = (0, [UInt8](repeating: 0, count: 40_000))
        while true {
            let got = recv(connection, &buffer, buffer.count, 0)
            if got <= 0 { break }
            count += got
            usleep(100_000)
        }
        close(connection)
        #expect(count == 1_500_001)
    }

    @Test func whatWaitsForAllIsBounded() throws {
        var limits = LineServer.Limits()
        (limits.waiting, limits.waitingInAll) = (1 << 20, 8 << 20)
        let server = try RunningServer(limits)
        let connections = try (0..<10).map { _ in
            let connection = try server.connect()
            _ = send(connection, "large 3000000\n", 14, Int32(MSG_NOSIGNAL))
            return connection
        }
        defer { for connection in connections { close(connection) } }
        // Two have their answer before them; the others have been dropped, and those who want little are served.
        #expect(try server.ask("status") == ["status"])
        try server.expectClients(2)
        #expect(try server.ask("large 900000").map(\.utf8.count) == [900_000])
    }

    @Test func thereIsAnEndToPlaces() throws {
        var limits = LineServer.Limits()
        (limits.clients, limits.clientsOfRoot) = (4, 0)
        let server = try RunningServer(limits)
        let connections = try (0..<4).map { _ in try server.connect() }
        try server.expectClients(4)
        #expect(try server.ask("status") == ["error: 4 clients are connected; try again later"])
        for connection in connections { close(connection) }
        try server.expectClients(0)
        #expect(try server.ask("status") == ["status"])
    }

    /// Others who may ask cannot keep root out.
    @Test(.enabled(if: geteuid() == 0, "the right to be root")) func rootHasPlacesOfHisOwn() throws {
        var limits = LineServer.Limits()
        (limits.clients, limits.clientsOfRoot) = (4, 1)
        let server = try RunningServer(limits)
        let connections = try (0..<4).map { _ in try server.connect() }
        try server.expectClients(4)
        #expect(try server.ask("status") == ["status"])
        let last = try server.connect()
        try server.expectClients(5)
        #expect(try server.ask("status") == ["error: 5 clients are connected; try again later"])
        for connection in connections + [last] { close(connection) }
    }
}
