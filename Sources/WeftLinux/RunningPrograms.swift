// Which programs run in this thread's network namespace, told by /proc.

import Glibc

/// Whether a program runs in the network namespace of the calling thread.
///
/// - Parameters:
///   - name: as the kernel keeps it: the first 15 bytes.
///   - proc: where /proc is.
func runsHere(_ name: String, proc: String) -> Bool {
    let namespace = SmallFile.target(of: "\(proc)/thread-self/ns/net")
    return SmallFile.names(in: proc).contains { entry in
        entry.utf8.allSatisfy { UInt8(ascii: "0") <= $0 && $0 <= UInt8(ascii: "9") }
            && readKernelText("\(proc)/\(entry)/comm") == name
            && SmallFile.target(of: "\(proc)/\(entry)/ns/net") == namespace
    }
}
