// The sysctls' part of the state folder: who claimed what, and the values before.

package import WeftModel
package import WeftPlan

/// Memory of sysctls in the state folder. It is void after a reboot: the kernel's values are its own again then.
package struct StateSysctls: SysctlLedger {
    private let folder: StateFolder
    // No interface can have a name of so many characters.
    static let fileName = "sysctls-of-all-interfaces.json"
    private var file: String { "\(folder.path)/\(Self.fileName)" }

    package init(_ folder: StateFolder) {
        self.folder = folder
    }

    package func memory() throws(DataplaneError) -> SysctlMemory {
        try current(folder.readAgain(SysctlRecord.self, file)).memory
    }

    package mutating func record(
        _ sysctl: Sysctl, over value: String, companions: [Sysctl], by interface: String
    ) throws(DataplaneError) {
        try folder.update(SysctlRecord.self, file) { record in
            record = current(record)
            var claimed = Set(record.claims[interface] ?? [])
            claimed.insert(sysctl.path)
            record.claims[interface] = claimed.sorted()
            // The first value stays; what was written last is how ours is told from somebody else's.
            var original =
                record.originals[sysctl.path]
                ?? SysctlRecord.Original(
                    value: value, written: sysctl.value,
                    companions: companions.isEmpty
                        ? nil : Dictionary(companions.map { ($0.path, $0.value) }) { first, _ in first })
            original.written = sysctl.value
            record.originals[sysctl.path] = original
        }
    }

    package mutating func release(_ path: String, by interface: String) throws(DataplaneError) {
        guard try memory().claims[interface]?.contains(path) ?? false else { return }
        try folder.update(SysctlRecord.self, file) { record in
            record = current(record)
            let rest = (record.claims[interface] ?? []).filter { $0 != path }
            record.claims[interface] = rest.isEmpty ? nil : rest
            if !record.claims.values.contains(where: { $0.contains(path) }) { record.originals[path] = nil }
        }
    }

    /// Removes the file where nothing of this boot is in it. One that cannot be read is kept.
    package func removeIfEmpty() throws(DataplaneError) {
        try folder.remove(file) { () throws(DataplaneError) in
            try memory() == SysctlMemory() && !folder.problems.contains { $0.path == file }
        }
    }

    private func current(_ record: SysctlRecord) -> SysctlRecord {
        var record = record.bootID == folder.bootID ? record : .empty
        record.bootID = folder.bootID
        return record
    }
}
