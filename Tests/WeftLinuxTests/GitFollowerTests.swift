// Following a repository with the real git: what was left, damaged or refused.

import Glibc
import Testing
import WeftLoop

@testable import WeftLinux

@Suite struct GitFollowerTests {
    private let temporary = TemporaryFolder()
    private var work: String { "\(temporary.path)/work" }
    private var folder: String { "\(temporary.path)/followed" }

    /// A repository with one commit.
    init() {
        system("git init -q -b main '\(work)'")
        commit("one")
    }

    private func commit(_ text: String) {
        temporary.write(text, to: "work/mesh.yaml")
        git("add .")
        git("commit -q --allow-empty -m x")
    }

    private func git(_ arguments: String) {
        system("git -C '\(work)' -c user.name=t -c user.email=t@example.net \(arguments)")
    }

    private func follower(_ url: String? = nil, ssh: String = "false") throws -> GitFollower {
        try GitFollower(
            url: url ?? "file://\(work)", ref: "main", folder: folder, allowsRewrites: false,
            environment: ["PATH": "/usr/bin:/bin", "HOME": temporary.path, "GIT_SSH_COMMAND": ssh])
    }

    /// One look, with what was put right.
    private func look(_ follower: GitFollower? = nil) throws -> (outcome: GitFollower.Outcome, notes: [String]) {
        var notes: [String] = []
        let outcome = try (follower ?? self.follower()).follow { notes.append($0) }
        return (outcome, notes)
    }

    private var text: String { contents(of: "\(folder)/current/mesh.yaml") }

    @Test func commitsAreFollowed() throws {
        guard case .switched(let first) = try look().outcome else { return #expect(Bool(false)) }
        #expect(text == "one")
        #expect(try look() == (.unchanged(commit: first), []))
        commit("two")
        let second = try look()
        #expect(second.outcome != .switched(commit: first) && second.notes == [])
        #expect(text == "two")
        #expect(try follower().commit.map { .switched(commit: $0) } == second.outcome)
        git("rm -q mesh.yaml")
        git("commit -q -m empty")
        _ = try look()
        #expect(SmallFile.names(in: "\(folder)/current") == [])
    }

    @Test(arguments: ["rm -rf commit-*", ": >current/mesh.yaml", "rm current/mesh.yaml", "echo x >current/mesh.yaml"])
    func damagedFilesAreWrittenAgain(harm: String) throws {
        let outcome = try look().outcome
        guard case .switched(let commit) = outcome else { return #expect(Bool(false)) }
        system("cd '\(folder)' && \(harm)")
        // Also where the remote is away.
        rename(work, "\(work).gone")
        #expect(throws: GitFollower.Problem.self) { try look() }
        #expect(text == "one")
        rename("\(work).gone", work)
        system("cd '\(folder)' && \(harm)")
        let mended = try look()
        #expect(mended.outcome == .unchanged(commit: commit))
        #expect(
            mended.notes == ["the files of commit \(commit.prefix(12)) were damaged or gone: they were written again"])
        #expect(text == "one")
        #expect(try look().notes == [])
    }

    @Test(arguments: [
        "repository/refs/weft/new.lock", "repository/packed-refs.lock", "repository/HEAD.lock",
        "repository/config.lock",
        "repository/shallow.lock", "index.lock", "index.draft.lock", "index.draft", "draft",
    ])
    func whatAKilledRunLeavesIsNoHindrance(file: String) throws {
        _ = try look()
        temporary.write("", to: "followed/\(file)")
        commit("two")
        #expect(try look().notes == [])
        #expect(text == "two")
    }

    @Test(arguments: [
        "find repository/objects -type f -exec chmod u+w {} + -exec truncate -s 0 {} +", "rm -rf repository/refs",
        "rm -rf repository/objects", ": >repository/HEAD", ": >repository/refs/weft/new", "echo '[' >repository/config",
    ])
    func aDamagedRepositoryIsFetchedAnew(harm: String) throws {
        _ = try look()
        system("cd '\(folder)' && \(harm)")
        commit("two")
        // Not while it could not be replaced.
        rename(work, "\(work).gone")
        #expect(throws: GitFollower.Problem.self) { try look() }
        #expect(text == "one")
        rename("\(work).gone", work)
        let notes = try look().notes
        #expect(notes.count == 1 && notes[0].hasPrefix("the repository in \(folder) was damaged (cannot "))
        #expect(text == "two")
        #expect(try look().notes == [])
    }

    @Test func aRewrittenHistoryIsRefusedAlsoByADamagedRepository() throws {
        _ = try look()
        git("commit -q --amend -m other")
        #expect(throws: GitFollower.Problem.self) { try look() }
        system("rm -rf '\(folder)/repository/refs' '\(folder)'/commit-*/*")
        let problem = #expect(throws: GitFollower.Problem.self) { try look() }
        #expect(problem?.description.contains("was rewritten") == true)
    }

    @Test func whatSshSaysIsTold() throws {
        let ssh = "sh -c 'echo git@h: Permission denied \\(publickey\\). >&2; exit 255'"
        let problem = #expect(throws: GitFollower.Problem.self) { try look(follower("git@h:x.git", ssh: ssh)) }
        #expect(
            problem?.description
                == "cannot fetch main of git@h:x.git: git@h: Permission denied (publickey); fatal: Could not read from remote "
                + "repository: let the remote accept a key of the agent's user, or name another one in GIT_SSH_COMMAND")
    }

    @Test func whoeverWorksThereIsNamed() throws {
        let lock: FileLock
        system("mkdir '\(folder)'")
        lock = try FileLock.acquire("\(folder)/lock", timeout: .seconds(1))
        let problem = #expect(throws: GitFollower.Problem.self) { try look() }
        #expect(problem?.description.contains("\(folder)/lock has been locked by ") == true)
        lock.remove()
    }

    @Test func gitEndsWithTheAgent() throws {
        let file = "\(temporary.path)/process"
        let follower = try follower(
            "git@h:x.git", ssh: "sh -c 'echo $$ >\(file).new; mv \(file).new \(file); sleep 1000' x")
        // A thread of its own: those of tasks may all be busy with other tests.
        Worker.start {
            while access(file, F_OK) != 0 { usleep(1_000) }
            follower.end()
        }
        let problem = #expect(throws: GitFollower.Problem.self) { try look(follower) }
        #expect(problem?.description == "cannot fetch main of git@h:x.git: the agent ends")
        let ssh = try #require(Int32(contents(of: file).dropLast()))
        while kill(ssh, 0) == 0, contents(of: "/proc/\(ssh)/stat").contains(") S") { usleep(1_000) }
        #expect(throws: GitFollower.Problem.self) { try look(follower) }
    }

    @Test(arguments: [
        "http://ghp_SECRET@h/x.git", "https://me:SECRET@h/x.git", "HTTPS://SECRET@h", "ssh://me:SECRET@h/x.git",
        "https://a@SECRET@h/x", "ftp://SECRET@h?x",
    ])
    func credentialsAreRefused(url: String) {
        let problem = #expect(throws: GitFollower.Problem.self) { try follower(url) }
        #expect(problem?.description.contains("credential helper") == true)
        #expect(problem?.description.contains("SECRET") == false)
        #expect(GitWords.withoutCredentials("fatal: '\(url)' is nothing").contains("SECRET") == false)
    }

    @Test(arguments: [
        "ssh://git@h/x.git", "git@h:x.git", "https://h/@x", "file:///a@b", "/srv/a@b", "git+ssh://git@h/x",
    ])
    func otherURLsAreTaken(url: String) throws { #expect(try follower(url).url == url) }

    @Test(arguments: [
        (
            "error: unable to write file x\nfatal: write error: No space left on device\n",
            "error: unable to write file x; fatal: write error: No space left on device: free some space where /f is"
        ),
        (
            "fatal: detected dubious ownership in repository at '/w'\nTo add an exception for this directory, call:\n\n\tgit "
                + "config --global --add safe.directory /w\nfatal: Could not read from remote repository.\n\nPlease make sure you "
                + "have the correct access rights\nand the repository exists.\n",
            "fatal: detected dubious ownership in repository at '/w'; fatal: Could not read from remote repository: it "
                + "belongs to another user; where that is meant, `git config --global --add safe.directory PATH` as the "
                + "agent's user allows it"
        ),
        (
            "fatal: '/w' does not appear to be a git repository\n",
            "fatal: '/w' does not appear to be a git repository: compare it with what --git says"
        ),
        ("error: one\nerror: one\n\n", "error: one"), ("", ""),
    ])
    func wordsOfGit(output: String, summary: String) {
        #expect(GitWords.summary(of: output, folder: "/f") == summary)
    }
}
