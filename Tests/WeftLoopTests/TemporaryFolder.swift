// A folder that a test has to itself.

import Glibc

final class TemporaryFolder: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/weft-loop-XXXXXX".utf8CString)
        path = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
    }

    deinit { system("rm -rf '\(path)'") }

    @discardableResult
    func write(_ text: String, to name: String) -> String {
        let file = "\(path)/\(name)"
        let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        _ = text.withCString { Glibc.write(descriptor, $0, text.utf8.count) }
        close(descriptor)
        return file
    }
}
