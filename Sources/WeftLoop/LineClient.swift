// One client of a `LineServer`: its request comes in, and what it is told goes out as it takes it.

import Glibc

extension LineServer {
    /// One who has asked. It is there until it is finished, or goes.
    package final class Client {
        /// Who is at the other end when it connected, as the kernel knows it.
        package struct Peer: Hashable, Sendable {
            package var process: Int32
            package var user: UInt32
            package var group: UInt32
        }

        /// Who asks; nil where the kernel does not say.
        package let peer: Peer?
        /// Whether it can still be told something.
        package private(set) var isOpen = true
        /// Called once from the loop, when the connection has ended, whoever ended it.
        package var onEnd: (() -> Void)?

        private let connection: Int32
        /// Gone before its clients where nobody has closed it.
        private weak var server: LineServer?
        private let limits: Limits
        private weak var loop: EventLoop?
        private var isEnded = false
        private var request: [UInt8] = []
        /// What it is still to get; of the first, `sent` bytes are gone.
        private var outgoing: [[UInt8]] = []
        private var first = 0
        private var sent = 0
        private var waiting = 0
        private var lastProgress: UInt64 = 0
        private var timer: EventLoop.Timer?

        /// How much one look sends, so that a fast reader of much keeps nobody else waiting.
        private static let bytesAtOnce = 1 << 20

        init(_ connection: Int32, _ server: LineServer, _ loop: EventLoop) {
            (self.connection, self.server, self.loop) = (connection, server, loop)
            limits = server.limits
            peer = PeerCredentials(of: connection).map { Peer(process: $0.process, user: $0.user, group: $0.group) }
        }

        deinit { if !isEnded { Glibc.close(connection) } }

        /// Waits for the request.
        ///
        /// - Returns: false where the kernel has no room to wait for it.
        func start() -> Bool {
            do throws(LoopError) {
                try loop?.watch(connection) { [unowned self] readiness in act(readiness) }
            } catch {
                return false
            }
            timer = loop?.schedule(after: limits.requestTime) { [unowned self] in
                refuse("no whole line came in \(limits.requestTime.components.seconds) s")
            }
            return true
        }

        private func act(_ readiness: EventLoop.Readiness) {
            if isOpen, isReading {
                receive()
            } else if readiness.contains(.ended) {
                end()
            } else if readiness.contains(.write) {
                flush()
            }
        }

        // MARK: Its request

        private var isReading = true

        private func receive() {
            let taken = withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 1) { buffer in
                let count = retryingEINTR { recv(connection, buffer.baseAddress, buffer.count, 0) }
                if count > 0 { request += buffer[..<count] }
                return count
            }
            if taken < 0, errno == EAGAIN { return }
            guard taken > 0 else {
                // Who goes without a word is owed none.
                return request.isEmpty || taken < 0 ? end() : refuse("a request is a line, with its end")
            }
            if let newline = request.firstIndex(of: UInt8(ascii: "\n")), newline < limits.request {
                guard let line = String(validating: request[..<newline], as: UTF8.self) else {
                    return refuse("a request is text in UTF-8")
                }
                endRequest()
                server?.handler?(self, line)
            } else if request.count >= limits.request {
                refuse("a request may have \(limits.request) bytes")
            }
        }

        /// From now on nothing is read, so that what else it sends costs nothing.
        private func endRequest() {
            isReading = false
            request = []
            timer?.cancel()
            timer = nil
            loop?.change(connection, [])
        }

        private func refuse(_ text: String) {
            endRequest()
            send(LineServer.errorLine(text))
            finish()
        }

        // MARK: What it is told

        /// Sends bytes as soon as the client takes them; never waits. A client for which more waits than may is
        /// dropped.
        package func send(_ bytes: [UInt8]) {
            guard isOpen, !bytes.isEmpty else { return }
            let isFirst = waiting == 0
            outgoing.append(bytes)
            waiting += bytes.count
            server?.waiting += bytes.count
            if waiting > limits.waiting, server.map({ $0.waiting > limits.waitingInAll }) ?? true { return endSoon() }
            if isFirst {
                lastProgress = BootTime.now
                flush()
            }
        }

        /// Closes the connection when all has been sent.
        package func finish() {
            guard isOpen else { return }
            isOpen = false
            if waiting == 0 { endSoon() }
        }

        private func flush() {
            var left = Self.bytesAtOnce
            while waiting > 0, left > 0 {
                let count = outgoing[first].withUnsafeBytes { bytes in
                    retryingEINTR {
                        Glibc.send(
                            connection, bytes.baseAddress?.advanced(by: sent), bytes.count - sent,
                            Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
                    }
                }
                guard count > 0 else {
                    if errno != EAGAIN { return endSoon() }
                    break
                }
                left -= count
                took(count)
            }
            if waiting > 0 {
                loop?.change(connection, .write)
                if timer == nil { watchProgress(after: limits.readingTime) }
            } else if isOpen {
                loop?.change(connection, [])
            } else {
                endSoon()
            }
        }

        private func took(_ count: Int) {
            lastProgress = BootTime.now
            waiting -= count
            server?.waiting -= count
            sent += count
            guard sent == outgoing[first].count else { return }
            sent = 0
            outgoing[first] = []
            first += 1
            if first == outgoing.count {
                outgoing = []
                first = 0
            } else if first >= 64 {
                outgoing.removeFirst(first)
                first = 0
            }
        }

        /// Drops a client that takes nothing for too long.
        private func watchProgress(after delay: Duration) {
            timer = loop?.schedule(after: delay) { [unowned self] in
                timer = nil
                if waiting == 0 { return }
                let idle = Duration.nanoseconds(Int64(BootTime.now &- lastProgress))
                if idle >= limits.readingTime {
                    end()
                } else {
                    watchProgress(after: limits.readingTime - idle)
                }
            }
        }

        // MARK: Its end

        /// Ends it when the handler that is at work has returned: it may be going through its clients.
        private func endSoon() {
            isOpen = false
            timer?.cancel()
            timer = loop?.schedule(after: .zero) { [weak self] in self?.end() }
        }

        func end() {
            if isEnded { return }
            isEnded = true
            isOpen = false
            timer?.cancel()
            server?.waiting -= waiting
            waiting = 0
            outgoing = []
            loop?.forget(connection)
            Glibc.close(connection)
            server?.remove(self)
            onEnd?()
            onEnd = nil
        }
    }
}
