// Records what a kernel answers, and plays it again where profilers run: they do not in the virtual machine.

import CLinux
import Glibc
import Netlink

/// Answers in the order in which they came, of one bus; a file of lengths and bytes.
final class Recording: Transport {
    private let socket: Socket?
    private let file: Int32
    let port: UInt32

    /// Passes everything through, and writes down every answer.
    init(_ bus: Bus, to folder: String) throws(Errno) {
        let socket = try Socket(bus)
        self.socket = socket
        port = socket.port
        file = open("\(folder)/\(bus)", O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        save(withUnsafeBytes(of: port) { Array($0) })
    }

    /// Answers from what was written down; nothing is sent.
    init(_ bus: Bus, from folder: String) throws(Errno) {
        socket = nil
        file = open("\(folder)/\(bus)", O_RDONLY)
        guard file >= 0 else { throw Errno(errno) }
        var length = 0
        var port: UInt32 = 0
        read(file, &length, 8)
        read(file, &port, 4)
        self.port = port
    }

    deinit { close(file) }

    private func save(_ bytes: [UInt8]) {
        var length = bytes.count
        write(file, &length, 8)
        write(file, bytes, length)
    }

    func send(_ bytes: RawSpan) throws(Errno) { try socket?.send(bytes) }

    func receive(into buffer: inout MutableRawSpan) throws(Errno) -> Int {
        if let socket {
            let count = try socket.receive(into: &buffer)
            save(buffer.bytes.withUnsafeBytes { Array($0.prefix(count)) })
            return count
        }
        var length = 0
        guard read(file, &length, 8) == 8 else { throw Errno(EAGAIN) }
        return buffer.withUnsafeMutableBytes { read(file, $0.baseAddress, length) }
    }
}
