// Finds the programs that weft started, by the mark that each carries in its environment.

internal import CLinux
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
}

/// The processes with a token, until there are none any more.
///
/// A process that ends lets go of its environment first, and with it of the mark, then of its files, and with them of its
/// device and its socket; a busy kernel may need seconds in between. So what was once found is held on to, by a descriptor
/// that cannot come to mean another process (pidfd_open(2), Linux 5.3; before that, the mark is all that is looked at).
struct EndOfMarked {
    private let processes: MarkedProcesses
    private let token: String
    private var held: [HeldProcess] = []

    init(_ processes: MarkedProcesses, _ token: String) {
        self.processes = processes
        self.token = token
    }

    /// The numbers of those that have not ended yet.
    mutating func remaining() -> [pid_t] {
        held.removeAll(where: \.hasEnded)
        let marked = processes.find(token)
        for process in marked where !held.contains(where: { $0.number == process }) {
            if let new = HeldProcess(process) { held.append(new) }
        }
        return Set(marked).union(held.map(\.number)).sorted()
    }

    /// Waits until all have ended; false where that takes longer than `patience`.
    mutating func wait(_ patience: Duration) -> Bool {
        let deadline = ContinuousClock.now + patience
        while !remaining().isEmpty {
            guard ContinuousClock.now < deadline else { return false }
            usleep(10_000)
        }
        return true
    }

    /// Ends all: asked first, made after `patience`. True once they have ended. What is killed ends for certain, but on a busy
    /// machine its device may take seconds to go.
    mutating func force(patience: Duration) -> Bool {
        for (signal, patience) in [(SIGTERM, patience), (SIGKILL, .seconds(10))] {
            for process in remaining() { kill(process, signal) }
            if wait(patience) { return true }
        }
        return false
    }
}

/// A process, whatever becomes of its number.
private final class HeldProcess {
    let number: pid_t
    private let descriptor: FileDescriptor

    init?(_ number: pid_t) {
        let raw = weft_pidfd_open(number)
        guard raw >= 0 else { return nil }
        self.number = number
        descriptor = FileDescriptor(raw)
    }

    /// Whether it has let go of everything. Its parent may not have asked for its end yet.
    var hasEnded: Bool {
        var entry = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        return unsafe poll(&entry, 1, 0) > 0
    }
}
