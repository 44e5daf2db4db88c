// What a plan is made of: one change of one object, with what it does to sessions.

/// One change of one object. Each kind's operations stand in that kind's own file.
package enum Operation: Hashable, Sendable {
    case link(LinkOperation)
    case device(DeviceOperation)
    case address(AddressOperation)
    case peer(PeerOperation)
    case route(RouteOperation)
    case rule(PolicyRuleOperation)
    case firewall(FirewallOperation)
    case resolver(ResolverOperation)
    case sysctl(SysctlOperation)

    /// Operations of one kind go to the dataplane together.
    package enum Kind: String, Hashable, Sendable, CaseIterable {
        case link, device, address, peer, route, rule, firewall, resolver, sysctl
    }

    package var kind: Kind {
        switch self {
        case .link: .link
        case .device: .device
        case .address: .address
        case .peer: .peer
        case .route: .route
        case .rule: .rule
        case .firewall: .firewall
        case .resolver: .resolver
        case .sysctl: .sysctl
        }
    }

    /// `+`, `~` or `-`: whether an object comes, changes or goes.
    package enum Action: String, Hashable, Sendable {
        case add, change, remove
    }

    package var action: Action {
        switch self {
        case .link(let operation): operation.action
        case .device: .change
        case .address(let operation): operation.action
        case .peer(let operation): operation.action
        case .route(let operation): operation.action
        case .rule(let operation): operation.action
        case .firewall(let operation): operation.action
        case .resolver(let operation): operation.action
        case .sysctl: .change
        }
    }
}

/// What an operation does to the sessions it touches.
package enum SessionEffect: String, Hashable, Sendable, Comparable, Codable {
    /// No packet of a session is lost, and no handshake is made that would not have been made.
    case hitless
    /// The next handshake must succeed with the new value at both ends; until then the session carries traffic.
    case rehandshake = "re-handshake"
    /// Traffic that is carried now stops.
    case outage

    private var rank: Int {
        switch self {
        case .hitless: 0
        case .rehandshake: 1
        case .outage: 2
        }
    }

    package static func < (left: Self, right: Self) -> Bool { left.rank < right.rank }
}

/// An operation in a plan.
package struct PlannedOperation: Hashable, Sendable {
    package var operation: Operation
    package var effect: SessionEffect
    /// What the effect reaches, where it is less than everything: "10.1.0.0/16 only"; of what is hitless, the condition.
    /// Empty where nothing needs saying.
    package var effectScope: String

    package init(_ operation: Operation, effect: SessionEffect = .hitless, scope: String = "") {
        self.operation = operation
        self.effect = effect
        effectScope = scope
    }
}

extension PlannedOperation {
    /// Whether it puts a key in the place of another, which is kept nowhere.
    package var replacesSecret: Bool {
        switch operation {
        case .peer(.change(let change)): change.presharedKey != nil
        case .device(let change): change.privateKey != nil
        default: false
        }
    }
}
