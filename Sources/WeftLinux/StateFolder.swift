// The state folder: what a host remembers between two runs, keyed by network namespace and interface.

internal import Glibc
internal import Netlink
internal import WeftModel
package import WeftPlan

/// Something in the state folder that could not be used, and was kept.
package struct StateProblem: Hashable, Sendable, CustomStringConvertible {
    /// The file as it was found.
    package var path: String
    package var message: String

    package var description: String { "\(path): \(message)" }
}

/// Durable memory below one folder (rule 40 of reconciling):
///
///     /var/lib/weft/clock.json                           the latest time that the clock has shown
///                  /host/wg0.json                        endpoints last applied, the program that was started
///                       /wg0.lock                        held by the run that changes wg0
///                       /wg0.sock                        who watches over a trial of wg0 answers here
///                       /wg0-trial.json                  a change on trial, or one that failed
///                       /topology-5f3a….kept             the last good topology of an interface, by its path
///                       /git-5f3a…                       a repository that is followed, see `GitFollower`
///                       /sysctls-of-all-interfaces.json  claims, and the values before the first
///                  /netns-4711/…                         another network namespace
///
/// A mesh that was taken down has no file left here, nor have the claims once there is none. Never a secret in it. Losing it loses no safety. What cannot be read counts as empty, is listed in `problems`, and is
/// kept beside the new file (`.corrupt`) when that is written.
package final class StateFolder {
    package static let defaultPath = "/var/lib/weft"

    /// The folder of this network namespace.
    package let path: String
    let root: String
    package let namespace: String
    let bootID: String
    /// What was found that could not be used.
    package private(set) var problems: [StateProblem] = []
    /// What short records said last, by file: each pass reads them, and the same bytes say the same.
    private var said: [String: (bytes: [UInt8], record: any StateRecord)] = [:]

    /// - Parameters:
    ///   - namespace: see `NetworkNamespace.currentName()`.
    package init(
        path: String = StateFolder.defaultPath, namespace: String = NetworkNamespace.currentName(),
        bootID: String? = nil
    ) {
        root = path
        self.path = "\(path)/\(namespace)"
        self.namespace = namespace
        self.bootID = bootID ?? NetworkNamespace.era(of: namespace)
    }

    /// Whose folder this is; nil where there is none.
    var owner: uid_t? {
        var status = stat()
        return unsafe stat(root, &status) == 0 ? status.st_uid : nil
    }

    /// What was applied to an interface before; empty where nothing is remembered. Changes nothing on disk.
    package func meshMemory(of interface: String) throws(DataplaneError) -> MeshMemory {
        try current(read(InterfaceRecord.self, file(interface))).meshMemory
    }

    /// Remembers what was applied. Writes only what is new.
    package func store(_ memory: MeshMemory, of interface: String) throws(DataplaneError) {
        try update(InterfaceRecord.self, file(interface)) { record in
            record = current(record)
            record.set(memory)
        }
    }

    /// The mark of the user-space program that was started for an interface since this boot, or was about to be.
    package func programToken(of interface: String) throws(DataplaneError) -> String? {
        guard let program = try readAgain(InterfaceHeading.self, file(interface)).program, program.bootID == bootID
        else { return nil }
        return program.token
    }

    /// Writes down the mark of a program before it is started; nil once it is gone.
    package func store(programToken token: String?, of interface: String) throws(DataplaneError) {
        try update(InterfaceRecord.self, file(interface)) { record in
            record = current(record)
            record.program = token.map { InterfaceRecord.Program(bootID: bootID, token: $0) }
        }
    }

    /// Whom the name servers of an interface were told to since this boot, or were about to be, and under which name.
    func resolver(of interface: String) throws(DataplaneError) -> (kind: ResolverKind, name: String)? {
        let heading = try readAgain(InterfaceHeading.self, file(interface))
        guard namespace == "host" || heading.bootID == bootID, let record = heading.resolver,
            record.bootID == bootID, let kind = ResolverKind(rawValue: record.kind)
        else { return nil }
        return (kind, record.name)
    }

    /// Writes down who is about to be told; nil once that is undone.
    func store(resolver: (kind: ResolverKind, name: String)?, of interface: String) throws(DataplaneError) {
        try update(InterfaceRecord.self, file(interface)) { record in
            record = current(record)
            record.resolver = resolver.map {
                InterfaceRecord.Resolver(bootID: bootID, kind: $0.kind.rawValue, name: $0.name)
            }
        }
    }

    /// Whether what was done for an interface is on record: it is not where its file is lost, or one that tells of it cannot
    /// be used.
    package func remembers(_ interface: String) -> Bool {
        access(file(interface)) != nil && problems.isEmpty
    }

    /// What could not be used of an interface's record, or of the sysctls', and was kept for somebody to look at; and what
    /// was kept of a topology that no record names any more.
    package func keptAside(of interface: String) -> [String] {
        SmallFile.names(in: path).sorted().filter { name in
            name.hasPrefix("\(interface).json.corrupt") || name.hasPrefix("\(StateSysctls.fileName).corrupt")
        }.map { "\(path)/\($0)" } + strayTopologies
    }

    /// Forgets an interface. What is not there is forgotten already.
    package func forget(_ interface: String) throws(DataplaneError) {
        let topology = try read(InterfaceRecord.self, file(interface)).topology
        try forgetTrial(of: interface)
        try remove(file(interface)) { true }
        if let topology { try forget(topology: topology) }
    }

    /// The path of the topology that was in force on an interface last.
    func topologyPath(of interface: String) throws(DataplaneError) -> String? {
        try current(read(InterfaceRecord.self, file(interface))).topology
    }

    /// Whether a mesh was applied to its end on an interface, and not taken down since.
    package func wasInForce(on interface: String) -> Bool {
        (try? topologyPath(of: interface)).flatMap { $0 } != nil
    }

    /// Writes it down.
    ///
    /// - Returns: what was written down before.
    func store(topology: String, of interface: String) throws(DataplaneError) -> String? {
        var former: String?
        try update(InterfaceRecord.self, file(interface)) { record in
            former = record.topology
            record = current(record)
            record.topology = topology
        }
        return former
    }

    /// Removes a file of the folder and the lock beside it. The folder itself stays: another run may be about to make its
    /// files there.
    ///
    /// - Parameter condition: asked while no other process changes the file.
    func remove(_ path: String, where condition: () throws(DataplaneError) -> Bool) throws(DataplaneError) {
        try asOwner(of: root) { () throws(DataplaneError) in
            if access(path) == nil, access(path + ".lock") == nil { return }
            let lock = try FileLock.acquire(path + ".lock", timeout: .seconds(10))
            guard try condition() else { return }
            guard unsafe unlink(path) == 0 || errno == ENOENT else { throw .file(Errno(errno), "remove", path) }
            do throws(Errno) { try syncFolder(of: path) } catch { throw .file(error, "write", self.path) }
            lock.remove()
        }
    }

    private func file(_ interface: String) -> String { "\(path)/\(interface).json" }

    /// A record of a namespace that was numbered in another boot is about another namespace.
    private func current(_ record: InterfaceRecord) -> InterfaceRecord {
        var record = namespace == "host" || record.bootID == bootID ? record : .empty
        record.bootID = bootID
        if record.program?.bootID != bootID { record.program = nil }
        if record.resolver?.bootID != bootID { record.resolver = nil }
        return record
    }
}

/// Files: read whole, changed under a lock, replaced atomically.
extension StateFolder {
    private static let sizeLimit = 64 << 20

    /// Reads a short record that is asked for in each pass: JSON is read only where the file has changed.
    func readAgain<Record: StateRecord>(_ type: Record.Type, _ path: String) throws(DataplaneError) -> Record {
        let bytes = try record(path)
        if let bytes, let said = said[path], isSame(said.bytes, bytes), let record = said.record as? Record {
            return record
        }
        let record = decode(type, bytes, path)
        said[path] = bytes.map { ($0, record) }
        return record
    }

    func read<Record: StateRecord>(_ type: Record.Type, _ path: String) throws(DataplaneError) -> Record {
        decode(type, try record(path), path)
    }

    /// Compares at the speed of memory, which `==` does not.
    private func isSame(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        if left.count != right.count || left.isEmpty { return left.count == right.count }
        return unsafe memcmp(left, right, left.count) == 0
    }

    /// The bytes of a record; nil where there is none.
    private func record(_ path: String) throws(DataplaneError) -> [UInt8]? {
        do throws(DataplaneError) {
            return try bytes(of: path, limit: Self.sizeLimit)
        } catch {
            // Somebody has put a folder there, or something without end.
            guard error.errno == EISDIR || error.errno == EFBIG else { throw error }
            note(StateProblem(path: path, message: "it is no record (\(Errno(error.errno))); it is not used"))
            return nil
        }
    }

    private func decode<Record: StateRecord>(_ type: Record.Type, _ bytes: [UInt8]?, _ path: String) -> Record {
        guard let bytes else { return .empty }
        do throws(StateRecordError) {
            return try Record(json: bytes)
        } catch {
            let message =
                switch error {
                case .newer(let version): "a newer weft wrote it (version \(version)); it is not used"
                case .corrupt(let reason): "it is damaged (\(reason)); it is not used"
                }
            let isInterfaces = type is InterfaceRecord.Type || type is InterfaceHeading.Type
            let loss = type is ClockRecord.Type ? ClockRecord.loss : isInterfaces ? lossOfTopology : ""
            note(StateProblem(path: path, message: message + loss))
            return .empty
        }
    }

    private func note(_ problem: StateProblem) {
        if !problems.contains(problem) { problems.append(problem) }
    }

    /// The bytes of one of the folder's files; nil where there is none.
    func bytes(of path: String, limit: Int) throws(DataplaneError) -> [UInt8]? {
        try asOwner(of: root) { () throws(DataplaneError) in
            do throws(Errno) { return try readFile(path, limit: limit) } catch { throw .file(error, "read", path) }
        }
    }

    /// Reads, changes and writes a record while no other process does. An unchanged one is not written.
    func update<Record: StateRecord>(
        _ type: Record.Type, _ path: String, _ change: (inout Record) -> Void
    ) throws(DataplaneError) {
        try asOwner(of: root) { () throws(DataplaneError) in
            try makeOwnFolder()
            try locked(path) { () throws(DataplaneError) in
                let old = try read(type, path)
                var new = old
                change(&new)
                if new == old { return }
                try keepAside(path)
                try replace(path, with: new.json())
            }
        }
    }

    /// Replaces one of the folder's files. The caller keeps others from writing it.
    func replace(_ path: String, with bytes: [UInt8]) throws(DataplaneError) {
        try asOwner(of: root) { () throws(DataplaneError) in
            do throws(Errno) {
                try makeFolder(self.path)
                try replaceFile(path, with: bytes)
            } catch {
                throw .file(error, "write", path)
            }
        }
    }

    /// Where something of this namespace has a folder of its own. Where ours cannot be made, whoever makes that will see.
    package func folder(named name: String) -> String {
        try? asOwner(of: root) { () throws(DataplaneError) in try makeOwnFolder() }
        return "\(path)/\(name)"
    }

    func makeOwnFolder() throws(DataplaneError) {
        if access(path) != nil { return }
        do throws(Errno) { try makeFolder(path) } catch { throw .file(error, "make", path) }
        dropNamespacesOfOtherBoots()
    }

    /// Numbers of network namespaces mean nothing after a reboot, and their folders would pile up. What cannot be read, or
    /// is somebody else's, stays. That this fails is no failure: nothing depends on it.
    private func dropNamespacesOfOtherBoots() {
        for name in SmallFile.names(in: root) where name.hasPrefix("netns-") && name != namespace {
            let folder = "\(root)/\(name)"
            let files = SmallFile.names(in: folder)
            let isOld = files.allSatisfy { file in
                if [".lock", ".tmp", ".kept", ".sock"].contains(where: file.hasSuffix) || file.hasPrefix("git-") {
                    return true
                }
                guard file.hasSuffix(".json"), let bytes = try? readFile("\(folder)/\(file)", limit: Self.sizeLimit),
                    let boot = recordedBoot(json: bytes)
                else { return false }
                return boot.prefix(NetworkNamespace.bootIDLength) != bootID.prefix(NetworkNamespace.bootIDLength)
            }
            // One with locks alone may be of a run that has just begun.
            guard isOld, files.contains(where: { $0.hasSuffix(".json") }) else { continue }
            for file in files { removeTree("\(folder)/\(file)") }
            _ = unsafe rmdir(folder)
        }
    }

    /// What could not be used is not overwritten.
    private func keepAside(_ path: String) throws(DataplaneError) {
        guard let problem = problems.first(where: { $0.path == path }), access(path) != nil else { return }
        var target = path + ".corrupt"
        var number = 1
        while access(target) != nil {
            number += 1
            target = "\(path).corrupt-\(number)"
        }
        guard unsafe rename(path, target) == 0 else { throw .file(Errno(errno), "rename", path) }
        problems.removeAll { $0.path == path }
        problems.append(StateProblem(path: target, message: "this is what \(path) was before: \(problem.message)"))
    }

    private func access(_ path: String) -> mode_t? {
        var status = stat()
        return unsafe lstat(path, &status) == 0 ? status.st_mode : nil
    }

    private func locked(_ path: String, _ body: () throws(DataplaneError) -> Void) throws(DataplaneError) {
        let lock = try FileLock.acquire(path + ".lock", timeout: .seconds(10))
        try body()
        _ = consume lock
    }
}

extension StateFolder {
    /// Keeps other runs of weft from changing the same interface for as long as the value lives.
    ///
    /// - Parameters:
    ///   - role: nil for a command.
    ///   - readingOnly: takes a lock that is there also where nothing can be written.
    ///   - onWait: called once with the name of the process that holds it, where it must be waited for.
    /// - Throws: `.file` that names the process which holds it after `timeout`; `.inCharge` at once where that is an agent,
    ///   or one that watches over a trial.
    package func lock(
        _ interface: String, timeout: Duration = .seconds(30), as role: FileLock.Role? = nil,
        readingOnly: Bool = false, onWait: (String) -> Void = { _ in }
    ) throws(DataplaneError) -> FileLock {
        try asOwner(of: root) { () throws(DataplaneError) in
            try makeOwnFolder()
            return try FileLock.acquire(
                "\(path)/\(interface).lock", timeout: timeout, saying: "interface \(interface)", as: role,
                readingOnly: readingOnly, onWait: onWait)
        }
    }

    /// Takes over an interface's lock from the process that started this one; see `TrialProcess`.
    package func inheritLock(_ interface: String) throws(DataplaneError) -> FileLock {
        try FileLock.inherit(
            TrialProcess.lockNumber, "\(path)/\(interface).lock", as: .trial(trialSocket(of: interface)))
    }

    /// Where who watches over a trial answers.
    package func trialSocket(of interface: String) -> String { "\(path)/\(interface).sock" }

    /// Whether an agent, or who watches over a trial, holds an interface.
    package func isHeld(_ interface: String) -> Bool { FileLock.holder(of: "\(path)/\(interface).lock") != nil }

    /// The interfaces of this namespace that weft has worked on, whether they are there or not.
    package var interfaces: [String] {
        let names = SmallFile.names(in: path).filter {
            $0.hasSuffix(".lock") && !$0.hasSuffix(".json.lock") && $0 != Self.keptLock
        }
        return names.map { String($0.dropLast(".lock".count)) }.sorted()
    }

    /// The sockets of those that hold interfaces of this namespace for long: agents, and who watches over trials.
    package var holders: [String] {
        var sockets: [String] = []
        for interface in interfaces {
            guard let socket = FileLock.holder(of: "\(path)/\(interface).lock")?.socket, !sockets.contains(socket)
            else {
                continue
            }
            sockets.append(socket)
        }
        return sockets
    }
}
