// A topology that somebody is in the middle of writing: open files, and git's lock.

import Glibc
import Testing
import WeftLoop

@Suite struct FolderWritingTests {
    private let folder = TemporaryFolder()
    private let watch: FolderWatch
    private var path: String { folder.path }

    init() throws {
        // By a shell, as in FolderWatchTests: of a file written here, another test's program may have a copy.
        #expect(shell("echo 'mesh: a' > '\(folder.path)/mesh.yaml'"))
        watch = try FolderWatch(folder.path)
    }

    private func write(_ file: Int32, _ text: String = "text") {
        _ = text.withCString { Glibc.write(file, $0, strlen($0)) }
    }

    @Test func aFileIsBeingWrittenUntilItIsClosed() {
        let file = open("\(path)/mesh.yaml", O_WRONLY | O_TRUNC | O_CLOEXEC)
        write(file)
        #expect(watch.drain() == .init(isDirty: true, isBeingWritten: true))
        #expect(watch.fileBeingWritten == "\(path)/mesh.yaml")
        #expect(watch.drain() == .init(isBeingWritten: true))
        write(file)
        #expect(watch.drain() == .init(isDirty: true, isBeingWritten: true))
        close(file)
        #expect(watch.settle() == .dirty)
        #expect(watch.settle() == .nothing)
        #expect(watch.fileBeingWritten == nil)
    }

    @Test func aNewFileIsBeingWrittenUntilItIsClosed() {
        let file = open("\(path)/new.yaml", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        #expect(watch.drain() == .init(isDirty: true, isBeingWritten: true))
        close(file)
        #expect(watch.settle() == .dirty)
    }

    @Test func whatIsRemovedIsNotBeingWritten() {
        let file = open("\(path)/new.yaml", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(file) }
        #expect(watch.drain().isBeingWritten)
        unlink("\(path)/new.yaml")
        #expect(watch.settle() == .dirty)
        let other = open("\(path)/other.yaml", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(other) }
        #expect(watch.drain().isBeingWritten)
        rename("\(path)/other.yaml", "\(path)/other")
        #expect(watch.settle() == .dirty)
    }

    @Test func whatIsWrittenWithoutAnOpenFileIsDone() {
        truncate("\(path)/mesh.yaml", 2)
        #expect(watch.settle() == .dirty)
        link("\(path)/mesh.yaml", "\(path)/other.yaml")
        #expect(watch.settle() == .dirty)
        let file = open("\(path)/read.yaml", O_RDONLY | O_CREAT | O_CLOEXEC, 0o600)
        #expect(watch.settle() == .dirty)
        close(file)
        #expect(watch.settle() == .nothing)
    }

    @Test func filesThatAreNoneOfATopologyAreNobodysBusiness() {
        let file = open("\(path)/notes.txt", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        write(file)
        #expect(watch.settle() == .nothing)
        close(file)
        #expect(watch.settle() == .nothing)
    }

    @Test func aFileInAFolderThatHasJustComeIsBeingWritten() {
        mkdir("\(path)/new", 0o755)
        let file = open("\(path)/new/a.yaml", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        write(file)
        #expect(watch.drain().isDirty)
        watch.rearm()
        #expect(watch.drain().isBeingWritten)
        close(file)
        #expect(watch.settle() == .dirty)
    }

    @Test func aFileThatWasOpenBeforeTheWatchIsBeingWritten() throws {
        let file = open("\(path)/mesh.yaml", O_WRONLY | O_CLOEXEC)
        let watch = try FolderWatch(path)
        #expect(watch.drain() == .init(isBeingWritten: true))
        write(file)
        #expect(watch.drain() == .init(isDirty: true, isBeingWritten: true))
        close(file)
        #expect(watch.settle() == .dirty)
    }

    @Test func aWriterIsNotDisturbed() throws {
        // Whoever opens a file while the kernel is asked about it waits for a moment, and nobody is ended by a signal.
        let (path, rounds) = (path, 3000)
        let writer = Thread {
            for round in 0..<rounds {
                let file = open("\(path)/mesh.yaml", O_WRONLY | O_TRUNC | O_CLOEXEC)
                #expect(file >= 0)
                let text = "mesh: \(round)\n"
                _ = text.withCString { Glibc.write(file, $0, strlen($0)) }
                close(file)
            }
            rename("\(path)/mesh.yaml", "\(path)/done")
        }
        while access("\(path)/done", F_OK) != 0 { _ = watch.drain() }
        writer.join()
        #expect(!watch.settle().isBeingWritten)
    }

    // MARK: git

    /// A repository with two branches, and a clone of it with the watched folder `topology` in it.
    private func repositories() throws -> FolderWatch {
        let identity = "-c user.name=t -c user.email=t@t -c init.defaultBranch=main"
        try #require(
            shell(
                """
                cd '\(path)' && git \(identity) init origin && cd origin && mkdir topology && echo a > topology/a.yaml &&
                git add . && git \(identity) commit -m a && git branch other && cd .. && git clone origin clone &&
                cd origin && for n in $(seq 300); do echo $n > topology/$n.yaml; done && mkdir topology/more &&
                echo b > topology/more/b.yaml && git add . && git \(identity) commit -m b
                """))
        let watch = try FolderWatch("\(path)/clone/topology")
        #expect(watch.settle() == .nothing)
        return watch
    }

    @Test func aPullIsSeenWhenItIsDone() throws {
        let watch = try repositories()
        #expect(shell("cd '\(path)/clone' && git pull --ff-only"))
        #expect(watch.settle() == .dirty)
        watch.rearm()
        #expect(shell("echo c > '\(path)/clone/topology/more/b.yaml'"))
        #expect(watch.settle() == .dirty)
        #expect(shell("cd '\(path)/clone' && git checkout -f origin/other"))
        #expect(watch.settle() == .dirty)
        watch.rearm()
        #expect(shell("cd '\(path)/clone' && git status && git fetch && git gc"))
        #expect(watch.settle() == .nothing)
    }

    @Test func nothingIsActedOnWhileGitIsAtWork() throws {
        let watch = try repositories()
        // git stops for its filter in the middle of the work tree, with some files written and some not.
        mkfifo("\(path)/gate", 0o600)
        #expect(
            shell(
                """
                cd '\(path)/clone' && git config filter.slow.smudge 'cat - "\(path)/gate"' &&
                echo '150.yaml filter=slow' > .git/info/attributes
                """))
        let git = Thread { [path] in #expect(shell("cd '\(path)/clone' && git pull --ff-only")) }
        // Opening the gate for writing waits until git is at it.
        let gate = open("\(path)/gate", O_WRONLY | O_CLOEXEC)
        let change = watch.drain()
        #expect(change == .init(isDirty: true, isBeingWritten: true))
        #expect(watch.fileBeingWritten == "\(path)/clone/.git/index.lock")
        watch.rearm()
        #expect(watch.drain().isBeingWritten)
        close(gate)
        git.join()
        #expect(watch.settle() == .dirty)
        watch.rearm()
        #expect(watch.settle() == .nothing)
    }

    @Test func theLockOfAnotherWorkTreeIsItsOwn() throws {
        _ = try repositories()
        #expect(shell("cd '\(path)/clone' && git worktree add ../tree"))
        let watch = try FolderWatch("\(path)/tree/topology")
        #expect(shell("touch '\(path)/clone/.git/index.lock'"))
        #expect(watch.settle() == .nothing)
        #expect(shell("touch '\(path)/clone/.git/worktrees/tree/index.lock'"))
        #expect(watch.drain() == .init(isBeingWritten: true))
        #expect(shell("echo z > '\(path)/tree/topology/a.yaml'"))
        #expect(watch.drain() == .init(isDirty: true, isBeingWritten: true))
        #expect(shell("rm '\(path)/clone/.git/worktrees/tree/index.lock'"))
        #expect(watch.settle() == .dirty)
    }

    @Test func aCloneIntoTheFolderIsSeen() throws {
        _ = try repositories()
        let watch = try FolderWatch("\(path)/later/topology")
        #expect(shell("cd '\(path)' && git clone origin later"))
        #expect(watch.settle() == .dirty)
        watch.rearm()
        #expect(shell("touch '\(path)/later/.git/index.lock'"))
        #expect(watch.drain() == .init(isBeingWritten: true))
    }
}
