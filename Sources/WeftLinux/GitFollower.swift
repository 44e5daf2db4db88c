// Follows a branch of a git repository with the system's git, into a folder of its own.

internal import Glibc
internal import Netlink
internal import WeftModel

/// Fetches a ref and switches a symbolic link to each new commit's files, atomically:
///
///     FOLDER/repository      a bare repository
///           /commit-1f0c…    the files of a commit
///           /current         a link to the commit in force: what is watched
///
/// No hook runs, no submodule is fetched, and symbolic links of the repository become plain files: what somebody commits
/// must not lead out of its folder. Everything here may wait for the network: it belongs on a thread of its own.
package struct GitFollower: Sendable {
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

    /// How long git may take for the network, and for its own work.
    private static let patience = Duration.seconds(120)

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
        // In git's arguments everybody on the host would read it.
        if let rest = url.firstRange(of: "://").map({ url[$0.upperBound...] }),
            let user = rest.split(separator: "/").first?.split(separator: "@", omittingEmptySubsequences: false),
            user.count > 1, user[0].contains(":")
        {
            throw Problem(description: "the URL holds a password: use a key of ssh's, or git's credential helpers")
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

    /// The commit in force; nil where there is none yet.
    package var commit: String? {
        guard let target = SmallFile.target(of: link), target.hasPrefix("commit-") else { return nil }
        return String(target.dropFirst("commit-".count))
    }

    /// Fetches, and switches where there is something new.
    package func follow() throws(Problem) -> Outcome {
        do throws(Errno) { try makeFolder(folder) } catch {
            throw Problem(description: "cannot make \(folder): \(error)")
        }
        if unsafe access("\(repository)/HEAD", F_OK) != 0 {
            try run(["init", "--quiet", "--bare", "--template=", repository], "make a repository")
        }
        try run(
            inRepository([
                "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--", url, "+\(ref):refs/weft/new",
            ]),
            "fetch \(ref) of \(url)")
        let new = try run(inRepository(["rev-parse", "--verify", "refs/weft/new^{commit}"]), "read \(ref)").trimmed
        guard let old = commit else {
            try check(out: new)
            return .switched(commit: new)
        }
        if new == old { return .unchanged(commit: old) }
        if !allowsRewrites, try !isAncestor(old, of: new) {
            throw Problem(
                description:
                    "\(ref) of \(url) was rewritten: \(new.prefix(12)) does not come after \(old.prefix(12)), which "
                    + "stays in force; allow it with --allow-rewrites, or put the history back")
        }
        try check(out: new)
        return .switched(commit: new)
    }

    /// Whether the repository can be read now.
    package func isReachable() -> Bool {
        (try? run(["ls-remote", "--exit-code", "--quiet", "--", url, ref], "look at \(url)", .seconds(10))) != nil
    }

    private func isAncestor(_ old: String, of new: String) throws(Problem) -> Bool {
        // A commit that is not there any more is no ancestor either.
        (try? run(inRepository(["merge-base", "--is-ancestor", old, new]), "compare")) != nil
    }

    /// Puts a commit's files into a folder of their own, and the link on it.
    private func check(out commit: String) throws(Problem) {
        let target = "\(folder)/commit-\(commit)"
        let draft = "\(folder)/draft"
        removeTree(draft)
        do throws(Errno) { try makeFolder(draft) } catch {
            throw Problem(description: "cannot make \(draft): \(error)")
        }
        try run(
            ["--git-dir=\(repository)", "--work-tree=\(draft)"] + Self.settings
                + ["checkout", "--quiet", "--force", commit, "--", "."],
            "check out \(commit.prefix(12))", extra: ["GIT_INDEX_FILE": "\(folder)/index.\(getpid())"])
        _ = unsafe unlink("\(folder)/index.\(getpid())")
        removeTree(target)
        guard unsafe rename(draft, target) == 0 else {
            throw Problem(description: "cannot rename \(draft): \(Errno(errno))")
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

    private static let settings = [
        "-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=false", "-c", "core.fsmonitor=false", "-c",
        "protocol.ext.allow=never", "-c", "gc.auto=0",
    ]

    private func inRepository(_ arguments: [String]) -> [String] {
        ["--git-dir=\(repository)"] + Self.settings + arguments
    }

    @discardableResult
    private func run(
        _ arguments: [String], _ what: String, _ patience: Duration = Self.patience, extra: [String: String] = [:]
    ) throws(Problem) -> String {
        let program: StartedProgram
        do throws(Errno) {
            program = try StartedProgram.start(
                git, arguments, environment: environment.merging(extra) { $1 })
        } catch {
            throw Problem(description: "cannot start git: \(error)")
        }
        guard let status = program.wait(patience) else {
            throw Problem(description: "cannot \(what): git took more than \(patience.components.seconds) s")
        }
        guard status == 0 else {
            let line = program.lastLine()
            throw Problem(description: "cannot \(what): \(line.isEmpty ? "git ended with \(status)" : line)")
        }
        return program.text()
    }

    /// Removes a folder of our own with all in it; links are not followed.
    private func removeTree(_ path: String) {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return }
        if status.st_mode & S_IFMT == S_IFDIR {
            for name in SmallFile.names(in: path) { removeTree("\(path)/\(name)") }
            _ = unsafe rmdir(path)
        } else {
            _ = unsafe unlink(path)
        }
    }
}

extension String {
    fileprivate var trimmed: String { String(split(whereSeparator: \.isWhitespace).first ?? "") }
}
