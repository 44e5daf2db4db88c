// What the watch of a folder sees of what editors, git and operators do. Events of the kernel are there when the call
// that made them returns, so that nothing here waits.

import CLinux
import Glibc
import Testing
import WeftLoop

/// Runs a command; whether it succeeded.
@discardableResult
func shell(_ command: String) -> Bool { system("(\(command)) > /dev/null 2>&1") == 0 }

extension FolderWatch.Change {
    static let nothing = Self()
    static let dirty = Self(isDirty: true)
}

extension FolderWatch {
    /// What has happened when nothing is being written any more. A program that another test starts has our files open
    /// until it is one.
    func settle() -> Change {
        let limit = ContinuousClock.now + .seconds(30)
        var change = drain()
        while change.isBeingWritten, ContinuousClock.now < limit {
            usleep(1000)
            let next = drain()
            change = Change(isDirty: change.isDirty || next.isDirty, isBeingWritten: next.isBeingWritten)
        }
        return change
    }
}

@Suite struct FolderWatchTests {
    private let folder = TemporaryFolder()
    private var path: String { "\(folder.path)/mesh" }

    /// A watch on a folder with two files, in one of which there is a folder.
    private func watch(_ name: String = "mesh", before: String = "") throws -> FolderWatch {
        // By a shell: of a file written here, a program that another test starts meanwhile has a copy, and the end of the
        // writing comes when that one closes it, long after the watch has begun.
        let files = "mkdir -p mesh/nodes && echo 'mesh: a' > mesh/mesh.yaml && echo 'nodes: {}' > mesh/nodes/a.yml"
        #expect(shell("cd '\(folder.path)' && \(files)\(before.isEmpty ? "" : " && " + before)"))
        let watch = try FolderWatch(name.hasPrefix("/") ? name : "\(folder.path)/\(name)")
        #expect(watch.blindness == nil)
        #expect(watch.settle() == .nothing)
        return watch
    }

    /// Does it, and then asks the watch as the agent does.
    private func change(_ watch: FolderWatch, _ command: String) -> FolderWatch.Change {
        #expect(shell("cd '\(folder.path)' && \(command)"), "\(command)")
        let change = watch.settle()
        if change.isDirty { watch.rearm() }
        return change
    }

    @Test(arguments: [
        "echo 'mesh: b' > mesh/mesh.yaml", "echo 'mesh: b' >> mesh/nodes/a.yml",
        "sed -i s/a/b/ mesh/mesh.yaml", "truncate -s 0 mesh/mesh.yaml", "rm mesh/nodes/a.yml",
        "echo new > mesh/new.yaml", "echo new > new && mv new mesh/nodes/new.yaml", "mv mesh/nodes/a.yml away",
        "echo new > mesh/new.YAML", "mv mesh/nodes/a.yml mesh/nodes/a.Yml",
        "mv mesh/nodes mesh/other", "rm -r mesh/nodes", "chmod 0 mesh/mesh.yaml", "touch mesh/mesh.yaml",
        "mkdir -p mesh/one/two && echo new > mesh/one/two/new.yaml", "ln mesh/mesh.yaml mesh/hard.yaml",
        "ln -s ../away mesh/link", "ln -s ../away mesh/link.yaml", "mv mesh away", "rm -r mesh",
        "mv mesh away && mkdir mesh", "cp -r mesh other && mv mesh away && mv other mesh", "mkfifo mesh/pipe.yaml",
        // As vim does: the old one goes aside, the new one comes in its place.
        "touch mesh/4913; rm mesh/4913; mv mesh/mesh.yaml mesh/mesh.yaml~; echo b > mesh/mesh.yaml; rm mesh/mesh.yaml~",
        // As emacs does, with its lock.
        "ln -s me@host mesh/.#mesh.yaml; echo b > mesh/mesh.yaml.new; mv mesh/mesh.yaml.new mesh/mesh.yaml",
    ])
    func seesWhatMatters(command: String) throws {
        let watch = try watch()
        #expect(change(watch, command) == .dirty)
        #expect(watch.drain() == .nothing)
        #expect(change(watch, "rm -rf mesh; mkdir mesh; echo again > mesh/again.yaml") == .dirty)
        #expect(change(watch, "echo again > mesh/again.yaml") == .dirty)
    }

    @Test(arguments: [
        "touch beside", "mkdir beside", "echo text > mesh/README.md", "touch mesh/.mesh.yaml.swp",
        "mkdir mesh/.hidden && touch mesh/.hidden/a.yaml", "ln -s me@host mesh/.#mesh.yaml", "cat mesh/mesh.yaml",
        "ls -R mesh", "echo text > mesh/mesh.yaml~", "touch mesh/4913; rm mesh/4913",
    ])
    func passesOverWhatDoesNotMatter(command: String) throws {
        #expect(change(try watch(), command) == .nothing)
    }

    @Test func aFolderThatComesBackIsSeenAtEachStep() throws {
        let watch = try watch("deep/er/mesh", before: "mkdir -p deep/er && mv mesh deep/er/mesh")
        #expect(change(watch, "rm -r deep") == .dirty)
        #expect(change(watch, "mkdir deep") == .dirty)
        #expect(change(watch, "mkdir deep/other") == .nothing)
        #expect(change(watch, "mkdir deep/er") == .dirty)
        #expect(change(watch, "mkdir deep/er/mesh") == .dirty)
        #expect(change(watch, "echo a > deep/er/mesh/a.yaml") == .dirty)
        #expect(change(watch, "echo b > deep/er/mesh/a.yaml") == .dirty)
    }

    @Test func aFolderThatAShellStandsInIsSeenToBeReplaced() throws {
        let watch = try watch()
        // The kernel tells of a removed folder only when nobody stands in it any more.
        let stays = open(path, O_RDONLY | O_DIRECTORY)
        defer { close(stays) }
        #expect(change(watch, "rm -r mesh/*") == .dirty)
        #expect(change(watch, "rmdir mesh") == .dirty)
        #expect(change(watch, "mkdir mesh") == .dirty)
        #expect(change(watch, "echo a > mesh/a.yaml") == .dirty)
    }

    @Test func oneFileIsATopologyToo() throws {
        let watch = try watch("mesh/mesh.yaml")
        #expect(change(watch, "echo b > mesh/mesh.yaml") == .dirty)
        #expect(change(watch, "echo b > mesh/nodes/a.yml") == .nothing)
        #expect(change(watch, "echo b > mesh/other.yaml") == .nothing)
        #expect(change(watch, "mv mesh/other.yaml mesh/mesh.yaml") == .dirty)
        #expect(change(watch, "rm -r mesh") == .dirty)
        #expect(change(watch, "mkdir mesh; echo c > mesh/mesh.yaml") == .dirty)
        #expect(change(watch, "echo d > mesh/mesh.yaml") == .dirty)
    }

    @Test func aLinkOnTheWayIsSeenToBeSwapped() throws {
        // As git-sync does: a link to a work tree, swapped by a rename.
        let watch = try watch(
            "root/link/mesh",
            before: "mkdir -p root/.trees/1 root/.trees/2 && cp -r mesh root/.trees/1 && mv mesh root/.trees/2 && "
                + "ln -s .trees/1 root/link")
        #expect(change(watch, "echo b > root/.trees/2/mesh/mesh.yaml") == .nothing)
        #expect(change(watch, "ln -s .trees/2 root/new && mv -T root/new root/link") == .dirty)
        #expect(change(watch, "echo c > root/.trees/2/mesh/mesh.yaml") == .dirty)
        #expect(change(watch, "echo c > root/.trees/1/mesh/mesh.yaml; rm -r root/.trees/1") == .nothing)
        #expect(change(watch, "mv root/.trees/2/mesh root/.trees/2/gone") == .dirty)
    }

    @Test func aConfigMapIsSeenToBeSwapped() throws {
        // As Kubernetes does: each file is a link through `..data`, which is a link that is swapped.
        let watch = try watch(
            "map",
            before: "mkdir -p map/..1 map/..2 && cp mesh/mesh.yaml map/..1 && cp mesh/mesh.yaml map/..2 && "
                + "ln -s ..1 map/..data && ln -s ..data/mesh.yaml map/mesh.yaml")
        #expect(change(watch, "echo b > map/..2/mesh.yaml") == .nothing)
        #expect(change(watch, "ln -s ..2 map/..tmp && mv -T map/..tmp map/..data") == .dirty)
        #expect(change(watch, "rm -r map/..1") == .nothing)
        #expect(change(watch, "echo c > map/..2/mesh.yaml") == .dirty)
        #expect(change(watch, "mv map/..2/mesh.yaml map/..2/gone") == .dirty)
        #expect(change(watch, "mv map/..2/gone map/..2/mesh.yaml") == .dirty)
    }

    @Test func linksToFoldersAreFollowed() throws {
        let watch = try watch(
            before: "mkdir -p far/one far/two && ln -s '\(folder.path)/far/one' mesh/linked && ln -s mesh way")
        #expect(change(watch, "echo a > far/one/a.yaml") == .dirty)
        #expect(change(watch, "mkdir far/one/below && echo a > far/one/below/a.yaml") == .dirty)
        #expect(change(watch, "echo b > far/one/below/a.yaml") == .dirty)
        #expect(change(watch, "ln -sfn ../far/two mesh/linked") == .dirty)
        #expect(change(watch, "echo b > far/one/a.yaml") == .nothing)
        #expect(change(watch, "echo b > far/two/a.yaml") == .dirty)
        #expect(change(watch, "mv far near") == .dirty)
        #expect(change(watch, "echo c > near/two/a.yaml") == .nothing)
        #expect(change(watch, "mv near far") == .dirty)
        #expect(change(watch, "echo d > far/two/a.yaml") == .dirty)
    }

    @Test func linksInACircleEndTheWalk() throws {
        let watch = try watch(
            before: "ln -s . mesh/self && ln -s .. mesh/nodes/up && ln -s circle mesh/circle && ln -s b mesh/a && "
                + "ln -s a mesh/b && ln -s /nowhere/at/all mesh/dangling.yaml")
        #expect(change(watch, "echo b > mesh/nodes/a.yml") == .dirty)
        #expect(change(watch, "rm mesh/circle") == .dirty)
    }

    @Test func aTreeThatIsTooDeepEndsTheWalk() throws {
        let deep = [String](repeating: "d", count: 60).joined(separator: "/")
        let watch = try watch(before: "mkdir -p mesh/\(deep)")
        #expect(change(watch, "echo b > mesh/\(deep)/a.yaml") == .nothing)
        #expect(change(watch, "echo b > mesh/mesh.yaml") == .dirty)
    }

    @Test func anOverflowIsAChange() throws {
        let watch = try watch()
        // More than fs.inotify.max_queued_events are kept by default.
        for number in 0..<20_000 {
            let file = open("\(path)/\(number % 2).md", O_WRONLY | O_CREAT, 0o600)
            close(file)
            unlink("\(path)/\(number % 2).md")
        }
        mkdir("\(path)/lost", 0o755)
        var isDirty = false
        // A storm is taken in pieces.
        for _ in 0..<1000 where !isDirty { isDirty = watch.drain().isDirty }
        #expect(isDirty)
        watch.rearm()
        while watch.drain() != .nothing {}
        #expect(change(watch, "echo a > mesh/lost/a.yaml") == .dirty)
    }

    @Test(.enabled(if: geteuid() == 0, "root")) func whatItMayNotSeeIsSaid() throws {
        let path = folder.path
        #expect(shell("mkdir -p '\(path)/closed/mesh' && chmod 711 '\(path)' '\(path)/closed'"))
        // This thread alone looks at files as nobody does.
        onThread {
            setfsuid(65534)
            #expect(throws: Never.self) {
                let watch = try FolderWatch("\(path)/closed/mesh")
                #expect(watch.isBlind)
                #expect(watch.blindness?.hasPrefix("cannot watch \(path)") == true)
                #expect(shell("chmod 755 '\(path)' '\(path)/closed'"))
                watch.rearm()
                #expect(watch.blindness == nil)
                #expect(shell("mv '\(path)/closed' '\(path)/away'"))
                #expect(watch.drain() == .dirty)
            }
        }
    }

    /// Copies keep the time of the contents; when something became as it is tells the truth.
    @Test func whatChangedBeforeTheWatchIsKnown() throws {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let watch = try watch(before: "touch -d 2001-01-01 mesh/*.yaml mesh/nodes/*.yml mesh")
        let last = watch.lastChange()
        // The kernel's clock for files ticks a few times a second at least.
        #expect(last > Double(now.tv_sec) - 1 && last < Double(now.tv_sec) + 60)
        let nothing = try FolderWatch("\(folder.path)/nothing")
        #expect(nothing.lastChange() == 0)
    }

    @Test func aRelativePathIsFromTheCurrentFolder() throws {
        let watch = try FolderWatch("no-such-folder-\(getpid())")
        #expect(!watch.isBlind)
        #expect(watch.drain() == .nothing)
    }
}
