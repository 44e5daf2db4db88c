// A folder that a test has to itself, and other programs that tests compare with.

import Glibc

final class TemporaryFolder {
    let path: String

    init() {
        var template = Array("/tmp/weft-keys-XXXXXX".utf8CString)
        path = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
    }

    deinit { _ = run(["rm", "-rf", path]) }

    func write(_ text: String, to name: String, mode: mode_t = 0o600) -> String {
        let file = "\(path)/\(name)"
        let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        _ = text.withCString { Glibc.write(descriptor, $0, text.utf8.count) }
        fchmod(descriptor, mode)
        close(descriptor)
        return file
    }
}

func contents(of path: String) -> String {
    let descriptor = open(path, O_RDONLY)
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 65536)
    let count = read(descriptor, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
}

/// Runs a program through the shell, quoted, with an input; its exit status and standard output.
func run(_ arguments: [String], input: String = "") -> (status: Int32, output: String) {
    var template = Array("/tmp/weft-run-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    let file = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    _ = input.withCString { write(descriptor, $0, input.utf8.count) }
    close(descriptor)
    defer { unlink(file) }
    let quoted = arguments.map {
        "'" + $0.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }
    guard let pipe = popen(quoted.joined(separator: " ") + " < \(file)", "r") else { return (-1, "") }
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = fread(&buffer, 1, buffer.count, pipe)
        if count == 0 { break }
        output += buffer.prefix(count)
    }
    let status = pclose(pipe)
    return (status >> 8, String(decoding: output, as: UTF8.self))
}
