// A user-space device that says what a test tells it to, over a real socket.

import CLinux
import Glibc
import Synchronization

/// Listens on a socket in a folder of its own. Each connection is one request, answered by the test's closure.
final class FakeUserspaceDevice: Sendable {
    enum Answer: Sendable {
        /// Sent as it is, in pieces of so many bytes; then the connection is closed.
        case text(String, piece: Int = .max)
        /// Nothing, for as long as the device lives.
        case silence
        /// Sent after so many bytes of the request; then the connection is closed on what is still to be read.
        case early(String, after: Int)
    }

    let path: String
    private let folder = TemporaryFolder()
    private let listener: Int32
    private let received = Mutex<[String]>([])
    private let answer: @Sendable (String) -> Answer

    /// What was asked so far.
    var requests: [String] { received.withLock { $0 } }

    init(answer: @escaping @Sendable (String) -> Answer) {
        self.answer = answer
        path = "\(folder.path)/wg0.sock"
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        withUnsafePointer(to: address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        listen(listener, 8)
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let device = Unmanaged<FakeUserspaceDevice>.fromOpaque(argument)
                device.takeUnretainedValue().serve()
                device.release()
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        pthread_detach(thread)
    }

    /// Ends it: whoever waits for it is refused.
    func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

    private func serve() {
        var open: [Int32] = []
        while true {
            let connection = accept(listener, nil, nil)
            if connection < 0 { break }
            if handle(connection) { close(connection) } else { open.append(connection) }
        }
        for connection in open { close(connection) }
        close(listener)
    }

    /// Whether the connection is to be closed.
    private func handle(_ connection: Int32) -> Bool {
        var request: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4096)
        let end = Array("\n\n".utf8)
        while !request.suffix(2).elementsEqual(end) {
            let count = read(connection, &piece, piece.count)
            if count <= 0 { break }
            request += piece.prefix(count)
            if case .early(let text, let limit) = answer(String(decoding: request.prefix(6), as: UTF8.self)),
                request.count >= limit
            {
                send(text, to: connection, piece: .max)
                return true
            }
        }
        let text = String(decoding: request, as: UTF8.self)
        received.withLock { $0.append(text) }
        switch answer(text) {
        case .silence: return false
        case .text(let text, let piece): send(text, to: connection, piece: piece)
        case .early(let text, _): send(text, to: connection, piece: .max)
        }
        return true
    }

    private func send(_ text: String, to connection: Int32, piece: Int) {
        let bytes = Array(text.utf8)
        var done = 0
        while done < bytes.count {
            let part = bytes[done..<min(bytes.count, done + min(piece, bytes.count))]
            let count = part.withUnsafeBytes { Glibc.send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count <= 0 { return }
            done += count
        }
    }
}
