// The seam between the reconciler and a kernel: what it reads, what it is asked to do, and what came of it.

package import WeftModel

/// A host's network as Weft sees it: the real kernel, or a model of it in tests.
package protocol Dataplane {
    /// Reads all that the mesh owns, completely or not at all; and of what is others', what stands in the way.
    mutating func observe(_ mesh: MeshIdentity, _ interests: Interests) throws(DataplaneError) -> Observation

    /// Which of these routes' keys are taken by routes that are not the mesh's.
    mutating func foreignRoutes(
        at keys: [Route.Key], of mesh: MeshIdentity
    ) throws(DataplaneError) -> [ForeignObject]

    /// Who has a UDP port that the mesh's device does not hold yet; nil where it is free, or cannot be looked at.
    mutating func holder(ofPort port: UInt16) -> ForeignObject?

    /// Performs operations of one kind, in order, in as few messages as fit; the outcomes are in the same order.
    /// What follows a failure that leaves its order in doubt is reported as skipped.
    mutating func perform(_ operations: [Operation], for mesh: MeshIdentity) -> [Outcome]
}

/// What a pass must know of a host beyond what is the mesh's own.
package struct Interests: Hashable, Sendable {
    /// The paths to read, besides those that the mesh has claimed.
    package var sysctls: [String]
    /// Whether routes are wanted.
    package var hasRoutes = false
    /// The routes that are wanted.
    package var routes: [Route] = []
    /// The addresses that are wanted: one of them on the mesh's interface is the mesh's, whoever put it there.
    package var addresses: Set<InterfaceAddress.Key> = []
    /// The rules that are wanted: others' rules and routes must not use their numbers.
    package var rules: [PolicyRule]
    /// What others' firewalls must let through.
    package var traffic: MeshTraffic
    /// Whether a firewall is wanted.
    package var hasFirewall = false
    /// Whether name servers are wanted on the link.
    package var hasResolver: Bool
    /// Whether nothing is to be begun where there is no way to make a WireGuard device. A kill switch goes up before the
    /// device, and stays without it: nothing leaves the host then, as is wanted of it.
    package var needsDevice = false

    package init(
        sysctls: [String] = [], rules: [PolicyRule] = [], traffic: MeshTraffic = MeshTraffic(),
        hasResolver: Bool = false
    ) {
        self.sysctls = sysctls
        self.rules = rules
        self.traffic = traffic
        self.hasResolver = hasResolver
    }

    /// Nil, or a state without a link, means that the mesh is to go.
    package init(_ desired: DesiredState?) {
        self.init(
            sysctls: (desired?.state.sysctls ?? []).map(\.path), rules: desired?.state.rules ?? [],
            traffic: desired.map { MeshTraffic($0) } ?? MeshTraffic(), hasResolver: desired?.state.resolver != nil)
        routes = desired?.state.routes ?? []
        hasRoutes = !routes.isEmpty
        hasFirewall = desired?.state.firewall != nil
        needsDevice = desired?.state.link != nil && desired?.state.firewall?.hasKillSwitch != true
        addresses = Set((desired?.state.addresses ?? []).map(\.key))
    }
}

/// What came of one operation.
package enum Outcome: Hashable, Sendable {
    case done
    /// It was so already: what was to go was gone, what was to come was there and ours.
    case already
    case failed(DataplaneError)
    /// Not tried, because what it depends on failed.
    case skipped(String)
    /// Done, and undone again: the link that it was done on was removed, because this failed.
    case takenBack(String)

    package var isFailure: Bool {
        switch self {
        case .done, .already: false
        case .failed, .skipped, .takenBack: true
        }
    }
}

/// What is there.
package struct Observation: Sendable {
    /// Only what is the mesh's own. The link is nil where there is none of ours.
    package var state: HostState
    /// Nil where there is no link.
    package var deviceKind: DeviceKind?
    /// Of `state.peers`, index by index.
    package var statistics: [PeerStatistics]
    /// The name of a link that an interrupted create left behind.
    package var halfMadeLink: String?
    /// What the mesh's named counters have counted, by name.
    package var counts: [FirewallCount] = []
    /// What is not ours on our interface, in its place, or in its way.
    package var foreign: [ForeignObject]
    /// Who has claimed which sysctl.
    package var sysctlMemory: SysctlMemory
    /// Sysctls that nobody can write here, because /proc/sys is mounted read-only, with the value that they have. One of
    /// the mesh's own link, where that is not there yet, has the value that the link will begin with.
    package var fixedSysctls: [Sysctl] = []
    /// When it was read, by the wall clock.
    package var time: UnixTime

    package init(
        state: HostState = HostState(),
        sysctlMemory: SysctlMemory = SysctlMemory(),
        deviceKind: DeviceKind? = nil,
        statistics: [PeerStatistics] = [],
        halfMadeLink: String? = nil,
        foreign: [ForeignObject] = [],
        time: UnixTime
    ) {
        self.state = state
        self.deviceKind = deviceKind
        self.statistics = statistics
        self.halfMadeLink = halfMadeLink
        self.foreign = foreign
        self.sysctlMemory = sysctlMemory
        self.time = time
    }
}

/// Something that is not Weft's: never changed, and shown where it matters.
package struct ForeignObject: Hashable, Sendable {
    package enum Relation: Hashable, Sendable {
        /// It is there, and left alone.
        case leftAlone
        /// It is on the mesh's interface: left alone while that stays, and gone with it.
        case onLink
        /// The mesh's link cannot be made while it is there.
        case blocksLink
        /// The route of this key cannot be made while it is there.
        case blocksRoute(Route.Key)
        /// It uses a mark, a table or a priority that the mesh's full tunnel needs for itself, or has the table that the mesh's
        /// routes are to stand in for a full tunnel of its own: nothing is begun.
        case takesNumber
        /// It has the UDP port that the device would have to bind: nothing is begun.
        case holdsPort
        /// There is no WireGuard on the host, nor a program in its place: nothing is begun.
        case lacksDevice
        /// A key of the host's cannot be used: nothing is begun.
        case lacksKey
        /// A sysctl that has to change cannot be written: nothing is begun.
        case fixesSysctl
        /// A table of the name that the mesh's is to have, which is somebody else's: nothing is begun where the mesh needs one.
        case holdsTable
        /// Another mesh on the host has a range, a network or an address that this one is to have: nothing is begun.
        case sharesNetworks
        /// It drops, or will undo, what the mesh needs: all is done, and this is said.
        case hinders
    }

    /// `interface`, `device`, `address`, `route`, `rule`, `port`, `sysctl`, `table`, `chain`, `manager`, `legacy`,
    /// `mesh`, `key`.
    package var kind: String
    /// As `ip` would print it.
    package var description: String
    package var relation: Relation
    /// What to do about it; empty where nothing needs doing.
    package var remedy: String
    /// A link that bears a mesh's mark: routes, claims and memory under its name are that mesh's.
    package var bearsMark: Bool
    /// Whether it drops, or may drop, the tunnel's own packets: then no handshake comes about.
    package var stopsTunnel = false

    package init(
        kind: String, description: String, relation: Relation = .leftAlone, remedy: String = "", bearsMark: Bool = false
    ) {
        self.bearsMark = bearsMark
        self.kind = kind
        self.description = description
        self.relation = relation
        self.remedy = remedy
    }

    /// What it is, and what to do about it.
    package var sentence: String {
        remedy.isEmpty ? "\(kind) \(description)" : "\(kind) \(description). \(remedy)"
    }
}

/// A failure below: what was being done, what the kernel said, and what to do.
package struct DataplaneError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Code: String, Hashable, Sendable {
        /// CAP_NET_ADMIN is missing.
        case notPermitted
        /// There is neither kernel WireGuard nor a user-space program for it.
        case noWireGuard
        /// The UDP port belongs to another socket.
        case portInUse
        /// A foreign object stands in the way.
        case obstructed
        /// What the operation needs has gone in the meantime.
        case gone
        /// Reads were interrupted by changes, again and again.
        case inconsistent
        case noMemory
        /// The kernel refused the value.
        case invalid
        /// The kernel lacks a feature.
        case unsupported
        /// A file below /proc, /run or the state folder.
        case file
        /// An agent is in charge of the interface.
        case inCharge
        /// A key is missing, unreadable, or has changed since the plan.
        case key
        case other
    }

    package var code: Code
    /// A sentence with the remedy.
    package var message: String
    /// The system's error number, 0 where there is none.
    package var errno: Int32
    /// The kernel's own text (NLMSGERR_ATTR_MSG), empty where it gave none.
    package var kernelText: String
    /// What was being done: `add route 10.0.0.0/8 dev wg0`.
    package var operation: String

    package init(
        _ code: Code, _ message: String, errno: Int32 = 0, kernelText: String = "", operation: String = ""
    ) {
        self.code = code
        self.message = message
        self.errno = errno
        self.kernelText = kernelText
        self.operation = operation
    }

    /// Whether the same may succeed later without anybody changing anything.
    package var isRetryable: Bool {
        switch code {
        case .portInUse, .gone, .inconsistent, .noMemory, .file, .other: true
        case .notPermitted, .noWireGuard, .obstructed, .invalid, .unsupported, .key, .inCharge: false
        }
    }

    package var description: String {
        var text = operation.isEmpty ? message : "\(operation): \(message)"
        if !kernelText.isEmpty { text += " (kernel: \(kernelText))" }
        return text
    }
}
