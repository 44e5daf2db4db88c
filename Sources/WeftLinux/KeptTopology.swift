// The last good topology, kept in the state folder for a start that finds none, or a broken one.

internal import Glibc
internal import Netlink
package import WeftDiagnostics
internal import WeftKeys
internal import WeftModel
package import WeftPlan

extension SourceFiles {
    /// A digest of all names and contents: 12 hexadecimal digits, by which people know a topology.
    ///
    /// - Parameter root: the topology's path, which takes no part: a moved folder is the same topology.
    package func revision(below root: String) -> String {
        String(digest(below: root.hasSuffix("/") ? String(root.dropLast()) : root).prefix(12))
    }

    /// The same files at another path.
    fileprivate func moved(from root: String, to place: String) -> SourceFiles {
        if root == place { return self }
        return SourceFiles(
            files.map { file in
                guard file.name.hasPrefix(root) else { return file }
                let rest = file.name.dropFirst(root.count).drop { $0 == "/" }
                return File(name: rest.isEmpty ? place : "\(place)/\(rest)", bytes: file.bytes)
            })
    }

    fileprivate func digest(below root: String) -> String {
        var digest = ContentDigest()
        for file in files {
            let name = file.name.hasPrefix(root) ? file.name.dropFirst(root.count) : file.name[...]
            digest.take(Array(name.utf8))
            digest.take(file.bytes)
        }
        return digest.finish()
    }
}

extension SourceFiles {
    private static let heading = "weft-topology 1"

    /// All of it in one piece, with a digest by which damage shows.
    package func kept(below root: String) -> [UInt8] {
        var bytes = Array("\(Self.heading) \(digest(below: root))\n".utf8)
        for file in files {
            bytes += Array("\(file.name.utf8.count) \(file.bytes.count)\n\(file.name)\n".utf8)
            bytes += file.bytes
            bytes.append(UInt8(ascii: "\n"))
        }
        return bytes
    }

    /// Nil where this is not what `kept` gave.
    package init?(kept bytes: [UInt8], below root: String) {
        var reader = KeptReader(bytes: bytes)
        guard let heading = reader.line(), heading.hasPrefix(Self.heading), let files = reader.files(),
            heading == "\(Self.heading) \(files.digest(below: root))"
        else { return nil }
        self = files
    }
}

extension StateFolder {
    /// A topology of 100,000 nodes is 20 MB.
    private static let topologyLimit = 300 << 20

    /// Keeps a topology in place of the one before. It holds no secret: none may stand in a topology.
    ///
    /// The record names a whole copy at every moment: the new one is written first, and the old one goes last.
    ///
    /// - Parameters:
    ///   - root: the topology's path.
    ///   - interface: where it is in force.
    package func keep(_ files: SourceFiles, of root: String, for interface: String) throws(DataplaneError) {
        let place = Self.place(of: root)
        let path = keptPath(of: place)
        let bytes = files.moved(from: root, to: place).kept(below: place)
        try keepingAlone { () throws(DataplaneError) in
            if (try? self.bytes(of: path, limit: Self.topologyLimit)) != bytes { try replace(path, with: bytes) }
            let former: String?
            do throws(DataplaneError) {
                former = try store(topology: place, of: interface)
            } catch {
                discard(path)
                throw error
            }
            if let former = former.map(keptPath), former != path { discard(former) }
        }
    }

    /// A path without what is only its spelling. Links stay: they may lead to another topology tomorrow.
    private static func place(of path: String) -> String {
        var whole = path
        if !path.hasPrefix("/") {
            guard let folder = unsafe getcwd(nil, 0) else { return path }
            defer { unsafe free(folder) }
            whole = unsafe "\(String(cString: folder))/\(path)"
        }
        return "/" + whole.split(separator: "/").filter { $0 != "." }.joined(separator: "/")
    }

    /// Keeps others from keeping a topology, or from letting one go: two interfaces may have the same.
    private func keepingAlone(_ body: () throws(DataplaneError) -> Void) throws(DataplaneError) {
        try asOwner(of: root) { () throws(DataplaneError) in
            try makeOwnFolder()
            let lock = try FileLock.acquire("\(path)/\(Self.keptLock)", timeout: .seconds(10))
            let result = Result(catching: body)
            lock.remove()
            try result.get()
        }
    }

    /// Removes a copy, unless a record names it, or cannot be read and may. One that stays is named by `strayTopologies`.
    private func discard(_ copy: String) {
        let isNeeded = headings.contains { heading in heading.map { $0.topology.map(keptPath) == copy } ?? true }
        if !isNeeded { _ = unsafe unlink(copy) }
    }

    /// What the records of all interfaces say; nil for each that cannot be read.
    private var headings: [InterfaceHeading?] {
        let names = SmallFile.names(in: path).filter {
            $0.hasSuffix(".json") && !$0.hasSuffix(Self.trialEnd) && $0 != StateSysctls.fileName
        }
        return names.map { name in
            (try? bytes(of: "\(path)/\(name)", limit: Self.topologyLimit)).flatMap { $0 }
                .flatMap { try? InterfaceHeading(json: $0) }
        }
    }

    /// The topology that was in force on an interface last, with its path; nil where none was kept.
    ///
    /// - Throws: where it cannot be read, or is not what was written.
    package func topology(inForceOn interface: String) throws(DataplaneError) -> (files: SourceFiles, root: String)? {
        guard let root = try topologyPath(of: interface), let files = try copy(of: root) else { return nil }
        return (files, root)
    }

    /// Topologies that were kept, and that no record names: whose they were is lost with it.
    var strayTopologies: [String] {
        let known = headings.compactMap { $0?.topology.map(keptPath) }
        return SmallFile.names(in: path).filter { $0.hasPrefix("topology-") && $0.hasSuffix(".kept") }.sorted()
            .map { "\(path)/\($0)" }.filter { !known.contains($0) }
    }

    /// What is lost with an interface's record.
    var lossOfTopology: String {
        let strays = strayTopologies
        if strays.isEmpty { return "" }
        let names = strays.joined(separator: ", ")
        return "; nor is the topology that was in force (\(names)): until the next apply keeps one anew, a change "
            + "cannot be taken back"
    }

    /// Forgets what was kept of a topology that an interface had; its record is gone.
    func forget(topology root: String) throws(DataplaneError) {
        try keepingAlone { () throws(DataplaneError) in discard(keptPath(of: root)) }
    }

    /// Forgets an interface's trial.
    func forgetTrial(of interface: String) throws(DataplaneError) {
        try asOwner(of: root) { () throws(DataplaneError) in _ = unsafe unlink(trialSocket(of: interface)) }
        try remove(trialPath(of: interface)) { true }
    }

    /// The interfaces of which a trial is remembered.
    package var interfacesWithTrials: [String] {
        let end = Self.trialEnd
        return SmallFile.names(in: path).filter { $0.hasSuffix(end) }.map { String($0.dropLast(end.count)) }.sorted()
    }

    /// What was kept of the topology at a path, with the path that its files have there; nil where there is none.
    ///
    /// - Throws: where it cannot be read, or is not what was written.
    package func keptTopology(of path: String) throws(DataplaneError) -> (files: SourceFiles, root: String)? {
        let place = Self.place(of: path)
        return try copy(of: place).map { ($0, place) }
    }

    private func copy(of root: String) throws(DataplaneError) -> SourceFiles? {
        let path = keptPath(of: root)
        guard let bytes = try bytes(of: path, limit: Self.topologyLimit) else { return nil }
        guard let files = SourceFiles(kept: bytes, below: root) else {
            throw DataplaneError(.file, "\(path) is damaged, or a newer weft's: it is not used")
        }
        return files
    }

    /// The topology of an interface that is on trial, or that failed; nil where there is none.
    package func trial(of interface: String) throws(DataplaneError) -> TrialRecord? {
        let file = try read(TrialFile.self, trialPath(of: interface))
        if file.topology.isEmpty { return nil }
        var record = TrialRecord(
            id: file.topology,
            // A machine that was started anew meanwhile gives it no second chance.
            deadline: UnixTime(seconds: file.bootID == bootID ? file.deadline : 0),
            wanted: file.wanted.compactMap { IPAddress($0) }, isRejected: file.isRejected)
        record.isResumable = file.isResumable ?? true
        record.isUndone = file.isUndone ?? false
        record.reason = file.reason ?? ""
        record.handshakes = file.handshakes ?? []
        record.proofs = file.proofs ?? []
        return record
    }

    /// Remembers a trial; nil: there is none.
    package func store(_ trial: TrialRecord?, of interface: String) throws(DataplaneError) {
        try update(TrialFile.self, trialPath(of: interface)) { file in
            file = .empty
            guard let trial else { return }
            file.bootID = bootID
            file.topology = trial.id
            file.deadline = trial.deadline.seconds
            file.wanted = trial.wanted.map(\.description)
            file.isRejected = trial.isRejected
            file.isResumable = trial.isResumable
            file.isUndone = trial.isUndone
            file.reason = trial.reason
            file.handshakes = trial.handshakes
            file.proofs = trial.proofs
        }
    }

    private static let trialEnd = "-trial.json"

    private func trialPath(of interface: String) -> String { "\(path)/\(interface)\(Self.trialEnd)" }

    /// Longer than an interface's name may be.
    static let keptLock = "topologies-of-all-interfaces.lock"

    private func keptPath(of root: String) -> String {
        "\(path)/topology-\(String(MeshIdentity.hash(root), radix: 16)).kept"
    }
}

/// Takes apart what `keep` wrote.
private struct KeptReader {
    let bytes: [UInt8]
    private var position = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func line() -> String? {
        guard let end = bytes[position...].firstIndex(of: UInt8(ascii: "\n")) else { return nil }
        defer { position = end + 1 }
        return String(decoding: bytes[position..<end], as: UTF8.self)
    }

    private mutating func piece(_ count: Int) -> ArraySlice<UInt8>? {
        guard count >= 0, count < bytes.count - position, bytes[position + count] == UInt8(ascii: "\n") else {
            return nil
        }
        defer { position += count + 1 }
        return bytes[position..<position + count]
    }

    /// All files up to the end; nil where something is amiss.
    mutating func files() -> SourceFiles? {
        var files: [SourceFiles.File] = []
        while position < bytes.count {
            let counts = line()?.split(separator: " ").compactMap { Int($0) } ?? []
            guard counts.count == 2, let name = piece(counts[0]), let content = piece(counts[1]) else { return nil }
            files.append(SourceFiles.File(name: String(decoding: name, as: UTF8.self), bytes: Array(content)))
        }
        return SourceFiles(files)
    }
}
