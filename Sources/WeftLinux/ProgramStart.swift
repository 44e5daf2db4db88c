// Starts another program without a shell, and without leaving it anything of ours.

internal import CLinux
internal import Glibc
internal import Netlink

/// A program that was started.
final class StartedProgram {
    let path: String
    let process: pid_t
    /// Its standard output and error, in memory.
    private let output: FileDescriptor

    private init(path: String, process: pid_t, output: consuming FileDescriptor) {
        self.path = path
        self.process = process
        self.output = output
    }

    /// Starts `path` in a session of its own, so that Ctrl-C meant for us does not end it: with `/` as its folder, no
    /// descriptor besides the standard ones, no signal blocked or ignored, and this environment.
    ///
    /// - Parameter input: what it reads on its standard input; nil for `/dev/null`.
    static func start(
        _ path: String, _ arguments: [String], environment: [String: String], input text: String? = nil
    ) throws(Errno) -> StartedProgram {
        // In memory and not a pipe: a program that goes to the background may keep it, and must not get SIGPIPE.
        let output = try memoryFile()
        let input = try memoryFile()
        if let text {
            try input.writeAll(Array(text.utf8))
            guard lseek(input.rawValue, 0, SEEK_SET) == 0 else { throw Errno(errno) }
        }
        let process = try spawnProgram(
            path, arguments, environment, input: text == nil ? nil : input.rawValue, output: output.rawValue)
        return StartedProgram(path: path, process: process, output: output)
    }

    /// A file that is nowhere in a file system.
    static func memoryFile() throws(Errno) -> FileDescriptor {
        let raw = unsafe memfd_create("weft-program", UInt32(MFD_CLOEXEC))
        guard raw >= 0 else { throw Errno(errno) }
        return FileDescriptor(raw)
    }

    /// Waits for its end, and ends it, with all that it has started, where that takes longer than `patience`, or when
    /// it is no longer wanted.
    ///
    /// - Returns: its exit status, or 128 and the signal that ended it; nil where it was not in time.
    func wait(_ patience: Duration, unless isUnwanted: () -> Bool = { false }) -> Int32? {
        let deadline = ContinuousClock.now + patience
        var pause: UInt32 = 500
        while true {
            if let status = exitStatus() { return status }
            guard ContinuousClock.now < deadline, !isUnwanted() else { break }
            usleep(pause)
            pause = min(pause * 2, 20_000)
        }
        // It leads a session, and with it a process group of its own.
        kill(-process, SIGKILL)
        var status: Int32 = 0
        _ = retryingEINTR { unsafe waitpid(process, &status, 0) }
        return nil
    }

    /// What it has written, at most 256 KiB.
    func text() -> String {
        var bytes = [UInt8](repeating: 0, count: 256 << 10)
        let count = retryingEINTR { unsafe pread(output.rawValue, &bytes, bytes.count, 0) }
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    /// Nil while it runs; afterwards its exit status, or 128 and the signal that ended it, once.
    func exitStatus() -> Int32? {
        var status: Int32 = 0
        let result = retryingEINTR { unsafe waitpid(process, &status, WNOHANG) }
        guard result == process else { return nil }
        return status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
    }

    /// Takes the end of a program that is about to end, so that no zombie of it stays. One that runs on is left alone.
    func reapSoon() {
        for _ in 0..<20 {
            if exitStatus() != nil { return }
            usleep(1_000)
        }
    }

    /// The last line that it has written, empty where there is none.
    func lastLine() -> String {
        var bytes = [UInt8](repeating: 0, count: 16 << 10)
        let count = retryingEINTR { unsafe pread(output.rawValue, &bytes, bytes.count, 0) }
        let lines = bytes.prefix(max(0, count)).split(separator: UInt8(ascii: "\n"))
        return lines.last.map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

}

/// Starts a program in a session of its own.
///
/// - Parameters:
///   - errors: its standard error; nil: the same as its output.
///   - kept: becomes its descriptor 3; nil: it has no more than the standard ones.
///   - staysInFolder: whether our folder is its folder; `/` is otherwise.
func spawnProgram(
    _ path: String, _ arguments: [String], _ environment: [String: String], input: Int32?, output: Int32,
    errors: Int32? = nil, keeping kept: Int32? = nil, staysInFolder: Bool = false
) throws(Errno) -> pid_t {
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    if let input {
        unsafe posix_spawn_file_actions_adddup2(&actions, input, 0)
    } else {
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    }
    unsafe posix_spawn_file_actions_adddup2(&actions, output, 1)
    unsafe posix_spawn_file_actions_adddup2(&actions, errors ?? output, 2)
    if let kept { unsafe posix_spawn_file_actions_adddup2(&actions, kept, 3) }
    unsafe posix_spawn_file_actions_addclosefrom_np(&actions, kept == nil ? 3 : 4)
    if !staysInFolder { unsafe posix_spawn_file_actions_addchdir_np(&actions, "/") }

    var attributes = posix_spawnattr_t()
    unsafe posix_spawnattr_init(&attributes)
    defer { unsafe posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    var all = sigset_t()
    unsafe sigemptyset(&none)
    unsafe sigfillset(&all)
    unsafe posix_spawnattr_setsigmask(&attributes, &none)
    unsafe posix_spawnattr_setsigdefault(&attributes, &all)
    // POSIX_SPAWN_SETSID, which glibc hides from Swift, is 0x80.
    unsafe posix_spawnattr_setflags(
        &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | 0x80))

    var process: pid_t = 0
    let variables = environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    let result = unsafe withCStrings([path] + arguments) { arguments in
        unsafe withCStrings(variables) { variables in
            unsafe posix_spawn(&process, path, &actions, &attributes, arguments, variables)
        }
    }
    guard result == 0 else { throw Errno(result) }
    return process
}

/// Lends an array of C strings that ends with a null pointer.
func withCStrings<Result>(
    _ texts: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    let pointers = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: texts.count + 1)
    for (index, text) in texts.enumerated() { unsafe (pointers + index).initialize(to: unsafe strdup(text)) }
    unsafe (pointers + texts.count).initialize(to: nil)
    defer {
        for index in texts.indices { unsafe free(pointers[index]) }
        unsafe pointers.deallocate()
    }
    return unsafe body(pointers)
}

/// Finds a program as a shell would: a name with a slash as it stands, others along PATH. Nil where there is none.
func findProgram(_ name: String, path: String?) -> String? {
    if name.isEmpty { return nil }
    if name.utf8.contains(UInt8(ascii: "/")) { return isProgram(name) ? name : nil }
    let folders = path ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    // Relative entries are left out: what the current folder holds is not to run as root.
    for folder in folders.split(separator: ":") where folder.hasPrefix("/") {
        let candidate = "\(folder)/\(name)"
        if isProgram(candidate) { return candidate }
    }
    return nil
}

private func isProgram(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(path, X_OK) == 0
}
