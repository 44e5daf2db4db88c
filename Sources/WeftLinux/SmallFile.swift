// Small files below /proc: read whole, written in one call.

import Glibc
import Netlink

enum SmallFile {
    /// Reads a file that says less than `limit` bytes in one go.
    static func read(_ path: String, limit: Int = 1 << 20) throws(Errno) -> [UInt8] {
        let descriptor = try retrying { () throws(Errno) in try check(unsafe open(path, O_RDONLY | O_CLOEXEC)) }
        defer { close(descriptor) }
        var result: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 16 << 10)
        while result.count < limit {
            let count = try retrying { () throws(Errno) -> Int in
                let count = unsafe piece.withUnsafeMutableBytes {
                    unsafe Glibc.read(descriptor, $0.baseAddress, $0.count)
                }
                guard count >= 0 else { throw Errno(errno) }
                return count
            }
            if count == 0 { break }
            result += piece[..<count]
        }
        return result
    }

    /// Writes to a file that is there, in one call, as settings want it.
    static func write(_ text: String, to path: String) throws(Errno) {
        let descriptor = try retrying { () throws(Errno) in try check(unsafe open(path, O_WRONLY | O_CLOEXEC)) }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        try retrying { () throws(Errno) in
            let count = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count >= 0 else { throw Errno(errno) }
        }
    }

    /// The names in a folder, without `.` and `..`; empty where it cannot be read.
    static func names(in path: String) -> [String] {
        guard let folder = unsafe opendir(path) else { return [] }
        defer { unsafe closedir(folder) }
        var result: [String] = []
        while let entry = unsafe readdir(folder) {
            // Where it lies: a record is shorter than its type, and a copy would read past the folder's buffer.
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { result.append(name) }
        }
        return result
    }

    /// Where a symbolic link points, nil where it cannot be read.
    static func target(of path: String) -> String? {
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = unsafe bytes.withUnsafeMutableBytes { bytes -> Int in
            guard let start = bytes.baseAddress else { return 0 }
            return unsafe readlink(path, start.assumingMemoryBound(to: CChar.self), bytes.count)
        }
        return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
    }

    private static func check(_ result: Int32) throws(Errno) -> Int32 {
        guard result >= 0 else { throw Errno(errno) }
        return result
    }

    private static func retrying<Result>(_ call: () throws(Errno) -> Result) throws(Errno) -> Result {
        while true {
            do throws(Errno) {
                return try call()
            } catch {
                if error.rawValue != EINTR { throw error }
            }
        }
    }
}
