// Tells that something in the kernel has changed that a mesh is made of, so that it is looked at again.

import CLinux
package import Netlink

/// What the kernel tells of links, addresses, routes, rules, their settings and firewalls in the network namespace in
/// which this is made. It says that there is something to look at, not what is to be believed: the next pass reads all
/// of it.
package final class KernelEvents {
    /// What kind of thing has changed.
    package enum Kind: Hashable, Sendable, CaseIterable {
        case link, address, route, rule
        /// The settings of an interface that the kernel tells of: forwarding, rp_filter.
        case netconf
        /// nf_tables.
        case firewall
    }

    /// What has changed since the last look.
    package struct Events: Hashable, Sendable {
        package var kinds: Set<Kind> = []
        /// What was changed and by which program, for people, where the kernel tells; changes of this process are left
        /// out. At most 16: `route 10.0.0.0/8 in table 254 removed by ip (process 712)`.
        package var hints: [String] = []
        /// More has changed than could be told: all kinds are to be looked at, and are in `kinds`.
        package var overflowed = false

        package var isEmpty: Bool { kinds.isEmpty }
    }

    /// How many datagrams one look takes from each socket, so that a storm keeps nobody else waiting: a few
    /// milliseconds.
    private static let datagramsAtOnce = 1000

    private let route: Subscription
    /// Nil where the kernel has no nf_tables, or may not tell us.
    private let netfilter: Subscription?
    private var hints = KernelHints()

    /// - Throws: where there are no descriptors left, or no rtnetlink at all.
    package init() throws(Errno) {
        route = try Subscription(
            .route,
            groups: [
                RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
                RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF,
            ].map(\.rawValue))
        netfilter = try? Subscription(.netfilter, groups: [NFNLGRP_NFTABLES.rawValue])
    }

    /// Whether changes of firewalls are told; where not, they are to be polled.
    package var tellsOfFirewalls: Bool { netfilter != nil }

    /// Readable when something has changed: all of them are to be waited for.
    package var descriptors: [Int32] { [route.descriptor] + (netfilter.map { [$0.descriptor] } ?? []) }

    /// Takes what was told, of a storm a piece; empty where nothing was.
    package func drain() -> Events {
        var events = Events()
        hints.begin()
        drain(route, into: &events)
        if let netfilter { drain(netfilter, into: &events) }
        events.hints = hints.texts
        if events.overflowed { events.kinds = Set(Kind.allCases) }
        return events
    }

    private func drain(_ subscription: Subscription, into events: inout Events) {
        for _ in 0..<Self.datagramsAtOnce {
            let reception = try? subscription.next { message in
                guard let kind = Kind(message.type) else { return }
                if !events.kinds.contains(kind) { events.kinds.insert(kind) }
                hints.take(message, kind)
            }
            switch reception {
            case .messages?: break
            case .nothing?: return
            // A socket that fails has lost what it would have told.
            case .overflow?, nil: events.overflowed = true
            }
            if reception == nil { return }
        }
    }
}

extension KernelEvents.Kind {
    /// Of a message's type; nil for what says nothing of a change.
    @inline(__always)
    fileprivate init?(_ type: UInt16) {
        switch Int(type) {
        case RTM_NEWLINK, RTM_DELLINK: self = .link
        case RTM_NEWADDR, RTM_DELADDR: self = .address
        case RTM_NEWROUTE, RTM_DELROUTE: self = .route
        case RTM_NEWRULE, RTM_DELRULE: self = .rule
        case RTM_NEWNETCONF, RTM_DELNETCONF: self = .netconf
        default:
            guard type >> 8 == UInt16(NFNL_SUBSYS_NFTABLES) else { return nil }
            self = .firewall
        }
    }
}
