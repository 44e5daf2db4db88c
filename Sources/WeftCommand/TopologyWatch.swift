// When a topology's folder is read: once it is quiet, and what has gone from it is not merely on its way.

internal import WeftAgent
internal import WeftLoop
internal import WeftModel

/// Follows one topology's folder, and tells when it is to be read.
final class TopologyWatch {
    /// How long a folder must be quiet before it is read.
    private static let quiet = Duration.milliseconds(20)
    /// The longest wait for that.
    private static let patience = Duration.milliseconds(100)
    /// How long a folder that something was taken from must be quiet before nodes are taken for gone with it: who copies it, or
    /// a file of it, anew has not written the rest yet.
    private static let regrowth = Duration.seconds(2)

    private let watch: FolderWatch
    private let loop: EventLoop
    private let warn: (String) -> Void
    /// How long a file may stay open for writing, or git's index locked.
    private let writing: Duration
    private let lacksNodes: () -> Bool?
    private let seen: () -> Void
    /// When the folder was first seen changing; nil while it is quiet.
    private var restless: ContinuousClock.Instant?
    /// When the last of it was seen.
    private var changed = ContinuousClock.now
    private var timer: EventLoop.Timer?
    /// Whether it was given up to wait until all writing is done: it is read as it is, once.
    private var isHurried = false
    /// Why some changes are not told, as it was said.
    private var blindness: String?

    /// - Parameters:
    ///   - writing: how long is waited for who keeps a file open for writing.
    ///   - lacksNodes: whether what the folder holds now lacks nodes of what is in force; nil where that cannot be told.
    ///   - seen: called when it is to be read.
    init(
        _ path: String, in loop: EventLoop, writing: Duration = .seconds(30), warn: @escaping (String) -> Void,
        lacksNodes: @escaping () -> Bool?, seen: @escaping () -> Void
    ) throws(LoopError) {
        (self.loop, self.writing, self.warn) = (loop, writing, warn)
        (self.lacksNodes, self.seen) = (lacksNodes, seen)
        watch = try FolderWatch(path)
    }

    /// Begins, and has it read for the first time: what went from it before that is told by nobody.
    func begin() throws(LoopError) {
        try loop.watch(watch.descriptor) { [unowned self] _ in take() }
        let now = Machine.clock()
        let last = watch.lastChange()
        let age = Duration.seconds(max(0, Double(now.seconds) + Double(now.nanoseconds) / 1e9 - last))
        if last == 0 || age < Self.regrowth {
            watch.suspectLosses()
            changed = .now - min(age, Self.regrowth)
        }
        lookAnyway()
    }

    /// Whether it is waited for, and will be read.
    var isRestless: Bool { restless != nil }

    /// Reads the folder, and does not trust what was read where it changed since it was found quiet: between that and now a
    /// folder that could not be used as it was may have become one that can, and lacks nodes whose files are yet to come.
    ///
    /// - Returns: nil where it is waited for: it will be read again.
    func read<Reading>(_ folder: () -> Reading) -> Reading? {
        if isHurried {
            isHurried = false
            return folder()
        }
        if isRestless { return nil }
        let reading = folder()
        if watch.drain().isDirty { noteChange() }
        return isRestless ? nil : reading
    }

    /// What it is waited for, where nobody should be kept waiting for that: a file that has been open for writing for seconds.
    var delay: String? {
        guard let restless, .now - restless > Self.regrowth + .seconds(1) else { return nil }
        return watch.fileBeingWritten.map { "\($0) is being written to" } ?? "its files are changing"
    }

    /// Whether some changes are not told.
    var isBlind: Bool { watch.isBlind }

    /// Has it read once it is quiet, though nothing was told: a mount over a folder and a change at the other end of a
    /// network's file system are told to nobody.
    func lookAnyway() {
        if restless != nil { return }
        restless = .now
        rearm()
        look()
    }

    /// Watches what is new, and says where some of it cannot be watched.
    func rearm() {
        watch.rearm()
        if let reason = watch.blindness, blindness == nil {
            warn("\(reason): changes are found by looking every few seconds")
        }
        blindness = watch.blindness
    }

    private func take() {
        let change = watch.drain()
        if change.isDirty || change.isBeingWritten { noteChange() }
    }

    private func noteChange() {
        rearm()
        let first = restless ?? .now
        restless = first
        changed = .now
        look(after: max(.zero, min(Self.quiet, first + Self.patience - .now)))
    }

    private func look(after delay: Duration) {
        timer?.cancel()
        timer = loop.schedule(after: delay) { [unowned self] in look() }
    }

    private func look() {
        let change = watch.drain()
        if change.isDirty {
            changed = .now
            rearm()
        }
        // Who writes without ever closing is not waited for without end.
        if change.isBeingWritten || change.isDirty, isPatient {
            return look(after: change.isBeingWritten ? .milliseconds(50) : Self.quiet)
        }
        if change.isBeingWritten {
            let what = watch.fileBeingWritten.map { ": \($0)" } ?? ""
            warn("something has been writing for \(writing.components.seconds) s, and is not waited for\(what)")
        }
        if let wait = waitForRegrowth { return look(after: wait) }
        isHurried = change.isBeingWritten
        restless = nil
        seen()
    }

    private var isPatient: Bool { restless.map { .now - $0 < writing } ?? false }

    /// How long to wait for what may yet come back; nil where nothing has gone, or all of that was waited for. Of a folder
    /// that cannot be read nothing is known yet.
    private var waitForRegrowth: Duration? {
        guard watch.hasLost, let lacks = lacksNodes() else { return nil }
        let wait = changed + Self.regrowth - .now
        if lacks, !watch.isGits, wait > .zero, isPatient { return wait }
        watch.forgetLosses()
        return nil
    }
}
