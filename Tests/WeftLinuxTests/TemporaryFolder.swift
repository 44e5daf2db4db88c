// A folder that a test has to itself.

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
        let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        _ = text.withCString { Glibc.write(descriptor, $0, text.utf8.count) }
        close(descriptor)
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
