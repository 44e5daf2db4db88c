// From a plan to its document. Nothing is folded, and nothing is secret: keys become words.

package import WeftDiagnostics
import WeftModel
package import WeftPlan

extension PlanDocument {
    /// The name of the format.
    package static let formatName = "weft.plan"
    /// The current version of the format.
    package static let currentVersion = 1

    /// Makes the document.
    ///
    /// - Parameters:
    ///   - warnings: what compiling the topology found, with places in `files`.
    package init(
        _ plan: Plan, labels: PlanLabels, warnings: [Diagnostic] = [], cuts: [WeftPlan.Cut] = [],
        files: SourceFiles = SourceFiles()
    ) {
        format = Self.formatName
        version = Self.currentVersion
        node = labels.node
        mesh = plan.mesh.mesh
        interface = plan.mesh.interface
        blocked = plan.isStuck
        operations = plan.operations.map { Operation($0, of: plan, labels: labels) }
        obstacles = plan.obstacles.compactMap { Obstacle($0) }
        hindrances = plan.hindrances.map { ForeignObject($0) }
        goesWithInterface = plan.goesWithLink.map { ForeignObject($0) }
        foreign = plan.leftAlone.map { ForeignObject($0) }
        self.warnings = DiagnosticReport(warnings, in: files).diagnostics
        self.cuts = cuts.map { cut in
            Cut(
                kind: cut.guarded.kind.rawValue, address: "\(cut.guarded.remote.address)",
                port: cut.guarded.remote.port, today: cut.today, then: cut.then)
        }
        let counts = PlanSummary(plan)
        summary = Summary(
            add: counts.add, change: counts.change, remove: counts.remove,
            effect: (plan.operations.map(\.effect).max() ?? .hitless).rawValue)
    }
}

extension PlanDocument.Attributes {
    fileprivate init(_ resolver: ResolverSetting) {
        self.init(
            servers: resolver.servers.map(\.description), domains: resolver.domains, allNames: resolver.isForAllNames)
    }
}

extension PlanDocument.ForeignObject {
    fileprivate init(_ object: WeftPlan.ForeignObject) {
        self.init(kind: object.kind, description: object.description, remedy: object.remedy)
    }
}

extension PlanDocument.Obstacle {
    /// Nil for what stands in nobody's way.
    fileprivate init?(_ object: WeftPlan.ForeignObject) {
        kind = object.kind
        description = object.description
        remedy = object.remedy
        switch object.relation {
        case .leftAlone, .onLink, .hinders: return nil
        case .fixesSysctl: blocks = "sysctl"
        case .holdsTable: blocks = "table"
        case .sharesNetworks: blocks = "mesh"
        case .takesNumber: blocks = "rule"
        case .holdsPort: blocks = "port"
        case .blocksLink, .lacksDevice, .lacksKey: blocks = "link"
        case .blocksRoute(let key):
            blocks = "route"
            route = PlanDocument.Object(
                prefix: key.prefix.description, table: key.table, metric: key.metric)
        }
    }
}

extension PlanDocument.Operation {
    fileprivate init(_ planned: PlannedOperation, of plan: Plan, labels: PlanLabels) {
        action = planned.operation.action.rawValue
        kind = planned.operation.kind.rawValue
        object = PlanDocument.Object()
        effect = planned.effect.rawValue
        effectScope = planned.effectScope
        switch planned.operation {
        case .link(let link): describe(link)
        case .device(let device): describe(device)
        case .address(let address):
            object.address = "\(address.address.address)/\(address.address.length)"
            if case .replace = address {
                before = .init(altered: true)
                after = .init(altered: false)
            }
        case .peer(let peer):
            describe(peer, labels)
            takeovers = Self.takeovers(by: peer, in: plan, labels)
        case .route(let route): describe(route)
        case .rule(let rule): describe(rule)
        case .firewall(let firewall): describe(firewall)
        case .resolver(let resolver): describe(resolver)
        case .sysctl(let sysctl): describe(sysctl)
        }
    }

    private mutating func describe(_ operation: LinkOperation) {
        switch operation {
        case .create(let link):
            object.name = link.name
            after = .init(mtu: link.mtu, up: false, alias: link.alias)
        case .setMTU(let interface, let old, let new):
            object.name = interface
            before = .init(mtu: old)
            after = .init(mtu: new)
        case .setAlias(let interface, let old, let new):
            object.name = interface
            before = .init(alias: old)
            after = .init(alias: new)
        case .setUp(let interface):
            object.name = interface
            before = .init(up: false)
            after = .init(up: true)
        case .remove(let name), .removeHalfMade(let name): object.name = name
        }
    }

    private mutating func describe(_ operation: DeviceOperation) {
        object.name = operation.interface
        var old = PlanDocument.Attributes()
        var new = PlanDocument.Attributes()
        if operation.privateKey != nil {
            let had = operation.oldPublicKey != nil
            old.privateKey = had ? "set" : "none"
            new.privateKey = had ? "changed" : "set"
            old.publicKey = operation.oldPublicKey?.base64
            new.publicKey = operation.newPublicKey?.base64
        }
        if let port = operation.listenPort {
            old.listenPort = operation.oldListenPort
            new.listenPort = port
        }
        if let mark = operation.fwMark {
            old.fwMark = operation.oldFwMark
            new.fwMark = mark
        }
        before = old
        after = new
    }

    private mutating func describe(_ operation: PeerOperation, _ labels: PlanLabels) {
        let key = operation.publicKey
        object.publicKey = key.base64
        object.name = labels.peers[key]
        switch operation {
        case .add(let peer): after = .init(peer, endpointName: labels.endpoints[key])
        case .remove(let peer): before = .init(peer, endpointName: nil)
        case .change(let change):
            var old = PlanDocument.Attributes()
            var new = PlanDocument.Attributes()
            if let endpoint = change.endpoint {
                old.endpoint = change.oldEndpoint?.description
                new.endpoint = endpoint.description
                new.endpointName = labels.endpoints[key]
            }
            if let keepalive = change.persistentKeepalive {
                old.persistentKeepalive = change.oldPersistentKeepalive
                new.persistentKeepalive = keepalive
            }
            if let secret = change.presharedKey {
                old.presharedKey = change.hadPresharedKey ? "set" : "none"
                new.presharedKey = secret.word(had: change.hadPresharedKey)
            }
            let touched = new != PlanDocument.Attributes()
            before = touched ? old : nil
            after = touched ? new : nil
            allowedIPs = PlanDocument.AllowedIPsChange(
                added: change.added.map(\.description), removed: change.removed.map(\.description),
                moved: change.moved.map {
                    .init(prefix: $0.prefix.description, to: $0.to.base64, toName: labels.peers[$0.to])
                })
        }
    }

    private static func takeovers(
        by operation: PeerOperation, in plan: Plan, _ labels: PlanLabels
    ) -> [PlanDocument.Takeover]? {
        if plan.takeovers.isEmpty { return nil }
        let gained: [IPPrefix] =
            switch operation {
            case .add(let peer): Array(peer.allowedIPs)
            case .change(let change): change.added
            case .remove: []
            }
        let found = gained.compactMap { prefix in
            plan.takeovers[prefix].map {
                PlanDocument.Takeover(
                    prefix: prefix.description, from: $0.from.base64, fromName: labels.peers[$0.from],
                    within: $0.within.description)
            }
        }
        return found.isEmpty ? nil : found
    }

    private mutating func describe(_ operation: RouteOperation) {
        let key = operation.route.key
        object.prefix = key.prefix.description
        object.table = key.table
        object.metric = key.metric
        switch operation {
        case .add(let route, _): after = .init(route)
        case .remove(let route, _): before = .init(route)
        case .replace(let old, let new, _):
            before = .init(old)
            after = .init(new)
            if old.isAltered {
                before?.altered = true
                after?.altered = false
            }
        }
    }

    private mutating func describe(_ operation: PolicyRuleOperation) {
        let rule = operation.rule
        object.family = rule.key.family.name
        object.priority = rule.key.priority
        switch operation {
        case .add: after = .init(rule: rule.words)
        case .remove: before = .init(rule: rule.words)
        }
    }

    private mutating func describe(_ operation: FirewallOperation) {
        object.name = operation.table
        switch operation {
        case .create(let firewall, _): after = .init(firewall: FirewallDocument(firewall))
        case .remove(let firewall, _): before = .init(firewall: FirewallDocument(firewall))
        case .rebuild(let old, let new, _):
            before = .init(firewall: FirewallDocument(old))
            after = .init(firewall: FirewallDocument(new))
        case .change(let change, _):
            before = .init(
                firewall: FirewallDocument(
                    chains: change.changedChains.map(\.old) + change.removedChains,
                    sets: change.changedSets.map { .init($0.old, elements: $0.removed) }
                        + change.removedSets.map { .init($0) },
                    counters: change.removedCounters))
            after = .init(
                firewall: FirewallDocument(
                    chains: change.addedChains + change.changedChains.map(\.new),
                    sets: change.addedSets.map { .init($0) }
                        + change.changedSets.map { .init($0.new, elements: $0.added) },
                    counters: change.addedCounters))
        }
    }

    private mutating func describe(_ operation: ResolverOperation) {
        switch operation {
        case .set(let new, let old):
            object.name = new.interface
            before = old.map { .init($0) }
            after = .init(new)
        case .clear(let old):
            object.name = old.interface
            before = .init(old)
        }
    }

    private mutating func describe(_ operation: SysctlOperation) {
        object.path = operation.path
        switch operation {
        case .claim(let sysctl, let old):
            before = .init(value: old, claimed: false)
            after = .init(value: sysctl.value, claimed: true)
        case .hold(let sysctl):
            before = .init(value: sysctl.value, claimed: false)
            after = .init(value: sysctl.value, claimed: true)
        case .setOwn(let sysctl, let old):
            before = old.map { .init(value: $0, claimed: false) }
            after = .init(value: sysctl.value, claimed: false)
        case .release(_, let value, let restore, let companions):
            before = .init(value: value, claimed: true)
            after = .init(
                value: restore ?? value, claimed: false,
                companions: companions.isEmpty ? nil : companions.map { .init(path: $0.path, value: $0.value) })
        case .leave(let sysctl, _):
            before = .init(value: sysctl.value, claimed: true)
            after = .init(value: sysctl.value, claimed: false)
        }
    }
}

extension PlanDocument.Attributes {
    fileprivate init(_ peer: Peer, endpointName: String?) {
        endpoint = peer.endpoint?.description
        self.endpointName = endpointName
        persistentKeepalive = peer.persistentKeepalive
        presharedKey = peer.presharedKey.word(had: false)
        allowedIPs = peer.allowedIPs.map(\.description)
    }

    fileprivate init(_ route: Route) {
        target = route.target.word
        source = route.source?.description
    }
}

extension PresharedKey {
    /// `none`, `set`, `changed` or `external`: all that a document may say of it.
    func word(had: Bool) -> String {
        switch self {
        case .none: "none"
        case .tag: had ? "changed" : "set"
        case .external: "external"
        }
    }
}

extension Route.Target {
    /// `interface` or `unreachable`.
    var word: String { self == .unreachable ? "unreachable" : "interface" }
}
