// weft, with one addition: it ends itself outright (SIGKILL) at the point that WEFT_KILL names, if it gets there.
//
//   WEFT_KILL=operation:N    before operation N; operations then go to the kernel one at a time
//   WEFT_KILL=before:N       before the Nth netlink datagram that changes something is sent
//   WEFT_KILL=after:N        after it, before its answer is read
//
// Counted from 0. So with N = 0 it lives exactly where a weft would change nothing.

import Glibc
import Netlink
import WeftCommand
import WeftFaults

func killPoint(_ text: String) -> KillPoint? {
    let parts = text.split(separator: ":")
    guard parts.count == 2, let number = Int(parts[1]) else { return nil }
    switch parts[0] {
    case "operation": return .beforeOperation(number)
    case "before": return .beforeMutation(number)
    case "after": return .afterMutation(number)
    default: return nil
    }
}

if let text = getenv("WEFT_KILL").map({ String(cString: $0) }) {
    guard let point = killPoint(text) else {
        let problem = "weft-killpoint: WEFT_KILL=\(text) is none of operation:N, before:N, after:N\n"
        _ = problem.withCString { write(STDERR_FILENO, $0, strlen($0)) }
        exit(64)
    }
    let killSwitch = KillSwitch(point)
    var seams = Seams()
    if case .beforeOperation = point {
        seams.beforeOperation = { _ in killSwitch.operation() }
    } else {
        seams.wrapTransport = { transport, bus in KillingTransport(transport, bus, killSwitch) }
    }
    Seams.current = seams
}
WeftCommand.run()
