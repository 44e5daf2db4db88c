// A plan: what must happen on a host, in the order in which it is safe.

package import WeftModel

/// A plan is data: it holds no secret, and it can be shown, checked and applied.
package struct Plan: Sendable {
    package var mesh: MeshIdentity
    /// In the order in which they are applied.
    package var operations: [PlannedOperation]
    /// What is not ours: left alone, on our interface, or in the way.
    package var foreign: [ForeignObject]
    /// Endpoints that are to be remembered although nothing is sent for them.
    package var endpointsToRemember: [PublicKey: AppliedEndpoint]
    /// Whether the mesh has a kill switch from now on.
    package var hasKillSwitch = false
    /// Whether all but a kill switch waits for something: what is remembered stays as it is.
    package private(set) var isWaiting = false
    /// Allowed IPs that come to a peer while another one carries their packets.
    package var takeovers: [IPPrefix: Takeover] = [:]

    /// Whether nothing can be done until a foreign object is gone, but for a kill switch that was in force.
    package var isBlocked: Bool {
        let relations: [ForeignObject.Relation] = [
            .blocksLink, .lacksDevice, .lacksKey, .takesNumber, .holdsPort, .fixesSysctl, .holdsTable, .sharesNetworks,
        ]
        return foreign.contains { relations.contains($0.relation) }
    }

    /// Whether the interface is, or may be, another mesh's in use: then what else goes by its name is not touched either,
    /// not even to take this mesh down. Routes and claims are told apart by the interface's name alone.
    package var isHeld: Bool { foreign.contains { $0.relation == .blocksLink && $0.bearsMark } }

    /// Whether the mesh is to go.
    package var takesDown = false

    /// What stands in the way of something.
    package var obstacles: [ForeignObject] {
        foreign.filter { ![.leftAlone, .onLink, .hinders].contains($0.relation) }
    }

    /// What works against the mesh without standing in the way of any operation.
    package var hindrances: [ForeignObject] { foreign.filter { $0.relation == .hinders } }

    /// What is not ours, and stays as it is.
    package var leftAlone: [ForeignObject] {
        let keepsLink = !removesLink
        return foreign.filter { $0.relation == .leftAlone || keepsLink && $0.relation == .onLink }
    }

    /// What is not ours, and goes with the interface that it is on.
    package var goesWithLink: [ForeignObject] { removesLink ? foreign.filter { $0.relation == .onLink } : [] }

    private var removesLink: Bool {
        operations.contains { if case .link(.remove) = $0.operation { true } else { false } }
    }

    /// What may work against the mesh, and cannot be looked into.
    package var blindSpots: [ForeignObject] { foreign.filter { $0.relation == .leftAlone && $0.kind == "legacy" } }

    package var isEmpty: Bool { operations.isEmpty }

    /// Whether something is wanted, and all of it waits for obstacles to go. That is not the same as nothing to do. Where
    /// the mesh is to go, somebody else's interface is in nobody's way.
    package var isStuck: Bool {
        if !operations.isEmpty { return false }
        return takesDown ? isHeld : !obstacles.isEmpty
    }
}

extension Plan {
    /// What makes the table as it is wanted, where it has a kill switch and had one: what keeps all else from being done, a
    /// busy port or another's rule, is no reason to leave that open. One that is new waits with the rest.
    ///
    /// The device waits too, and keeps the mark that it has: the table is for that one, and does not refuse the tunnel's own
    /// packets. Its addresses wait as well: a table with rules for others would refuse what the tunnel carries, and one that
    /// is shut can wait for them.
    private func killSwitch(_ wanted: HostState, _ live: HostState) -> PlannedOperation? {
        guard hasKillSwitch, !isHeld, var firewall = wanted.firewall, firewall.hasKillSwitch,
            !foreign.contains(where: { $0.relation == .holdsTable })
        else { return nil }
        let isReaddressed =
            live.link != nil && Set(live.addresses.map(\.address)) != Set(wanted.addresses.map(\.address))
        if isReaddressed, live.firewall?.isShut == true { return nil }
        // Without a mark, all packets would pass for the tunnel's own.
        if let mark = live.device?.fwMark, mark != 0, let wanted = wanted.device?.fwMark {
            firewall = firewall.marked(mark, insteadOf: wanted)
        }
        return planFirewall(desired: firewall, live: live, table: mesh.firewallTable)
    }

    /// Makes the plan that leads from what is there to what is wanted. Nil for `desired` means that the mesh is to go.
    ///
    /// The order: the firewall before all else, so that nothing passes that is to be refused, but after the mark that a new
    /// kill switch lets pass, and once more where that changes; the link, what its packets
    /// need before they get another mark, its device and its size; IPv6 on it; addresses; peers, each prefix moved before
    /// anything is removed; the link up; settings of the host; routes made; policy rules, which lead into them; name servers;
    /// and only then rules, routes and addresses removed.
    /// A mesh goes in the opposite order: its table is the last thing that is left of it.
    ///
    /// - Parameter obstacles: what is found in the way of a plan that was made without: routes of others that hold a key
    ///   which the mesh wants, and who has the device's port.
    package init(
        mesh: MeshIdentity,
        desired: DesiredState?,
        observed: Observation,
        memory: MeshMemory,
        obstacles: [ForeignObject] = []
    ) {
        self.mesh = mesh
        operations = []
        endpointsToRemember = [:]
        let wanted = desired?.state ?? HostState()
        takesDown = wanted.link == nil
        let live = observed.state
        let interface = mesh.interface
        let sysctls = SysctlPlan(
            desired: wanted.sysctls, live: live.sysctls, hasLink: live.link != nil, memory: observed.sysctlMemory,
            mesh: mesh)
        // What is on our own interface has been seen there already.
        let found = Set(obstacles.map(\.description))
        foreign = observed.foreign.filter { !found.contains($0.description) }
        foreign += obstacles + sysctls.obstacles(among: observed.fixedSysctls)
        if let problem = desired?.keyProblem {
            foreign.append(ForeignObject(kind: "key", description: problem, relation: .lacksKey))
        }
        if wanted.firewall == nil {
            // The name is nobody's loss then.
            for index in foreign.indices where foreign[index].relation == .holdsTable {
                foreign[index].relation = .leftAlone
            }
        }
        hasKillSwitch = memory.hasKillSwitch
        isWaiting = isHeld || (isBlocked && !takesDown) || desired?.keyProblem != nil
        if isWaiting {
            operations = killSwitch(wanted, live).map { [$0] } ?? []
            return
        }
        let hadKillSwitch = hasKillSwitch
        hasKillSwitch = wanted.firewall?.hasKillSwitch == true

        let links = LinkPlan(desired: wanted.link, live: live.link, halfMade: observed.halfMadeLink)
        let rules = PolicyRulePlan(
            desired: wanted.rules, live: live.rules, oldMark: live.device?.fwMark ?? 0, mark: wanted.device?.fwMark ?? 0
        )
        let tables = KillSwitchPlan(wanted, live)
        let firewall = planFirewall(desired: tables.first, live: live, table: mesh.firewallTable)
        let resolver = planResolver(desired: wanted.resolver, live: live.resolver)
        guard wanted.link != nil else {
            // What hangs on the link goes with it; what does not is named.
            let loose = live.routes.filter { $0.target == .unreachable || live.link == nil }
            operations = [resolver].compactMap(\.self) + rules.beforeMark + rules.remove + sysctls.release
            operations += loose.map { PlannedOperation(.route(.remove($0, interface: interface))) }
            operations += links.create + links.remove + [firewall].compactMap(\.self)
            return
        }
        let addresses = AddressPlan(desired: wanted.addresses, live: live.addresses, interface: interface)
        let routes = RoutePlan(
            desired: wanted.routes, live: addresses.routesLeft(of: live.routes), peers: wanted.peers,
            interface: interface)
        let policy = EndpointPolicy(
            remembered: memory.endpoints, written: desired?.endpointNames ?? [:], now: observed.time)
        let peers = PeerPlan(
            desired: wanted.peers, live: live, statistics: observed.statistics, endpoints: policy)
        let blockedKeys = Set(
            obstacles.compactMap { object -> Route.Key? in
                if case .blocksRoute(let key) = object.relation { key } else { nil }
            })

        let device = planDevice(desired: wanted.device, live: live.device, interface: interface)
        if tables.comesToALiveDevice, !hadKillSwitch {
            operations = rules.beforeMark + [device, firewall].compactMap(\.self) + links.create
        } else {
            operations = [firewall].compactMap(\.self) + links.create + rules.beforeMark + [device].compactMap(\.self)
        }
        if let live = tables.between,
            case .firewall(let operation)? = planFirewall(
                desired: wanted.firewall, live: live, table: mesh.firewallTable)?.operation
        {
            // Nothing bears the old mark any more.
            operations.append(PlannedOperation(.firewall(operation)))
        }
        operations += links.resize + sysctls.admit + addresses.add + peers.operations + links.raise + sysctls.claim
        operations += routes.make.filter { operation in
            guard !blockedKeys.isEmpty, case .route(let route) = operation.operation else { return true }
            return !blockedKeys.contains(route.route.key)
        }
        operations += rules.add + [resolver].compactMap(\.self)
        operations += rules.remove + routes.remove + addresses.remove + sysctls.release
        takeovers = peers.takeovers
        endpointsToRemember = peers.toRemember
    }
}
