// Tells when a topology may have changed, and when somebody is in the middle of changing it.

import CLinux
import Glibc

/// A watch on a folder of topology files, or on one file, by whatever path and links it is reached.
///
/// It sees edits in place, files renamed over others, git at work, a link swapped anywhere on the way or in the folder,
/// and folders that vanish and come back. What the kernel does not tell: a file system that is mounted over a part of
/// the path, changes that another machine makes on a shared one, and a write to a file by another of its names (a hard
/// link elsewhere).
///
///     let change = watch.drain()
///     if change.isDirty { watch.rearm() }
///     if change.isBeingWritten { … look again soon … }
///     let files = topology.read()
///     if watch.drain() != Change() { … not to be acted on: it changed meanwhile … }
package final class FolderWatch {
    /// What has happened since the last look.
    package struct Change: Hashable, Sendable {
        /// Something happened that may have changed the topology. Told after `isBeingWritten`, it also means that what
        /// was being written is done.
        package var isDirty = false
        /// Somebody is in the middle of it: what is there now is not to be acted on. The end is told by the descriptor,
        /// but not always (a program that writes without closing): ask again every second or so.
        package var isBeingWritten = false

        package init(isDirty: Bool = false, isBeingWritten: Bool = false) {
            self.isDirty = isDirty
            self.isBeingWritten = isBeingWritten
        }
    }

    /// Readable when something has happened.
    package let descriptor: Int32
    /// Why some changes are not told, in the words of a person; nil where all are. The topology is then to be polled,
    /// with `rearm` each time: it finds out whether the reason is still there.
    package private(set) var blindness: String?
    /// What is being written to, since the last `drain` found so: a file, or git's lock.
    package private(set) var fileBeingWritten: String?

    /// Whether names of topology files, or whole folders, have gone since `forgetLosses`, or what a file holds was written over:
    /// who writes a folder or a file anew takes the old away first. A file that takes the place of another is whole.
    package private(set) var hasLost = false

    package func forgetLosses() { hasLost = false }

    /// Some may have gone before there was a watch.
    package func suspectLosses() { hasLost = true }

    /// When something of the topology changed last before the watch began, by the wall clock in seconds; 0 where nothing is
    /// there. Asked once.
    package func lastChange() -> Double {
        var newest = 0.0
        func note(_ path: String) {
            var status = stat()
            // Unlike the time of its contents, which copies keep, nobody sets this one.
            guard lstat(path, &status) == 0 else { return }
            newest = max(newest, Double(status.st_ctim.tv_sec) + Double(status.st_ctim.tv_nsec) / 1e9)
        }
        for folder in folders.values where folder.isTopology { note(folder.path) }
        for path in firstFiles { note(path) }
        firstFiles = []
        return newest
    }

    /// Whether git says when it is done with the folder.
    package var isGits: Bool { !repositories.isEmpty }

    /// Whether some changes are not told.
    package var isBlind: Bool { blindness != nil }

    private let path: String
    private let inotify: Inotify
    private var folders: [Int32: WatchedFolder] = [:]
    private var repositories: Set<String> = []
    private var openFiles = OpenFiles()
    /// The topology's files when the watch began.
    private var firstFiles: [String] = []
    /// Whether folders or links may have changed, and not only what is in files.
    private var needsWalk = true
    /// Whether a change was told that could not be acted on, because something was being written.
    private var owesLook = false

    /// Whatever is at `path`, also nothing, is watched when this returns.
    ///
    /// - Throws: EMFILE where the user has as many inotify instances as he may have.
    package init(_ path: String) throws(LoopError) {
        if path.hasPrefix("/") {
            self.path = path
        } else {
            guard let folder = getcwd(nil, 0) else { throw LoopError("find the current folder") }
            defer { free(folder) }
            self.path = WatchWalk.join(String(cString: folder), path)
        }
        inotify = try Inotify()
        descriptor = inotify.descriptor
        // By it, the kernel asks for leases back, and it would end us; see `OpenFiles`.
        signal(SIGIO, SIG_IGN)
        firstFiles = walk()
    }

    /// Whether anything is at a path now, or a link that leads nowhere.
    package static func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    // MARK: What has happened

    /// Takes what has happened. After one that is dirty, `rearm` and only then read the topology; and ask once more
    /// after reading it.
    package func drain() -> Change {
        var isDirty = false
        inotify.read { event in if matters(event) { isDirty = true } }
        fileBeingWritten =
            GitLock.held(in: repositories)
            ?? openFiles.first { [folders] key in folders[key.watch].map { WatchWalk.join($0.path, key.name) } }
        let isBeingWritten = fileBeingWritten != nil
        if isBeingWritten {
            owesLook = owesLook || isDirty
        } else if owesLook {
            isDirty = true
            owesLook = false
        }
        return Change(isDirty: isDirty, isBeingWritten: isBeingWritten)
    }

    private func matters(_ event: Inotify.Event) -> Bool {
        if event.has(IN_Q_OVERFLOW) {
            needsWalk = true
            return true
        }
        // A watch that was given up may still have events on their way.
        guard let folder = folders[event.watch] else { return false }
        if event.has(IN_IGNORED) {
            folders[event.watch] = nil
            openFiles.forget(event.watch)
        }
        if event.name.isEmpty {
            needsWalk = true
            if folder.isTopology, event.has(IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED) { hasLost = true }
            return true
        }
        let isOnTheWay = folder.names.contains(event.name)
        if event.name == GitLock.name, isOnTheWay, repositories.contains(folder.path) { return false }
        guard isOnTheWay || folder.isTopology && !event.name.hasPrefix(".") else { return false }
        if event.has(IN_MODIFY | IN_CLOSE_WRITE) {
            return contentMatters(event, isOnTheWay: isOnTheWay)
        }
        return nameMatters(event, folder, isOnTheWay: isOnTheWay)
    }

    /// A file was written to, or closed after that.
    private func contentMatters(_ event: Inotify.Event, isOnTheWay: Bool) -> Bool {
        guard isOnTheWay || isTopologyFile(event.name) else { return false }
        let key = OpenFiles.Key(watch: event.watch, name: event.name)
        // Written in place, it may be written on.
        hasLost = true
        if event.has(IN_CLOSE_WRITE) { openFiles.closed(key) } else { openFiles.written(key) }
        return true
    }

    /// Something came, went, or became another thing under a name.
    private func nameMatters(_ event: Inotify.Event, _ folder: WatchedFolder, isOnTheWay: Bool) -> Bool {
        var isFolderOrLink = event.has(IN_ISDIR)
        let isFile = isTopologyFile(event.name)
        if !isFolderOrLink, event.has(IN_CREATE | IN_MOVED_TO) {
            var status = stat()
            let isThere = lstat(WatchWalk.join(folder.path, event.name), &status) == 0
            isFolderOrLink = isThere && status.st_mode & S_IFMT == S_IFLNK
            // One more name for a file that was there is not followed by a close.
            if event.has(IN_CREATE), isFile || isOnTheWay, isThere, status.st_mode & S_IFMT == S_IFREG,
                status.st_nlink == 1
            {
                openFiles.written(OpenFiles.Key(watch: event.watch, name: event.name))
            }
        }
        if event.has(IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO) {
            openFiles.closed(OpenFiles.Key(watch: event.watch, name: event.name))
        }
        if isFolderOrLink || isOnTheWay { needsWalk = true }
        if event.has(IN_DELETE | IN_MOVED_FROM), isFolderOrLink || isOnTheWay || isFile { hasLost = true }
        return isFolderOrLink || isOnTheWay || isFile
    }

    // MARK: What there is to watch

    /// Finds out again what there is to watch, where folders or links have changed. It reads every folder's names, and
    /// no file.
    package func rearm() {
        guard needsWalk || isBlind else { return }
        _ = walk()
    }

    /// - Returns: files in folders that are new.
    private func walk() -> [String] {
        needsWalk = false
        let walk = WatchWalk(path, inotify) { [folders] watch in
            folders[watch].map { !$0.isTopology && $0.names.isEmpty } ?? true
        }
        for watch in folders.keys where walk.folders[watch] == nil {
            inotify.remove(watch)
            openFiles.forget(watch)
        }
        (folders, repositories, blindness) = (walk.folders, walk.repositories, walk.problem)
        var files: [String] = []
        for (watch, name) in walk.newFiles {
            guard let folder = folders[watch] else { continue }
            let path = WatchWalk.join(folder.path, name)
            openFiles.found(OpenFiles.Key(watch: watch, name: name), path)
            files.append(path)
        }
        return files
    }
}
