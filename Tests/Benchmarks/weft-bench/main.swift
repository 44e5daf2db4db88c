// Measures Weft's own part of a pass and of an apply on a kernel, beside the floor's C programs.
//
// usage: weft-bench [-6] [-p] [-f ELEMENTS RULES] [-r RUNS] make|pass|apply|ruleset INTERFACE PEERS
//        weft-bench [-6] [-p] [-r RUNS] change INTERFACE PEERS CHANGED
//
//   make      makes the interface with so many peers and routes, and leaves it
//   pass      observes and diffs, with nothing to do: weft.pass.observe, weft.pass.diff, weft.pass
//   apply     from an interface without peers: weft.apply.plan, weft.apply.peers, weft.apply.routes, weft.apply
//   change    after `make`: gives so many peers another allowed IP and its route; weft.change is the whole pass
//   ruleset   after `make` with -f: gives the table other elements and rules throughout; weft.ruleset is the whole pass
//   --record FOLDER, --replay FOLDER   keeps the kernel's answers, or answers with them: the same command, elsewhere
//   -f ELEMENTS RULES   a table of that size
//   -6, -p    an IPv6 allowed IP, a preshared key for each peer
//
// Prints a line each: NAME MEDIAN MINIMUM MAXIMUM unit=us runs=N

import Glibc
import Netlink
import WeftKeys
import WeftLinux
import WeftModel
import WeftPlan
import WeftReconcile

func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) * 1e6 + Double(time.tv_nsec) / 1e3
}

func fail(_ text: String, code: Int32 = 1) -> Never {
    let line = "weft-bench: \(text)\n"
    _ = line.withCString { write(STDERR_FILENO, $0, line.utf8.count) }
    exit(code)
}

func report(_ name: String, _ times: [Double]) {
    let sorted = times.sorted()
    func tenths(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
    print(
        name, tenths(sorted[sorted.count / 2]), tenths(sorted[0]), tenths(sorted[sorted.count - 1]),
        "unit=us runs=\(sorted.count)")
}

struct Bench {
    let work: Work
    let interface: String
    let runs: Int
    let arena: SecretArena
    var plane: KernelDataplane

    init(_ work: Work, _ interface: String, _ runs: Int, _ transports: @escaping TransportFactory) throws {
        self.work = work
        self.interface = interface
        self.runs = runs
        let arena = SecretArena(capacity: work.peers + 1)
        self.arena = arena
        plane = try KernelDataplane(
            KernelDataplane.Parts(userspace: NoPrograms(), sysctls: NoMemory(), secrets: { arena }),
            transports: transports)
    }

    var mesh: MeshIdentity { Work.mesh(interface) }

    mutating func plan(_ desired: DesiredState, _ memory: MeshMemory = MeshMemory()) throws -> Plan {
        Plan(mesh: mesh, desired: desired, observed: try plane.observe(mesh, Interests(sysctls: [])), memory: memory)
    }

    /// What an apply leaves in the state folder.
    func memory(of desired: DesiredState) -> MeshMemory {
        var endpoints: [PublicKey: AppliedEndpoint] = [:]
        for peer in desired.state.peers {
            endpoints[peer.publicKey] = peer.endpoint.map { AppliedEndpoint(written: $0.description, address: $0) }
        }
        return MeshMemory(endpoints: endpoints)
    }

    /// Applies a plan; the microseconds by kind.
    mutating func apply(_ plan: Plan) -> [WeftPlan.Operation.Kind: Double] {
        var times: [WeftPlan.Operation.Kind: Double] = [:]
        var application = Application(plan)
        while !application.isFinished {
            let begun = now()
            let range = application.step(&plane)
            times[plan.operations[range.lowerBound].operation.kind, default: 0] += now() - begun
            if let failed = range.first(where: { application.outcomes[$0].isFailure }) {
                fail("\(plan.operations[failed].operation): \(application.outcomes[failed])")
            }
        }
        return times
    }

    mutating func make() throws {
        _ = apply(try plan(work.desired(interface, arena)))
        let rest = try plan(work.desired(interface, arena))
        if !rest.isEmpty { fail("not converged: \(rest.operations.count) operations left") }
    }

    mutating func pass() throws {
        let desired = work.desired(interface, arena)
        let memory = memory(of: desired)
        var observing: [Double] = []
        var diffing: [Double] = []
        var both: [Double] = []
        for _ in 0..<runs {
            let begun = now()
            let observed = try plane.observe(mesh, Interests(sysctls: []))
            let read = now()
            let plan = Plan(mesh: mesh, desired: desired, observed: observed, memory: memory)
            let ended = now()
            if !plan.isEmpty { fail("something to do: \(plan.operations[0])") }
            observing.append(read - begun)
            diffing.append(ended - read)
            both.append(ended - begun)
        }
        report("weft.pass.observe", observing)
        report("weft.pass.diff", diffing)
        report("weft.pass", both)
    }

    mutating func cold() throws {
        let desired = work.desired(interface, arena)
        var series: [String: [Double]] = [:]
        for _ in 0..<runs {
            var empty = desired
            empty.state.peers = []
            empty.state.routes = []
            _ = apply(try plan(empty))
            let observed = try plane.observe(mesh, Interests(sysctls: []))
            let begun = now()
            let plan = Plan(mesh: mesh, desired: desired, observed: observed, memory: MeshMemory())
            series["weft.apply.plan", default: []].append(now() - begun)
            let times = apply(plan)
            series["weft.apply", default: []].append(now() - begun)
            series["weft.apply.peers", default: []].append(times[.peer] ?? 0)
            series["weft.apply.routes", default: []].append(times[.route] ?? 0)
        }
        for (name, times) in series.sorted(by: { $0.key < $1.key }) { report(name, times) }
    }

    mutating func change(_ changed: Int) throws {
        let before = work.desired(interface, arena)
        let after = work.desired(interface, arena, changed: changed)
        let memory = memory(of: before)
        var series: [String: [Double]] = [:]
        for _ in 0..<runs {
            _ = apply(try plan(before))
            let begun = now()
            let changes = try plan(after, memory)
            series["weft.change.plan", default: []].append(now() - begun)
            let times = apply(changes)
            series["weft.change", default: []].append(now() - begun)
            series["weft.change.peers", default: []].append(times[.peer] ?? 0)
            series["weft.change.routes", default: []].append(times[.route] ?? 0)
        }
        for (name, times) in series.sorted(by: { $0.key < $1.key }) { report(name, times) }
    }
}

extension Bench {
    mutating func ruleset() throws {
        var whole: [Double] = []
        var sending: [Double] = []
        for run in 1...runs {
            var other = work
            other.variant = UInt32(run % 2)
            let desired = other.desired(interface, arena)
            let begun = now()
            let changes = try plan(desired, memory(of: desired))
            let planned = now()
            _ = apply(changes)
            let ended = now()
            if changes.operations.count != 1 { fail("not one operation: \(changes.operations.count)") }
            whole.append(ended - begun)
            sending.append(ended - planned)
            if !(try plan(desired, memory(of: desired))).isEmpty { fail("not converged") }
        }
        report("weft.ruleset.send", sending)
        report("weft.ruleset", whole)
    }
}

/// No user-space devices here: the kernel's is what is measured.
struct NoPrograms: UserspaceDevices {
    func start(interface: String) throws(DataplaneError) {
        throw DataplaneError(.noWireGuard, "the kernel has no WireGuard")
    }
    func requireProgram() throws(DataplaneError) { throw DataplaneError(.noWireGuard, "the kernel has no WireGuard") }
    func isOurs(interface: String) -> Bool { false }
    func control(interface: String) -> any WireGuardControl { fail("no user-space devices here") }
    func stop(interface: String) throws(DataplaneError) {}
}

/// No sysctls here.
struct NoMemory: SysctlLedger {
    func record(
        _ sysctl: Sysctl, over current: String, companions: [Sysctl], by interface: String
    ) throws(DataplaneError) {}
    func memory() throws(DataplaneError) -> SysctlMemory { SysctlMemory() }
    func release(_ path: String, by interface: String) throws(DataplaneError) {}
}

func usage() -> Never {
    fail(
        "usage: weft-bench [-6] [-p] [-f ELEMENTS RULES] [-r RUNS] make|pass|apply|ruleset|change INTERFACE PEERS "
            + "[CHANGED]", code: 64)
}

var work = Work(peers: 0)
var runs = 1
var words: [String] = []
var transports: TransportFactory = { (bus) throws(Errno) in try Socket(bus) }
var arguments = CommandLine.arguments.dropFirst()
while let argument = arguments.popFirst() {
    switch argument {
    case "-6": work.hasIPv6 = true
    case "-p": work.hasPresharedKeys = true
    case "-f":
        guard let elements = arguments.popFirst().flatMap({ Int($0) }),
            let rules = arguments.popFirst().flatMap({ Int($0) })
        else { usage() }
        work.ruleset = Ruleset(elements: elements, rules: rules)
    case "-r":
        guard let count = arguments.popFirst().flatMap({ Int($0) }), count > 0 else { usage() }
        runs = count
    case "--record":
        guard let folder = arguments.popFirst() else { usage() }
        transports = { (bus) throws(Errno) in try Recording(bus, to: folder) }
    case "--replay":
        guard let folder = arguments.popFirst() else { usage() }
        transports = { (bus) throws(Errno) in try Recording(bus, from: folder) }
    default: words.append(argument)
    }
}
guard words.count >= 3, let peers = Int(words[2]), peers > 0 else { usage() }
work.peers = peers
do {
    var bench = try Bench(work, words[1], runs, transports)
    switch (words[0], words.count) {
    case ("make", 3): try bench.make()
    case ("pass", 3): try bench.pass()
    case ("apply", 3): try bench.cold()
    case ("ruleset", 3): try bench.ruleset()
    case ("change", 4):
        guard let changed = Int(words[3]), (1...peers).contains(changed) else { usage() }
        try bench.change(changed)
    default: usage()
    }
} catch {
    fail("\(error)")
}
