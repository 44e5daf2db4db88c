// Measures the way from YAML to one host's desired state.
//
// usage: topology-bench FOLDER NODE RUNS
//
// Prints a line each: topology.read, topology.parse (YAML to a checked topology), topology.compile, topology (all three).
//   NAME MEDIAN MINIMUM MAXIMUM unit=us runs=N

import Glibc
import WeftFiles
import WeftModel
import WeftTopology

func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) * 1e6 + Double(time.tv_nsec) / 1e3
}

func fail(_ text: String) -> Never {
    _ = "topology-bench: \(text)\n".withCString { write(STDERR_FILENO, $0, strlen($0)) }
    exit(1)
}

func report(_ name: String, _ times: [Double]) {
    let sorted = times.sorted()
    let figures = [sorted[sorted.count / 2], sorted[0], sorted[sorted.count - 1]].map { String(Int($0.rounded())) }
    let line = "\(name) \(figures.joined(separator: " ")) unit=us runs=\(sorted.count)\n"
    _ = line.withCString { write(STDOUT_FILENO, $0, strlen($0)) }
}

let arguments = CommandLine.arguments
guard arguments.count == 4, let runs = Int(arguments[3]), runs > 0 else {
    fail("usage: topology-bench FOLDER NODE RUNS")
}
var reading: [Double] = []
var parsing: [Double] = []
var compiling: [Double] = []
var all: [Double] = []
var peers = 0
for _ in 0..<runs {
    let begun = now()
    let (files, problems) = TopologyFolder(arguments[1]).read()
    let read = now()
    guard problems.isEmpty, let topology = TopologyReader.read(files).topology else { fail("the topology has errors") }
    let parsed = now()
    guard let node = topology.index(ofNode: arguments[2]) else { fail("no node \(arguments[2])") }
    peers =
        topology.compile(for: node, facts: HostFacts(), at: UnixTime(seconds: 1_800_000_000)).desired.state.peers.count
    let ended = now()
    reading.append(read - begun)
    parsing.append(parsed - read)
    compiling.append(ended - parsed)
    all.append(ended - begun)
}
if peers == 0 { fail("the node has no peers: nothing was measured") }
report("topology.read", reading)
report("topology.parse", parsing)
report("topology.compile", compiling)
report("topology", all)
