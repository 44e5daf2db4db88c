// The agent's repository: when it is looked at, what is said of it, and which of its commits is in force.

internal import WeftAgent
internal import WeftLinux
internal import WeftLoop
internal import WeftModel

/// Looks at the repository that is followed, at intervals and when it is asked to, on a thread of its own.
final class RepositoryWatch {
    /// What came of a look.
    struct Look: Sendable {
        var result: Result<GitFollower.Outcome, GitFollower.Problem>
        /// What was put right in its folder.
        var notes: [String]
        /// Where it is, for a change that would cut it off.
        var remotes: [SocketAddress]

        /// Whether the folder holds something else than before.
        var hasChangedFiles: Bool {
            if case .success(.switched) = result { return true }
            return !notes.isEmpty
        }
    }

    /// After how long a look is said to take long.
    private static let patience = Duration.seconds(10)

    let git: GitFollower
    private let interval: Duration
    private let loop: EventLoop
    private let looks: Inbox<Look>
    private let emit: (AgentEvent) -> Void
    private let seen: (Look?) -> Void
    /// What is wrong with the repository.
    private(set) var problem: String?
    /// The commit whose files are in the folder.
    private(set) var fetched: String?
    /// The commit that was taken last; nil where none was since the start.
    private(set) var inForce: String?
    private var isLooking = false
    private var isSlow = false
    private var isWantedAgain = false
    private var isInterrupted = false
    private var timer: EventLoop.Timer?
    private var slowness: EventLoop.Timer?

    /// - Parameter seen: is told what came of each look; nil: it takes long.
    init(
        _ git: GitFollower, every interval: Duration, in loop: EventLoop, emit: @escaping (AgentEvent) -> Void,
        seen: @escaping (Look?) -> Void
    ) throws(LoopError) {
        (self.git, self.interval, self.loop, self.emit, self.seen) = (git, interval, loop, emit, seen)
        looks = try Inbox()
        fetched = git.commit
    }

    func begin() throws(LoopError) {
        try loop.watch(looks.descriptor) { [unowned self] _ in take() }
        if fetched == nil { say(.info, "the first fetch of \(git.ref) of \(git.url) is awaited") }
        look()
    }

    /// Whether a look is under way that is worth waiting for.
    var isAwaited: Bool { isLooking && !isSlow }

    /// Looks now; where a look is under way, once more after it.
    func look() {
        timer?.cancel()
        isWantedAgain = isLooking
        if isLooking { return }
        isLooking = true
        slowness = loop.schedule(after: Self.patience) { [unowned self] in sayThatItIsSlow() }
        Worker.start { [git, looks] in
            var notes: [String] = []
            let result = Result { () throws(GitFollower.Problem) in try git.follow { notes.append($0) } }
            looks.post(Look(result: result, notes: notes, remotes: GitRemote(git.url)?.addresses() ?? []))
        }
    }

    /// Looks now; what is under way began when the host's routes were others.
    func lookAnew() {
        if isLooking {
            isInterrupted = true
            git.interrupt()
        }
        look()
    }

    /// All that was fetched is in force.
    func enforce() { inForce = fetched }

    private func take() {
        for look in looks.drain() {
            slowness?.cancel()
            (isLooking, isSlow) = (false, false)
            fetched = git.commit
            for note in look.notes { say(.warning, note) }
            switch look.result {
            case .success(let outcome):
                if case .switched(let commit) = outcome {
                    say(.notice, "commit \(commit.prefix(12)) was fetched")
                } else if problem != nil {
                    say(.notice, "the repository can be read again")
                }
                problem = nil
            case .failure(let failure): if !isInterrupted { tell(.error, failure.description) }
            }
            isInterrupted = false
            if isWantedAgain {
                self.look()
            } else {
                timer = loop.schedule(after: interval) { [unowned self] in self.look() }
            }
            seen(look)
        }
    }

    private func sayThatItIsSlow() {
        isSlow = true
        tell(
            .warning,
            "the fetch of \(git.ref) of \(git.url) has run for \(Self.patience.components.seconds) s: the remote does not "
                + "answer, or slowly; it is ended after \(GitFollower.patience.components.seconds) s")
        seen(nil)
    }

    private func tell(_ level: AgentEvent.Level, _ text: String) {
        if problem != text { say(level, text) }
        problem = text
    }

    private func say(_ level: AgentEvent.Level, _ text: String) {
        emit(AgentEvent(level, .revision, interface: nil, text))
    }
}
