// Finds the programs that weft started, by the mark that each carries in its environment.

internal import Glibc
internal import Netlink

/// Processes with `WEFT_DEVICE=<token>` in their environment. The token is random and stands in the state folder before
/// the program starts, so that a process which has it was started by weft, for that interface, even if weft was
/// killed right after. The owner of a socket does not tell: a program that goes to the background listens first.
struct MarkedProcesses {
    static let variable = "WEFT_DEVICE"
    /// Usually `/proc`.
    var folder = "/proc"

    /// All processes with the token that have not ended.
    func find(_ token: String) -> [pid_t] {
        SmallFile.names(in: folder).compactMap { name in
            guard let process = pid_t(name), has(token, process) else { return nil }
            return process
        }
    }

    func has(_ token: String, _ process: pid_t) -> Bool {
        guard let environment = try? SmallFile.read("\(folder)/\(process)/environ") else { return false }
        let entry = Array("\(Self.variable)=\(token)".utf8)
        return environment.split(separator: 0).contains { $0.elementsEqual(entry) }
    }

    /// Whether weft started a process, whenever that was.
    func isMarked(_ process: pid_t) -> Bool {
        guard let environment = try? SmallFile.read("\(folder)/\(process)/environ") else { return false }
        let start = Array("\(Self.variable)=".utf8)
        return environment.split(separator: 0).contains { $0.starts(with: start) }
    }

    /// Whether a process holds the tun device behind an interface: see the `iff` line in its fdinfo, tun(4).
    func holds(_ interface: String, _ process: pid_t) -> Bool {
        let line = Array("iff:\t\(interface)".utf8)
        return SmallFile.names(in: "\(folder)/\(process)/fdinfo").contains { descriptor in
            guard let text = try? SmallFile.read("\(folder)/\(process)/fdinfo/\(descriptor)") else { return false }
            return text.split(separator: UInt8(ascii: "\n")).contains { $0.elementsEqual(line) }
        }
    }

    /// Any process of this network namespace that holds the tun device behind an interface, and its name.
    func holder(of interface: String) -> (process: pid_t, name: String)? {
        let namespace = SmallFile.target(of: "\(folder)/thread-self/ns/net")
        for entry in SmallFile.names(in: folder) {
            guard let process = pid_t(entry), holds(interface, process),
                SmallFile.target(of: "\(folder)/\(process)/ns/net") == namespace,
                let name = readKernelText("\(folder)/\(process)/comm")
            else { continue }
            return (process, name)
        }
        return nil
    }

    /// Ends what has the token: asked first, made after `patience`. True once nothing has it any more. What is killed ends for
    /// certain, but on a busy machine its device may take seconds to go.
    func end(_ token: String, patience: Duration) -> Bool {
        for (signal, patience) in [(SIGTERM, patience), (SIGKILL, .seconds(10))] {
            for process in find(token) { kill(process, signal) }
            if waitForEnd(token, patience) { return true }
        }
        return false
    }

    /// Waits until nothing has the token any more; false where that takes longer.
    func waitForEnd(_ token: String, _ patience: Duration) -> Bool {
        let deadline = ContinuousClock.now + patience
        while !find(token).isEmpty {
            guard ContinuousClock.now < deadline else { return false }
            usleep(10_000)
        }
        return true
    }
}
