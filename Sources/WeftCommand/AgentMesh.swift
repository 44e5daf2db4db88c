// One topology of an agent, among others: when its device is left in peace, and when its peers' names are asked for.

internal import WeftAgent

/// One topology: its controller, and the watch on its folder.
final class AgentMesh {
    let controller: MeshController<AgentHost>
    let path: String
    /// On its folder; nil until it is made, which the controller comes before.
    var watch: TopologyWatch?
    /// Until when its device, which kept all others waiting, is not asked again.
    private(set) var pauseEnd: ContinuousClock.Instant?
    /// When to ask again for the names of silent peers.
    private(set) var nextNames: ContinuousClock.Instant?
    /// How long after that.
    private var namesWait = Duration.seconds(2)
    private var wasOnTrial = false
    /// Whether a change is being taken back.
    private var isGoingBack = false
    /// For which topology the names were asked last.
    private var named = ""

    init(_ controller: MeshController<AgentHost>, _ path: String) {
        self.controller = controller
        self.path = path
    }

    /// One piece of work. A device that does not answer keeps all other meshes waiting for as long as it is waited for: it
    /// is asked again only when they have had ten times that.
    ///
    /// - Parameter besideOthers: whether there are any.
    /// - Returns: when the next piece is due.
    func step(besideOthers: Bool) -> ContinuousClock.Instant {
        let begun = ContinuousClock.now
        let next = controller.step(at: begun)
        if wasOnTrial, controller.onTrial == nil, case .takenBack = controller.verdict { isGoingBack = true }
        wasOnTrial = controller.onTrial != nil
        let time = ContinuousClock.now - begun
        let isStuck = besideOthers && time > .seconds(1) && controller.failure != nil
        pauseEnd = isStuck ? .now + min(time * 10, .seconds(120)) : nil
        return next
    }

    /// Whether its folder is waited for.
    var isUnsteady: Bool { watch?.isRestless == true }

    /// Whether what the folder holds, as far as that is known, is what is in force.
    var isFolderInForce: Bool { !isUnsteady && controller.isFolderInForce }

    /// Whether what was before a change is there again, told once.
    func isBack() -> Bool {
        if !isGoingBack || !controller.isSettled { return false }
        isGoingBack = false
        return true
    }

    /// Reads and looks at everything.
    func reload() {
        pauseEnd = nil
        controller.reload()
        watch?.lookAnyway()
    }

    /// The names to ask for now: all of a new topology, then those of silent peers. Soon again where there was no answer, or
    /// the answer leads nowhere; then ever more seldom. Whether a peer has fallen silent costs no question.
    func namesToAsk(at now: ContinuousClock.Instant) -> [String] {
        guard let revision = controller.force?.revision.id else { return [] }
        let isFirst = revision != named
        if !isFirst, (nextNames.map { $0 > now } ?? true) { return [] }
        named = revision
        let all = controller.namesToResolve(isFirst: true)
        let names = isFirst ? all : controller.namesToResolve(isFirst: false)
        namesWait = isFirst ? .seconds(2) : names.isEmpty ? .seconds(15) : min(namesWait * 2, .seconds(300))
        nextNames = all.isEmpty ? nil : now + namesWait
        return names
    }
}
