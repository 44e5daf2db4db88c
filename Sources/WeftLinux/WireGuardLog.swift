// What the kernel's WireGuard has to say of itself, by the kernel's dynamic debug.

internal import Glibc
internal import Netlink

/// WireGuard's debug lines in the kernel's log, from now until they are put back as they were: handshakes that are sent,
/// received and refused, by peer number and address; there is no key in them. They are the whole kernel's: other network
/// namespaces' devices are heard too. See the kernel's admin-guide/dynamic-debug-howto.
package final class WireGuardLog {
    /// Why they cannot be turned on or back, and what to do.
    package struct Problem: Error, Hashable, Sendable, CustomStringConvertible {
        package var description: String
    }

    /// A place in WireGuard's source that can log.
    private struct Site {
        var file: Substring
        var line: Substring
        var isOn: Bool

        /// `drivers/net/wireguard/send.c:34 [wireguard]wg_packet_send_handshake_initiation =_ "%s: …"`
        init?(_ text: Substring) {
            let fields = text.split(separator: " ", maxSplits: 3)
            guard fields.count >= 3, fields[1].hasPrefix("[wireguard]"), fields[2].hasPrefix("="),
                let colon = fields[0].lastIndex(of: ":")
            else { return nil }
            file = fields[0][..<colon]
            line = fields[0][fields[0].index(after: colon)...]
            isOn = fields[2].contains("p")
        }
    }

    /// Where the kernel is told: the second only where debugfs is mounted.
    package static let controls = ["/proc/dynamic_debug/control", "/sys/kernel/debug/dynamic_debug/control"]

    private let control: String
    private let sites: [Site]

    /// Turns them on. WireGuard's module must be loaded.
    package init(controls: [String] = WireGuardLog.controls) throws(Problem) {
        guard let control = controls.first(where: { unsafe access($0, F_OK) == 0 }) else {
            throw Problem(description: "this kernel has no dynamic debug, or debugfs is not mounted")
        }
        self.control = control
        let bytes: [UInt8]?
        do throws(Errno) { bytes = try readFile(control, limit: 64 << 20) } catch {
            throw Problem(description: "\(control) cannot be read: \(error)")
        }
        // Other lines may hold anything.
        sites = String(decoding: bytes ?? [], as: UTF8.self).split(separator: "\n").compactMap { Site($0) }
        guard !sites.isEmpty else {
            throw Problem(
                description:
                    "the kernel's WireGuard is not loaded or has no dynamic debug; a user-space device logs by itself")
        }
        if sites.contains(where: { !$0.isOn }) { try tell("module wireguard +p") }
    }

    /// Puts each of them back as it was.
    package func restore() throws(Problem) {
        guard sites.contains(where: { !$0.isOn }) else { return }
        try tell("module wireguard -p")
        for site in sites where site.isOn { try tell("file \(site.file) line \(site.line) +p") }
    }

    private func tell(_ query: String) throws(Problem) {
        do throws(Errno) {
            try FileDescriptor.open(control, O_WRONLY).writeAll(Array("\(query)\n".utf8))
        } catch {
            let remedy =
                switch error.rawValue {
                case EACCES, EPERM: ": only root may, and not under kernel lockdown"
                case EROFS: ": it is read-only here (ProtectKernelTunables= of systemd does that)"
                default: ""
                }
            throw Problem(description: "\(control) cannot be written: \(error)\(remedy)")
        }
    }
}
