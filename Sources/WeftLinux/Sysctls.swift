// Sysctls: read, and written only where they differ, after the claim is on record.

import Glibc
import Netlink
import WeftModel
import WeftPlan

/// The settings below one folder, `/proc/sys`. Those of the network are the calling thread's namespace's.
struct Sysctls {
    let folder: String

    /// Reads the settings that are there; one that this kernel lacks is left out.
    func read(_ paths: [String]) throws(DataplaneError) -> [Sysctl] {
        var result: [Sysctl] = []
        for path in paths {
            if let value = try read(path) { result.append(Sysctl(path, value)) }
        }
        return result
    }

    /// Those of the settings that nobody can write, each with its value: in containers /proc/sys is mounted read-only, or a
    /// part of it is. The mount is asked, and not what this process may do, which other rights would mend.
    ///
    /// - Parameter interface: where it is not there, its settings are those that interfaces are made with.
    func fixed(_ paths: [String], of interface: String) throws(DataplaneError) -> [Sysctl] {
        var result: [Sysctl] = []
        for path in paths {
            var status = statvfs()
            var place = path
            if unsafe statvfs("\(folder)/\(place)", &status) != 0 {
                place = path.replacing("/conf/\(interface)/", with: "/conf/default/")
                guard unsafe statvfs("\(folder)/\(place)", &status) == 0 else { continue }
            }
            guard status.f_flag & UInt(ST_RDONLY) != 0, let value = try read(place) else { continue }
            result.append(Sysctl(path, value))
        }
        return result
    }

    private func read(_ path: String) throws(DataplaneError) -> String? {
        do throws(Errno) {
            var bytes = try SmallFile.read("\(folder)/\(path)")
            while let last = bytes.last, last == UInt8(ascii: "\n") { bytes.removeLast() }
            return String(decoding: bytes, as: UTF8.self)
        } catch {
            if error.rawValue == ENOENT { return nil }
            throw DataplaneError(error, Request(.readSysctl, "read sysctl \(path)"))
        }
    }

    func perform(_ operation: SysctlOperation, by interface: String, _ ledger: inout any SysctlLedger) -> Outcome {
        do throws(DataplaneError) {
            switch operation {
            case .claim(let sysctl, let current):
                let companions = try companions(of: sysctl.path, at: current)
                try ledger.record(sysctl, over: current, companions: companions, by: interface)
                return try write(sysctl)
            case .hold(let sysctl):
                try ledger.record(sysctl, over: sysctl.value, companions: [], by: interface)
                return .done
            case .setOwn(let sysctl, _): return try write(sysctl)
            case .release(let path, _, let restore, let companions):
                // The values first: after a crash in between, the claim is still known, and what was written is right
                // already.
                if let restore { _ = try write(Sysctl(path, restore)) }
                // Those of interfaces that have gone since are nobody's.
                for companion in companions where try read(companion.path) != nil { _ = try write(companion) }
                try ledger.release(path, by: interface)
                return .done
            case .leave(let sysctl, _):
                try ledger.release(sysctl.path, by: interface)
                return .done
            }
        } catch {
            return .failed(error)
        }
    }

    /// What the kernel will change along with a setting, and would not make the same again with this value of it.
    private func companions(of path: String, at value: String) throws(DataplaneError) -> [Sysctl] {
        guard let turned = ForwardingSwitch(path) else { return [] }
        return try read(turned.companions(SmallFile.names(in: "\(folder)/\(turned.folder)"))).filter {
            $0.value != turned.value(of: $0.path, at: value)
        }
    }

    private func write(_ sysctl: Sysctl) throws(DataplaneError) -> Outcome {
        if try read(sysctl.path) == sysctl.value { return .already }
        do throws(Errno) {
            try SmallFile.write(sysctl.value, to: "\(folder)/\(sysctl.path)")
        } catch {
            throw DataplaneError(error, Request(.writeSysctl, "set sysctl \(sysctl.path) = \(sysctl.value)"))
        }
        return .done
    }
}
