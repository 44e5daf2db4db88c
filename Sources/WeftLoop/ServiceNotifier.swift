// Tells the service manager how it stands: the protocol of sd_notify(3), which is one datagram a message.

import CLinux
import Glibc

/// The service manager's ear. Where there is none (`NOTIFY_SOCKET` is not set), nothing is sent.
package struct ServiceNotifier {
    private let address: UnixAddress?
    /// How often it wants to hear `watchdog()`: half of the time after which it gives the service up; nil: never.
    package let watchdogInterval: Duration?

    /// How long a full queue of the manager may keep the messages waiting that it must not miss.
    private static let patience = 1

    /// Takes the manager's variables out of the environment, so that no program that is started speaks in our name.
    /// Made before any thread is.
    package init() {
        func take(_ name: String) -> String? {
            guard let value = getenv(name) else { return nil }
            let text = String(cString: value)
            unsetenv(name)
            return text.isEmpty ? nil : text
        }
        let socket = take("NOTIFY_SOCKET")
        let microseconds = take("WATCHDOG_USEC").flatMap { Int64($0) }
        let process = take("WATCHDOG_PID").flatMap { Int32($0) }
        address = socket.flatMap { try? UnixAddress($0) }
        if let microseconds, microseconds > 0, process == nil || process == getpid() {
            watchdogInterval = .microseconds(microseconds) / 2
        } else {
            watchdogInterval = nil
        }
    }

    /// Whether there is a service manager that listens.
    package var isListening: Bool { address != nil }

    /// Start-up is done, or a reload.
    package func ready() { send("READY=1", mayWait: true) }

    /// One line for people, shown by `systemctl status`.
    package func status(_ text: String) {
        send("STATUS=" + String(text.map { $0.isNewline ? " " : $0 }), mayWait: false)
    }

    /// The configuration is being read again; `ready()` ends that.
    package func reloading() {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        let microseconds = Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
        send("RELOADING=1\nMONOTONIC_USEC=\(microseconds)", mayWait: true)
    }

    /// The end has begun.
    package func stopping() { send("STOPPING=1", mayWait: true) }

    /// The loop is alive.
    package func watchdog() { send("WATCHDOG=1", mayWait: false) }

    /// What fails is not told: the manager is the one who would act on it.
    private func send(_ message: String, mayWait: Bool) {
        guard let address else { return }
        let type = Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard let file = try? Descriptor(socket(AF_UNIX, type, 0), "reach the service manager") else { return }
        var patience = timeval(tv_sec: Self.patience, tv_usec: 0)
        setsockopt(file.number, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        let flags = Int32(MSG_NOSIGNAL) | (mayWait ? 0 : Int32(MSG_DONTWAIT))
        let bytes = Array(message.utf8)
        address.withSocketAddress { address, length in
            _ = retryingEINTR { sendto(file.number, bytes, bytes.count, flags, address, length) }
        }
    }
}
