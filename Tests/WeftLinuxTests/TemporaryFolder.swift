// A folder that a test has to itself.

import CLinux
import Glibc

final class TemporaryFolder: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/weft-linux-XXXXXX".utf8CString)
        path = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
    }

    deinit { system("rm -rf '\(path)'") }

    func remove(_ name: String) { unlink("\(path)/\(name)") }

    @discardableResult
    func write(_ text: String, to name: String) -> String {
        let file = "\(path)/\(name)"
        let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        _ = text.withCString { Glibc.write(descriptor, $0, text.utf8.count) }
        close(descriptor)
        // What another test starts at this moment has the file open until it has become another program; and a script that
        // somebody has open for writing cannot be run. The kernel grants a lease where nobody has.
        let reading = open(file, O_RDONLY | O_CLOEXEC)
        defer { close(reading) }
        _ = fcntl(reading, weft_f_setsig, SIGURG)
        var tries = 5_000
        while tries > 0, fcntl(reading, weft_f_setlease, Int32(F_RDLCK)) != 0, errno == EAGAIN {
            usleep(1_000)
            tries -= 1
        }
        return file
    }
}

func contents(of path: String) -> String {
    let descriptor = open(path, O_RDONLY)
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    let count = read(descriptor, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
}
