// The real kernel behind `Dataplane`: each kind of object has a file of its own, and this one calls them in order.

import CLinux
import Glibc
package import Netlink
package import WeftKeys
package import WeftModel
package import WeftPlan

/// A host's network: links, addresses and routes over rtnetlink, WireGuard over generic netlink or a program's socket,
/// settings below /proc/sys. All in the network namespace of the thread that made it; settings and the table of UDP
/// sockets are those of the thread that asks.
package struct KernelDataplane: Dataplane {
    /// What it needs of the rest of the house.
    package struct Parts {
        package var userspace: any UserspaceDevices
        package var sysctls: any SysctlLedger
        /// The keys of this run. Called only when an operation needs a secret.
        package var secrets: () throws(DataplaneError) -> SecretArena
        /// Tells the host's name resolution; nil where nothing does.
        package var resolver: ResolverPrograms?
        /// Where /proc is; tests have their own.
        package var proc: String
        /// What stands before /etc, /run and /usr where others' settings are read.
        package var root = ""
        package var features: KernelFeatures
        /// Whether others' routes and rules are read for what takes the mesh's packets. That is all of the host's main
        /// table: for those who look once.
        package var looksForDetours = false

        package init(
            userspace: any UserspaceDevices, sysctls: any SysctlLedger,
            secrets: @escaping () throws(DataplaneError) -> SecretArena, resolver: ResolverPrograms? = nil,
            proc: String = "/proc", features: KernelFeatures = .current
        ) {
            self.userspace = userspace
            self.sysctls = sysctls
            self.secrets = secrets
            self.resolver = resolver
            self.proc = proc
            self.features = features
        }
    }

    var parts: Parts
    private let transports: TransportFactory
    let route: Channel
    private var tables: OwnTables
    /// Opened with the first device of the kernel's; a host without kernel WireGuard never needs it.
    private var generic: Channel?
    private var family: UInt16?
    /// What was there last time, to make room for as much.
    private var lastPeers = 0
    private var lastRoutes = 0
    /// What was found of other programs, by interface.
    private var lastManagers: [String: (time: ContinuousClock.Instant, interests: Interests, found: [ForeignObject])] =
        [:]
    private static let managersHold = Duration.seconds(30)
    /// What was wanted when it was last looked, by interface: it tells which rules are ours.
    private var wantedRules: [String: [PolicyRule]] = [:]
    /// This host's own in each mesh, likewise.
    private var wantedAddresses: [String: [IPPrefix]] = [:]

    /// Opens the sockets in the calling thread's network namespace.
    ///
    /// - Parameter transports: opens them; tests put faults here.
    package init(
        _ parts: Parts, transports: @escaping TransportFactory = { (bus) throws(Errno) in try Socket(bus) }
    ) throws(DataplaneError) {
        self.parts = parts
        self.transports = transports
        route = try Self.open(.route, transports)
        // Now, because a socket keeps the namespace it was opened in.
        generic = try? Self.open(.generic, transports)
        tables = OwnTables(Result { () throws(DataplaneError) in try Self.open(.netfilter, transports) })
    }

    private static func open(_ bus: Bus, _ transports: TransportFactory) throws(DataplaneError) -> Channel {
        do throws(Errno) {
            return Channel(try transports(bus))
        } catch {
            throw DataplaneError(error, Request(.openSocket, "open a netlink socket"))
        }
    }

    var links: Links { Links(channel: route) }
    private var sysctls: Sysctls { Sysctls(folder: "\(parts.proc)/sys") }

    // MARK: Observing

    package mutating func observe(_ mesh: MeshIdentity, _ interests: Interests) throws(DataplaneError) -> Observation {
        // A link that comes or goes between two reads makes them contradict each other: then all is read again.
        for _ in 0..<3 {
            do throws(DataplaneError) {
                return try observeOnce(mesh, interests)
            } catch {
                guard error.code == .gone else { throw error }
            }
        }
        throw DataplaneError(
            .inconsistent,
            "the interface keeps coming and going: look for another program that manages it, or try again",
            operation: "read \(mesh.interface)")
    }

    private mutating func observeOnce(
        _ mesh: MeshIdentity, _ interests: Interests
    ) throws(DataplaneError) -> Observation {
        var clock = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &clock)
        let time = UnixTime(seconds: Int64(clock.tv_sec), nanoseconds: Int32(clock.tv_nsec))
        var observation = Observation(time: time)
        if let link = try links.find(mesh.reservedName), link.name == mesh.reservedName {
            observation.halfMadeLink = link.name
        }
        var isAnotherMeshes = false
        switch try links.owner(of: mesh, parts.userspace) {
        case .nobody:
            if interests.needsDevice, !hasKernelWireGuard(), let lack = lack(ofDeviceFor: mesh) {
                observation.foreign.append(lack)
            }
            try readRoutes(of: mesh, interests, interface: 0, into: &observation)
        case .other(let link):
            let holder = ForeignObject(blocking: link, for: mesh, hasLostMark: try carriesOwnRoutes(link, mesh))
            isAnotherMeshes = holder.bearsMark && link.alias != mesh.alias
            observation.foreign.append(holder)
            try readRoutes(of: mesh, interests, interface: 0, into: &observation)
        case .ours(let link, let kind):
            try read(link, kind, of: mesh, interests, into: &observation)
        }
        // What is told by the interface's name alone belongs to whose interface it is.
        if !isAnotherMeshes {
            try readRules(of: mesh, interests, into: &observation)
            let table = try tables.read(mesh.firewallTable)
            if let firewall = table.firewall, firewall.isForeign {
                observation.foreign.append(ForeignObject(table: mesh.firewallTable, of: firewall.chains))
            } else {
                observation.state.firewall = table.firewall
                observation.counts = table.counts
            }
            if let owned = table.owned { observation.foreign.append(owned) }
            observation.state.resolver = try parts.resolver?.read(
                mesh.interface, isWanted: interests.hasResolver, hasLink: observation.state.link != nil)
        }
        observation.foreign += try neighbours(of: mesh, interests)
        observation.foreign += try sharedNumbers(of: mesh, interests)
        let memory = try parts.sysctls.memory()
        observation.sysctlMemory = memory
        let claimed = (memory.claims[mesh.interface] ?? []).subtracting(interests.sysctls)
        let paths = interests.sysctls + claimed.sorted()
        observation.state.sysctls = try sysctls.read(paths + memory.companions(ofClaimsBy: mesh.interface))
        observation.fixedSysctls = try sysctls.fixed(paths, of: mesh.interface)
        if !observation.fixedSysctls.isEmpty, observation.state.link?.isUp != true,
            observation.deviceKind.map({ $0 == .kernel }) ?? hasKernelWireGuard()
        {
            // The kernel's WireGuard writes these itself when its link comes up.
            observation.fixedSysctls.removeAll { $0.path.hasSuffix("/send_redirects") }
        }
        return observation
    }

    /// Reads all that hangs on our link.
    private mutating func read(
        _ link: LiveLink, _ kind: DeviceKind, of mesh: MeshIdentity, _ interests: Interests,
        into observation: inout Observation
    ) throws(DataplaneError) {
        observation.deviceKind = kind
        observation.state.link = Link(
            name: link.name, mtu: link.mtu, isUp: link.isUp, alias: link.alias ?? "")
        let reading = try readDevice(link, kind)
        observation.state.device = reading.device
        observation.state.peers = reading.peers
        observation.statistics = reading.statistics
        let addresses = try Addresses(channel: route, link: link, features: parts.features).read(
            wanted: interests.addresses)
        observation.state.addresses = addresses.ours
        observation.foreign += addresses.others.map { ForeignObject(address: $0, on: link.name) }
        try readRoutes(of: mesh, interests, interface: link.index, into: &observation)
    }

    mutating func readDevice(_ link: LiveLink, _ kind: DeviceKind) throws(DataplaneError) -> DeviceReading {
        switch kind {
        case .kernel:
            var control = try kernelControl(link)
            control.expectedPeers = lastPeers
            let reading = try control.read()
            lastPeers = reading.peers.count
            return reading
        case .userspace:
            var control = parts.userspace.control(interface: link.name)
            return try control.read()
        }
    }

    private mutating func readRoutes(
        of mesh: MeshIdentity, _ interests: Interests, interface: UInt32, into observation: inout Observation
    ) throws(DataplaneError) {
        let routes = Routes(channel: route, links: links, mesh: mesh, interface: interface)
        let reading = try routes.read(expecting: lastRoutes)
        lastRoutes = reading.ours.count
        observation.state.routes = reading.ours
        if reading.others.isEmpty { return }
        var names: [UInt32: String] = [:]
        // Those in the tunnel's own table are found there.
        let tables = Set(interests.rules.compactMap(\.table))
        observation.foreign += reading.others.filter { !tables.contains($0.route.table) }.map { found in
            ForeignObject(kind: "route", description: routes.describe(found, &names), relation: .onLink)
        }
    }

    /// Rules, and routes of others in the tunnel's own table.
    private mutating func readRules(
        of mesh: MeshIdentity, _ interests: Interests, into observation: inout Observation
    ) throws(DataplaneError) {
        wantedRules[mesh.interface] = interests.rules
        wantedAddresses[mesh.interface] = interests.addresses.map { IPPrefix($0.address, length: Int($0.length)) }
        // Without a full tunnel, all of a mesh's routes stand in one table.
        let table = interests.rules.isEmpty ? interests.routes.first?.table : nil
        let reading = try PolicyRules(channel: route, mesh: mesh, wanted: interests.rules, table: table).read()
        observation.state.rules = reading.ours
        observation.foreign += reading.foreign
        for table in Set(interests.rules.compactMap(\.table)).sorted() {
            if let object = try routes(of: mesh).intruders(inTable: table) { observation.foreign.append(object) }
        }
        if !parts.looksForDetours { return }
        let known = Set(reading.foreign.map(\.description))
        let detours = Detours(
            channel: route, links: links, mesh: mesh, interface: try routes(of: mesh).interface,
            routes: interests.routes, rules: interests.rules)
        observation.foreign += try detours.read().filter { !known.contains($0.description) }
    }

    /// What of other programs works against the mesh.
    private mutating func neighbours(
        of mesh: MeshIdentity, _ interests: Interests
    ) throws(DataplaneError) -> [ForeignObject] {
        // A mesh that is to go needs nothing of anybody.
        if interests.traffic.flows.isEmpty { return [] }
        let found = managers(of: mesh, interests)
        guard case .success(let channel) = tables.channel else { return found }
        let links = links
        let neighbours = Neighbours(channel: channel, interface: mesh.interface, traffic: interests.traffic) {
            (try? links.find(mesh.interface))?.index ?? 0
        }
        return try neighbours.read() + found
    }

    /// What programs and settings will undo our work. An agent looks every few seconds, and all of /proc is long: what was
    /// found holds for a while.
    private mutating func managers(of mesh: MeshIdentity, _ interests: Interests) -> [ForeignObject] {
        let now = ContinuousClock.now
        if let last = lastManagers[mesh.interface], last.interests == interests, now - last.time < Self.managersHold {
            return last.found
        }
        let managers = NetworkManagers(proc: parts.proc, root: parts.root, interface: mesh.interface)
        let legacy = LegacyTables(
            proc: parts.proc, interface: mesh.interface, port: interests.traffic.listenPort)
        let switches = ForwardingSwitches(
            proc: parts.proc, interface: mesh.interface, traffic: interests.traffic, transports: transports)
        let found =
            managers.read(routes: interests.hasRoutes, rules: !interests.rules.isEmpty)
            + (interests.hasFirewall ? managers.flushers() : []) + legacy.read() + switches.read()
        lastManagers[mesh.interface] = (now, interests, found)
        return found
    }

    package mutating func foreignRoutes(
        at keys: [Route.Key], of mesh: MeshIdentity
    ) throws(DataplaneError) -> [ForeignObject] {
        try routes(of: mesh).obstacles(at: keys, addresses: wantedAddresses[mesh.interface] ?? [])
    }

    // MARK: Performing

    package mutating func perform(_ operations: [Operation], for mesh: MeshIdentity) -> [Outcome] {
        do throws(DataplaneError) {
            switch operations.first?.kind {
            case nil: return []
            case .link: return operations.map { performLink($0, mesh) }
            case .sysctl: return operations.map { performSysctl($0, mesh) }
            case .rule:
                return PolicyRules(channel: route, mesh: mesh, wanted: wantedRules[mesh.interface] ?? [])
                    .perform(operations.compactMap { if case .rule(let operation) = $0 { operation } else { nil } })
            case .firewall: return operations.map { performFirewall($0) }
            case .resolver: return operations.map { performResolver($0) }
            case .address:
                let link = try ownLink(of: mesh).link
                return Addresses(channel: route, link: link, features: parts.features)
                    .perform(operations.compactMap { if case .address(let operation) = $0 { operation } else { nil } })
            case .route:
                return try routes(of: mesh)
                    .perform(operations.compactMap { if case .route(let operation) = $0 { operation } else { nil } })
            case .device:
                let (link, kind) = try ownLink(of: mesh)
                var control = try control(link, kind)
                return operations.map { operation in
                    guard case .device(let operation) = operation else { return .skipped("another kind") }
                    // A program lets go of the port it has before it tries the new one: if that is taken, a live tunnel
                    // is cut off. The kernel keeps the old one.
                    if kind == .userspace, let port = operation.listenPort, !UDPPort(port).isFree {
                        return nameOwner(of: port, in: .failed(portInUse(port, link.name)))
                    }
                    return nameOwner(of: operation.listenPort, in: control.perform(operation))
                }
            case .peer:
                var control = try control(of: mesh)
                return control.perform(
                    operations.compactMap { if case .peer(let operation) = $0 { operation } else { nil } })
            }
        } catch {
            // What was on a link that has gone is gone with it.
            return operations.map { operation in
                error.code == .gone && operation.action == .remove ? .already : .failed(error)
            }
        }
    }

    private mutating func performSysctl(_ operation: Operation, _ mesh: MeshIdentity) -> Outcome {
        guard case .sysctl(let operation) = operation else { return .skipped("another kind") }
        return sysctls.perform(operation, by: mesh.interface, &parts.sysctls)
    }

    private mutating func performFirewall(_ operation: Operation) -> Outcome {
        guard case .firewall(let operation) = operation else { return .skipped("another kind") }
        return tables.perform(operation)
    }

    private func performResolver(_ operation: Operation) -> Outcome {
        guard case .resolver(let operation) = operation else { return .skipped("another kind") }
        return parts.resolver?.perform(operation)
            ?? .failed(DataplaneError(.unsupported, "there is no way to tell this host its name servers"))
    }

    // MARK: Our own link

    /// Our link, which is looked up anew for each batch: it may have been replaced by somebody else's since the plan.
    func ownLink(of mesh: MeshIdentity) throws(DataplaneError) -> (link: LiveLink, kind: DeviceKind) {
        switch try links.owner(of: mesh, parts.userspace) {
        case .ours(let link, let kind): return (link, kind)
        case .nobody:
            throw DataplaneError(
                .gone, "the interface \(mesh.interface) has gone in the meantime; try again",
                operation: "find link \(mesh.interface)")
        case .other(let link):
            let obstacle = ForeignObject(blocking: link, for: mesh)
            throw DataplaneError(
                .obstructed, "\(obstacle.description). \(obstacle.remedy)", operation: "find link \(mesh.interface)")
        }
    }

    /// Whether the routes of a link that is not marked for ours are weft's all the same.
    private func carriesOwnRoutes(_ link: LiveLink, _ mesh: MeshIdentity) throws(DataplaneError) -> Bool {
        let routes = Routes(channel: route, links: links, mesh: mesh, interface: link.index)
        return try routes.read(expecting: 0).ours.contains { $0.target == .interface }
    }

    /// The mesh's routes, with our link's index where there is one.
    private func routes(of mesh: MeshIdentity) throws(DataplaneError) -> Routes {
        var interface: UInt32 = 0
        if case .ours(let link, _) = try links.owner(of: mesh, parts.userspace) { interface = link.index }
        return Routes(channel: route, links: links, mesh: mesh, interface: interface)
    }

    private mutating func control(of mesh: MeshIdentity) throws(DataplaneError) -> any WireGuardControl {
        let (link, kind) = try ownLink(of: mesh)
        return try control(link, kind)
    }

    mutating func control(
        _ link: LiveLink, _ kind: DeviceKind
    ) throws(DataplaneError) -> any WireGuardControl {
        switch kind {
        case .kernel: try kernelControl(link)
        case .userspace: parts.userspace.control(interface: link.name)
        }
    }

    private mutating func kernelControl(_ link: LiveLink) throws(DataplaneError) -> KernelWireGuard {
        let (channel, number) = try kernelFamily()
        return KernelWireGuard(
            channel: channel, family: number, interface: link.index, name: link.name, secrets: parts.secrets)
    }

    private mutating func hasKernelWireGuard() -> Bool { (try? kernelFamily()) != nil }

    /// Asking loads the module.
    private mutating func kernelFamily() throws(DataplaneError) -> (channel: Channel, number: UInt16) {
        let channel: Channel
        if let generic {
            channel = generic
        } else {
            channel = try Self.open(.generic, transports)
            generic = channel
        }
        let number: UInt16
        if let family {
            number = family
        } else {
            number = try KernelWireGuard.family(channel)
            family = number
        }
        return (channel, number)
    }
}
