// A network namespace for one test: made on a thread of its own, gone with it.

import CLinux
import Glibc
import Testing
import WeftLinux

enum TestNamespace {
    /// Why tests in namespaces cannot run here; nil where they can.
    static let obstacle: Comment? = {
        if geteuid() != 0 { return "root" }
        return run { true } == nil ? "the right to make network namespaces (CLONE_NEWNET)" : nil
    }()

    /// Whether this kernel has WireGuard: in the virtual machine it has.
    static let hasKernelWireGuard: Bool = run { shell("ip link add t0 type wireguard 2>/dev/null") } ?? false

    private final class Job {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }

    /// Runs `body` on a new thread in a new network namespace, in which `lo` is up; nil where none can be made.
    static func run<Result>(_ body: () throws -> Result) rethrows -> Result? {
        try withoutActuallyEscaping(body) { body in
            var result: Swift.Result<Result, any Error>?
            let job = Job {
                guard unshare(CLONE_NEWNET) == 0 else { return }
                shell("ip link set lo up")
                result = Swift.Result { try body() }
            }
            var thread = pthread_t()
            let argument = Unmanaged.passRetained(job)
            let started = pthread_create(
                &thread, nil,
                { argument in
                    argument.map { Unmanaged<Job>.fromOpaque($0).takeRetainedValue().body() }
                    return nil
                }, argument.toOpaque())
            guard started == 0 else {
                argument.release()
                return nil
            }
            pthread_join(thread, nil)
            return try result?.get()
        }
    }
}

/// Runs a command in the calling thread's namespace; whether it succeeded.
@discardableResult
func shell(_ command: String) -> Bool { system(command) == 0 }

/// What a command prints, run in the calling thread's namespace.
func output(_ command: String) -> String {
    guard let pipe = popen("\(command) 2>&1", "r") else { return "" }
    defer { pclose(pipe) }
    var result = ""
    var line = [CChar](repeating: 0, count: 4096)
    while fgets(&line, Int32(line.count), pipe) != nil {
        result += String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    return result
}
