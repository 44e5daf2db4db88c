// The address of a unix socket; see unix(7).

import Glibc

/// A path, or a name in the abstract namespace (written with a leading `@`, as systemd does).
struct UnixAddress: Hashable {
    private let bytes: [UInt8]

    /// - Throws: ENAMETOOLONG where the address has no room for it: 107 bytes.
    init(_ name: String) throws(LoopError) {
        var bytes = Array(name.utf8)
        let isAbstract = bytes.first == UInt8(ascii: "@")
        if isAbstract { bytes[0] = 0 } else { bytes.append(0) }
        guard !bytes.isEmpty, bytes.count <= MemoryLayout.size(ofValue: sockaddr_un().sun_path) else {
            throw LoopError("use the socket \(name)", errno: ENAMETOOLONG, remedy: "its path may have 107 bytes")
        }
        self.bytes = bytes
    }

    /// Calls `body` with the address as bind(2) and connect(2) want it.
    func withSocketAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let length = MemoryLayout<sockaddr_un>.size - MemoryLayout.size(ofValue: address.sun_path) + bytes.count
        return withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) }
        }
    }
}
