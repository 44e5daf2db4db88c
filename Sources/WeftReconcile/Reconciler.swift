// One pass: observe, diff, apply step by step, observe again.

package import WeftModel
package import WeftPlan

/// Leads one mesh on one host from what is there to what is wanted. Everything it knows it reads in the same pass.
package struct Reconciler<Plane: Dataplane> {
    package var dataplane: Plane
    /// What was wanted last, and what must be known of the host for it: worked out once, because that is long for a
    /// thousand routes, and hangs on nothing else.
    private var last: (state: HostState, flows: Set<DesiredState.Flow>, interests: Interests)?

    package init(_ dataplane: Plane) {
        self.dataplane = dataplane
    }

    private mutating func interests(in desired: DesiredState?) -> Interests {
        guard let desired else { return Interests(nil) }
        var interests: Interests?
        if let last, last.flows == desired.flows, last.state == desired.state { interests = last.interests }
        let found = interests ?? Interests(desired)
        // Also where it was known: the same arrays need not be compared element by element the next time.
        last = (desired.state, desired.flows, found)
        return found
    }

    /// Reads the host and plans. Changes nothing.
    ///
    /// - Parameter desired: nil, or a state without a link, means that the mesh is to go.
    package mutating func plan(
        _ mesh: MeshIdentity, desired: DesiredState?, memory: MeshMemory
    ) throws(DataplaneError) -> (plan: Plan, observation: Observation) {
        let observation = try dataplane.observe(mesh, interests(in: desired))
        var plan = Plan(mesh: mesh, desired: desired, observed: observation, memory: memory)
        // Routes of others are read only where a route of ours would have to stand beside them.
        let added = plan.operations.compactMap { planned -> Route.Key? in
            if case .route(.add(let route, _)) = planned.operation { route.key } else { nil }
        }
        var obstacles = added.isEmpty ? [] : try dataplane.foreignRoutes(at: added, of: mesh)
        if let port = plan.portToBind(on: observation), let holder = dataplane.holder(ofPort: port) {
            obstacles.append(holder)
        }
        if !obstacles.isEmpty {
            plan = Plan(mesh: mesh, desired: desired, observed: observation, memory: memory, obstacles: obstacles)
        }
        return (plan, observation)
    }
}

/// A plan on its way: one bounded batch at a time, so that a daemon can serve its sockets in between.
package struct Application: Sendable {
    package let plan: Plan
    /// Of `plan.operations`, as far as they were tried.
    package private(set) var outcomes: [Outcome] = []
    /// Set when nothing more may be tried.
    private var abandoned: String?

    /// How many operations go to the dataplane at once. Netlink batches of this size reach full speed.
    package static let batch = 500

    package init(_ plan: Plan) {
        self.plan = plan
        outcomes.reserveCapacity(plan.operations.count)
    }

    /// Nothing more is tried.
    package mutating func abandon(_ reason: String) { abandoned = abandoned ?? reason }

    package var isFinished: Bool { outcomes.count == plan.operations.count }

    /// Applies the next batch: a run of operations of one kind.
    ///
    /// - Returns: the indices of the operations that were decided.
    package mutating func step<Plane: Dataplane>(_ dataplane: inout Plane) -> Range<Int> {
        let start = outcomes.count
        guard start < plan.operations.count else { return start..<start }
        let kind = plan.operations[start].operation.kind
        var end = start + 1
        while end < plan.operations.count, end - start < Self.batch, plan.operations[end].operation.kind == kind {
            end += 1
        }
        if let abandoned {
            outcomes += [Outcome](repeating: .skipped(abandoned), count: end - start)
            return start..<end
        }
        if kind == .peer {
            return stepPeers(start..<end, &dataplane)
        }
        outcomes += dataplane.perform(plan.operations[start..<end].map(\.operation), for: plan.mesh)
        for index in start..<end where outcomes[index].isFailure { note(failureOf: index, &dataplane) }
        return start..<end
    }

    /// Peers are removed only while every addition and change before them has gone well: a prefix that was to move
    /// would otherwise be at neither.
    private mutating func stepPeers<Plane: Dataplane>(_ range: Range<Int>, _ dataplane: inout Plane) -> Range<Int> {
        let failedBefore = plan.operations.indices.prefix(range.lowerBound).contains { index in
            plan.operations[index].operation.kind == .peer && outcomes[index].isFailure
        }
        var end = range.upperBound
        if failedBefore, let removal = range.first(where: { plan.operations[$0].operation.action == .remove }) {
            if removal == range.lowerBound {
                let reason = "a peer before it failed, and its allowed IPs may have been meant to move"
                outcomes += [Outcome](repeating: .skipped(reason), count: range.count)
                return range
            }
            end = removal
        }
        outcomes += dataplane.perform(plan.operations[range.lowerBound..<end].map(\.operation), for: plan.mesh)
        return range.lowerBound..<end
    }

    /// What depends on what: without its link, its key or its device up, the rest has nothing to stand on.
    private mutating func note<Plane: Dataplane>(failureOf index: Int, _ dataplane: inout Plane) {
        switch plan.operations[index].operation {
        case .firewall(let operation) where operation.action != .remove:
            abandoned = "the firewall could not be written, and nothing is to pass without it"
        case .route(let operation) where operation.route.table != Route.mainTable && operation.action != .remove:
            // A rule that leads into a table without its routes would let packets fall through it.
            abandoned = "a route of the tunnel's own table could not be made"
        case .link(.create): abandoned = "the link could not be made"
        case .device: abandoned = "the device could not be configured"
        case .link(.setUp(let interface)):
            abandoned = "the link could not be brought up"
            undoCreation(of: interface, &dataplane)
        default: break
        }
        if abandoned != nil, case .device(let device) = plan.operations[index].operation {
            undoCreation(of: device.interface, &dataplane)
        }
    }

    /// A link that this very plan made and that cannot carry traffic is taken away again, with all that was put on it, as
    /// if nothing had been tried.
    private mutating func undoCreation<Plane: Dataplane>(of interface: String, _ dataplane: inout Plane) {
        let decided = outcomes.indices
        let creation = decided.first { index in
            if case .link(.create) = plan.operations[index].operation { outcomes[index] == .done } else { false }
        }
        guard let creation, let abandoned,
            dataplane.perform([.link(.remove(interface: interface))], for: plan.mesh).allSatisfy({ !$0.isFailure })
        else { return }
        for index in creation..<decided.endIndex where !outcomes[index].isFailure {
            switch plan.operations[index].operation.kind {
            case .link, .device, .address, .peer: outcomes[index] = .takenBack(abandoned)
            case .route, .rule, .firewall, .resolver, .sysctl: break
            }
        }
    }
}

/// What came of a whole pass.
package struct PassReport: Sendable {
    package var plan: Plan
    package var outcomes: [Outcome]
    /// What is left to do after the pass, as a plan from what was read then; nil where that could not be read.
    package var remaining: Plan?
    /// Why it could not be read.
    package var verificationError: DataplaneError?
    /// What was read last.
    package var observation: Observation
    /// What to remember from now on.
    package var memory: MeshMemory
    /// Whether the mesh was to go: what others have in its place is then no concern.
    package var isTakingDown = false

    /// Whether the topology is what is in force: all that can be done is done. What waits for an obstacle to a part of the host
    /// is done when that goes.
    package var isInForce: Bool { remaining.map { $0.isEmpty && !$0.isWaiting } ?? false }

    /// Whether the host is as wanted.
    package var isConverged: Bool {
        guard let remaining else { return false }
        return remaining.isEmpty && (isTakingDown || remaining.obstacles.isEmpty)
    }
}

extension Reconciler {
    /// Applies a plan to its end, observes again and diffs again.
    ///
    /// - Parameters:
    ///   - progress: called after each batch with the indices it decided.
    ///   - isInterrupted: asked before each batch; from then on nothing more is tried.
    package mutating func apply(
        _ plan: Plan, desired: DesiredState?, memory: MeshMemory, observation: Observation,
        progress: (Application, Range<Int>) -> Void = { _, _ in }, isInterrupted: () -> Bool = { false }
    ) -> PassReport {
        var application = Application(plan)
        while !application.isFinished {
            if isInterrupted() { application.abandon("the run was interrupted") }
            let decided = application.step(&dataplane)
            progress(application, decided)
        }
        var remembered = memory
        remembered.note(application, of: desired)
        var report = PassReport(
            plan: plan, outcomes: application.outcomes, observation: observation, memory: remembered,
            isTakingDown: desired?.state.link == nil)
        if plan.operations.isEmpty {
            report.remaining = plan
            return report
        }
        do throws(DataplaneError) {
            let (remaining, seen) = try self.plan(plan.mesh, desired: desired, memory: remembered)
            report.remaining = remaining
            report.observation = seen
        } catch {
            report.verificationError = error
        }
        return report
    }
}

extension MeshMemory {
    /// Writes down the endpoints that were applied, and forgets those of peers that are gone.
    ///
    /// - Parameter desired: what was applied; nil: the mesh was to go.
    package mutating func note(_ application: Application, of desired: DesiredState?) {
        let written = desired?.endpointNames ?? [:]
        let wanted = desired?.state.peers ?? []
        var applied = application.plan.endpointsToRemember
        func remember(_ key: PublicKey, _ endpoint: SocketAddress) {
            applied[key] = AppliedEndpoint(written: written[key] ?? endpoint.description, address: endpoint)
        }
        for (index, outcome) in application.outcomes.enumerated() where !outcome.isFailure {
            guard case .peer(let operation) = application.plan.operations[index].operation else { continue }
            switch operation {
            case .add(let peer):
                if let endpoint = peer.endpoint { remember(peer.publicKey, endpoint) }
            case .change(let change):
                if let endpoint = change.endpoint { remember(change.publicKey, endpoint) }
            case .remove: break
            }
        }
        if !application.plan.isEmpty { reached = nil }
        let isTableWrong = zip(application.plan.operations, application.outcomes).contains { planned, outcome in
            if case .firewall = planned.operation { outcome.isFailure } else { false }
        }
        if !application.plan.isWaiting {
            if !isTableWrong { hasKillSwitch = application.plan.hasKillSwitch }
            node = hasKillSwitch ? desired?.node : nil
        }
        endpoints.remember(applied)
        // An endpoint taken out of the topology is forgotten, so that the same one put back is a change.
        endpoints.keep(wanted.lazy.filter { $0.endpoint != nil || written[$0.publicKey] != nil }.map(\.publicKey))
    }
}
