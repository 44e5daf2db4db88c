// Follows a branch of a git repository with the system's git, into a folder of its own.

internal import CLinux
internal import Glibc
internal import Netlink
internal import Synchronization
internal import WeftModel
internal import WeftPlan

/// Fetches a ref and switches a symbolic link to each new commit's files, atomically:
///
///     FOLDER/repository      a bare repository
///           /commit-1f0c…    the files of a commit
///           /index           what git knows of the files in force: whether one of them has changed
///           /current         a link to the commit in force: what is watched
///           /lock            held for as long as somebody works here
///
/// The folder is the follower's own. What a run that was killed, or a power failure, has left in it is put right by the next
/// look: locks of git's are removed, files that are not as committed are written again, and a repository that is damaged
/// is fetched anew. What is in force stays meanwhile.
///
/// No hook runs, no submodule is fetched, and symbolic links of the repository become plain files: what somebody commits
/// must not lead out of its folder. Everything here may wait for the network: it belongs on a thread of its own.
package final class GitFollower: Sendable {
    /// What came of a look.
    package enum Outcome: Hashable, Sendable {
        case unchanged(commit: String)
        case switched(commit: String)
    }

    /// Why nothing was switched; what was there stays.
    package struct Problem: Error, Hashable, Sendable, CustomStringConvertible {
        package var description: String
    }

    package let url: String
    package let ref: String
    /// Whether a ref that is no descendant of the commit in force is followed too.
    package let allowsRewrites: Bool
    private let folder: String
    private let git: String
    private let environment: [String: String]
    private let isEnded = Atomic(false)
    /// How often what git does was to end.
    private let interruptions = Atomic(0)
    /// How many gits run.
    private let running = Atomic(0)

    /// How long git may take for the network, and for its own work.
    package static let patience = Duration.seconds(120)

    /// - Parameters:
    ///   - folder: where all is kept; made when it is missing.
    ///   - environment: what git gets of PATH, HOME and the settings for ssh.
    /// - Throws: where there is no git, or the URL or the ref is none that may be given to it.
    package init(
        url: String, ref: String, folder: String, allowsRewrites: Bool, environment: [String: String]
    ) throws(Problem) {
        guard let git = findProgram("git", path: environment["PATH"]) else {
            throw Problem(description: "git is not installed: install it, or let something else change a folder")
        }
        guard !url.hasPrefix("-"), !ref.hasPrefix("-"), !url.isEmpty, !ref.isEmpty else {
            throw Problem(description: "a URL and a ref do not begin with a dash")
        }
        // In git's arguments everybody on the host would read it, and in status and log the group weft.
        if GitWords.hasCredentials(url) {
            throw Problem(
                description:
                    "the URL holds a user, a token or a password, which others on this host could read: leave it out, and "
                    + "give it to git's credential helper for the agent's user (`git config --global credential.helper "
                    + "store` takes it from the file ~/.git-credentials), or use a key of ssh's")
        }
        self.url = url
        self.ref = ref
        self.folder = folder
        self.allowsRewrites = allowsRewrites
        self.git = git
        var environment = environment
        environment["GIT_TERMINAL_PROMPT"] = "0"
        environment["GIT_CONFIG_NOSYSTEM"] = "1"
        environment["LC_ALL"] = "C"
        self.environment = environment
    }

    /// The link to the files in force.
    package var link: String { "\(folder)/current" }
    private var repository: String { "\(folder)/repository" }
    private var index: String { "\(folder)/index" }

    /// The commit that the link leads to; nil where there is none yet.
    package var commit: String? {
        guard let target = SmallFile.target(of: link), target.hasPrefix("commit-") else { return nil }
        return String(target.dropFirst("commit-".count))
    }

    /// Whether the repository can be read now.
    package func isReachable() -> Bool {
        (try? run(["ls-remote", "--exit-code", "--quiet", "--", url, ref], "look at \(url)", .seconds(10))) != nil
    }

    /// Ends what git does at the moment, and lets it do no more.
    package func end() {
        isEnded.store(true, ordering: .sequentiallyConsistent)
        for _ in 0..<200 where running.load(ordering: .sequentiallyConsistent) > 0 { usleep(5_000) }
    }

    /// Ends what git does at the moment: it may wait for answers to what it sent by another way than there is now.
    package func interrupt() { interruptions.add(1, ordering: .sequentiallyConsistent) }

    // MARK: A look

    /// Fetches, and switches where there is something new.
    ///
    /// - Parameter note: is told, in a sentence, what of the folder was put right.
    package func follow(noting note: (String) -> Void = { _ in }) throws(Problem) -> Outcome {
        do throws(Errno) { try makeFolder(folder) } catch {
            throw Problem(description: "cannot make \(folder): \(error)")
        }
        let lock = try lockFolder()
        let outcome = try followAlone(note)
        _ = consume lock
        return outcome
    }

    private func lockFolder() throws(Problem) -> FileLock {
        do throws(DataplaneError) { return try FileLock.acquire("\(folder)/lock", timeout: .seconds(10)) } catch {
            throw Problem(description: error.description)
        }
    }

    private func followAlone(_ note: (String) -> Void) throws(Problem) -> Outcome {
        removeLeftovers()
        do throws(Problem) { return try look(note) } catch {
            guard !isEnded.load(ordering: .relaxed), isDamaged() else { throw error }
            try fetchAnew(because: error)
            note("the repository in \(folder) was damaged (\(error)): it was fetched anew")
        }
        return try look(note)
    }

    private func look(_ note: (String) -> Void) throws(Problem) -> Outcome {
        var damage: Problem?
        let old = commit
        if let old, !isIntact(old) {
            // Before the network is asked: it may be away.
            do throws(Problem) {
                try check(out: old)
                note("the files of commit \(old.prefix(12)) were damaged or gone: they were written again")
            } catch { damage = error }
        }
        let new = try fetch(into: repository)
        if let old, old != new, !allowsRewrites, try !isAncestor(old, of: new) {
            throw Problem(
                description:
                    "\(ref) of \(url) was rewritten: \(new.prefix(12)) does not come after \(old.prefix(12)), which "
                    + "stays in force; allow it with --allow-rewrites, or put the history back")
        }
        if old != new {
            try check(out: new)
            return .switched(commit: new)
        }
        if let damage { throw damage }
        return .unchanged(commit: new)
    }

    /// - Returns: the commit that the ref is now.
    private func fetch(into repository: String) throws(Problem) -> String {
        if unsafe access("\(repository)/HEAD", F_OK) != 0 {
            try run(["init", "--quiet", "--bare", "--template=", repository], "make a repository")
        }
        try run(
            inRepository(repository) + [
                "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--", url, "+\(ref):refs/weft/new",
            ],
            "fetch \(ref) of \(url)")
        return try run(
            inRepository(repository) + ["rev-parse", "--verify", "refs/weft/new^{commit}"], "read \(ref) of \(url)"
        ).trimmed
    }

    private func isAncestor(_ old: String, of new: String) throws(Problem) -> Bool {
        // A commit that is not there any more is no ancestor either.
        (try? run(inRepository(repository) + ["merge-base", "--is-ancestor", old, new], "compare")) != nil
    }

    // MARK: What is put right

    /// Whoever has left them is gone: the lock is ours.
    private func removeLeftovers() {
        for name in SmallFile.names(in: folder) where name.hasPrefix("index.") { removeTree("\(folder)/\(name)") }
        removeTree("\(folder)/draft")
        removeTree("\(folder)/repository.new")
        removeLocks(in: repository)
    }

    private func removeLocks(in folder: String) {
        for name in SmallFile.names(in: folder) where name != "objects" {
            let path = "\(folder)/\(name)"
            var status = stat()
            guard unsafe lstat(path, &status) == 0 else { continue }
            if status.st_mode & S_IFMT == S_IFDIR {
                removeLocks(in: path)
            } else if name.hasSuffix(".lock") {
                _ = unsafe unlink(path)
            }
        }
    }

    /// Whether the repository is what keeps us from going on.
    private func isDamaged() -> Bool {
        (try? run(inRepository(repository) + ["fsck", "--no-progress", "--no-dangling"], "look through it")) == nil
    }

    /// Replaces the repository by one that is fetched as a whole, once there is one.
    private func fetchAnew(because problem: Problem) throws(Problem) {
        let new = "\(folder)/repository.new"
        do throws(Problem) { _ = try fetch(into: new) } catch {
            removeTree(new)
            throw Problem(
                description: "the repository in \(folder) is damaged, and cannot be fetched anew yet: \(error)")
        }
        removeTree(repository)
        guard unsafe rename(new, repository) == 0 else {
            throw Problem(description: "cannot rename \(new): \(Errno(errno))")
        }
    }

    // MARK: Files

    /// Whether the files in force are those of the commit.
    private func isIntact(_ commit: String) -> Bool {
        let files = "\(folder)/commit-\(commit)"
        guard unsafe access(files, F_OK) == 0, unsafe access(index, F_OK) == 0 else { return false }
        return (try? run(inWorkTree(files) + ["diff-files", "--quiet"], "compare", index: index)) != nil
    }

    /// Puts a commit's files into a folder of their own, and the link on it.
    private func check(out commit: String) throws(Problem) {
        let target = "\(folder)/commit-\(commit)"
        let draft = "\(folder)/draft"
        let draftIndex = "\(folder)/index.draft"
        removeTree(draft)
        removeTree(draftIndex)
        do throws(Errno) { try makeFolder(draft) } catch {
            throw Problem(description: "cannot make \(draft): \(error)")
        }
        try run(
            inWorkTree(draft) + ["read-tree", "--reset", "-u", commit], "check out \(commit.prefix(12))",
            index: draftIndex)
        do throws(Errno) { try sync() } catch {
            throw Problem(description: "cannot write what was checked out to the disk: \(error)")
        }
        try put(draft, in: target)
        guard unsafe rename(draftIndex, index) == 0 else {
            throw Problem(description: "cannot rename \(draftIndex): \(Errno(errno))")
        }
        let old = self.commit
        _ = unsafe unlink("\(folder)/current.new")
        guard unsafe symlink("commit-\(commit)", "\(folder)/current.new") == 0,
            unsafe rename("\(folder)/current.new", link) == 0
        else { throw Problem(description: "cannot switch \(link): \(Errno(errno))") }
        try? syncFolder(of: link)
        // The one before stays for whoever is reading it just now.
        for name in SmallFile.names(in: folder) where name.hasPrefix("commit-") {
            let other = String(name.dropFirst("commit-".count))
            if other != commit, other != old { removeTree("\(folder)/\(name)") }
        }
    }

    /// All at once: a thousand files one by one would take a second and more.
    private func sync() throws(Errno) {
        let descriptor = try FileDescriptor.open(folder, O_RDONLY | O_DIRECTORY)
        guard syncfs(descriptor.rawValue) == 0 else { throw Errno(errno) }
    }

    /// Where there are files of the commit already, the two change places: it is never without any.
    private func put(_ draft: String, in target: String) throws(Problem) {
        if unsafe renameat2(AT_FDCWD, draft, AT_FDCWD, target, weft_rename_exchange) == 0 { return removeTree(draft) }
        removeTree(target)
        guard unsafe rename(draft, target) == 0 else {
            throw Problem(description: "cannot rename \(draft): \(Errno(errno))")
        }
    }

    // MARK: Git

    private static let settings = [
        "-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=false", "-c", "core.fsmonitor=false", "-c",
        "protocol.ext.allow=never", "-c", "gc.auto=0",
    ]

    private func inRepository(_ repository: String) -> [String] { ["--git-dir=\(repository)"] + Self.settings }

    private func inWorkTree(_ files: String) -> [String] { ["--work-tree=\(files)"] + inRepository(repository) }

    @discardableResult
    private func run(
        _ arguments: [String], _ what: String, _ patience: Duration = GitFollower.patience, index: String? = nil
    ) throws(Problem) -> String {
        var environment = environment
        environment["GIT_INDEX_FILE"] = index
        let interruptions = interruptions.load(ordering: .sequentiallyConsistent)
        func isUnwanted() -> Bool {
            isEnded.load(ordering: .relaxed) || self.interruptions.load(ordering: .relaxed) != interruptions
        }
        running.add(1, ordering: .sequentiallyConsistent)
        defer { running.subtract(1, ordering: .sequentiallyConsistent) }
        let program: StartedProgram
        do throws(Errno) {
            program = try StartedProgram.start(git, arguments, environment: environment)
        } catch {
            throw Problem(description: "cannot start git: \(error)")
        }
        guard let status = program.wait(patience, unless: isUnwanted) else {
            throw Problem(
                description: isEnded.load(ordering: .relaxed)
                    ? "cannot \(what): the agent ends"
                    : isUnwanted()
                        ? "cannot \(what): it was interrupted"
                        : "cannot \(what): git took more than \(patience.components.seconds) s")
        }
        guard status == 0 else {
            let words = GitWords.summary(of: program.text(), folder: folder)
            throw Problem(description: "cannot \(what): \(words.isEmpty ? "git ended with \(status)" : words)")
        }
        return program.text()
    }
}

extension String {
    fileprivate var trimmed: String { String(split(whereSeparator: \.isWhitespace).first ?? "") }
}
