// Kernel settings: claimed and written where they differ, given back when the last claim ends.

package import WeftModel

package enum SysctlOperation: Hashable, Sendable {
    /// Write down the claim and the value before it, then write the value.
    case claim(Sysctl, from: String)
    /// Write down the claim on a value that is right already.
    case hold(Sysctl)
    /// Write a value of the mesh's own link. It goes with the link, so nobody claims it and nobody restores it. `from` is
    /// nil where the link is made by the same plan.
    case setOwn(Sysctl, from: String?)
    /// End the claim. `restore` is the value from before the first claim, nil where it stays as it is. `companions` are
    /// written after it, because the kernel sets them along with it.
    case release(path: String, from: String, restore: String?, companions: [Sysctl] = [])
    /// End the claim, where the meshes of other interfaces need the value still: the setting stays.
    case leave(Sysctl, to: [String])

    package var path: String {
        switch self {
        case .claim(let sysctl, _), .hold(let sysctl), .setOwn(let sysctl, _), .leave(let sysctl, _): sysctl.path
        case .release(let path, _, _, _): path
        }
    }

    /// What it writes; nil where it writes nothing.
    package var written: Sysctl? {
        switch self {
        case .claim(let sysctl, _), .setOwn(let sysctl, _): sysctl
        case .hold, .leave: nil
        case .release(let path, _, let restore, _): restore.map { Sysctl(path, $0) }
        }
    }
}

struct SysctlPlan {
    /// What the link must have before it takes addresses.
    var admit: [PlannedOperation] = []
    var claim: [PlannedOperation] = []
    var release: [PlannedOperation] = []

    /// - Parameters:
    ///   - desired: in the order in which they are to be written.
    ///   - live: the values read now, of all desired and all claimed paths. One that is missing is one that the kernel
    ///     lacks, or one of a link that is not there.
    ///   - hasLink: whether the mesh's link is there.
    init(desired: [Sysctl], live: [Sysctl], hasLink: Bool, memory: SysctlMemory, mesh: MeshIdentity) {
        let values = Dictionary(live.map { ($0.path, $0.value) }) { first, _ in first }
        let claimed = memory.claims[mesh.interface] ?? []
        for sysctl in desired {
            if sysctl.isOwn(of: mesh.interface) {
                let value = values[sysctl.path]
                if value == nil ? hasLink : value == sysctl.value { continue }
                let operation = PlannedOperation(.sysctl(.setOwn(sysctl, from: value)))
                if sysctl.path.hasSuffix("/disable_ipv6") {
                    admit.append(operation)
                } else {
                    claim.append(operation)
                }
                continue
            }
            guard let value = values[sysctl.path] else { continue }
            if value != sysctl.value {
                claim.append(PlannedOperation(.sysctl(.claim(sysctl, from: value))))
            } else if !claimed.contains(sysctl.path) {
                claim.append(PlannedOperation(.sysctl(.hold(sysctl))))
            }
        }
        let wanted = Set(desired.map(\.path))
        for path in claimed.sorted().reversed() where !wanted.contains(path) {
            let value = values[path] ?? ""
            let others = memory.claims.filter { $0.key != mesh.interface && $0.value.contains(path) }.keys.sorted()
            if !others.isEmpty {
                release.append(PlannedOperation(.sysctl(.leave(Sysctl(path, value), to: others))))
                continue
            }
            // A value that somebody has changed since is theirs.
            let original = memory.originals[path]
            let ours = original.map { $0.written == value } ?? false
            let restore = ours && original?.value != value ? original?.value : nil
            let forwarding = ForwardingSwitch(path)
            let companions = forwarding.map { $0.companions(of: original, at: value, restore, values) } ?? []
            let operation = Operation.sysctl(
                .release(path: path, from: value, restore: restore, companions: companions))
            // Everybody's packets, not the mesh's alone.
            if restore == "0", let family = forwarding?.family.name {
                release.append(
                    PlannedOperation(operation, effect: .outage, scope: "all \(family) that this host forwards"))
            } else {
                release.append(PlannedOperation(operation))
            }
        }
    }

    /// What is to be written, and cannot.
    func obstacles(among fixed: [Sysctl]) -> [ForeignObject] {
        if fixed.isEmpty { return [] }
        let values = Dictionary(fixed.map { ($0.path, $0.value) }) { first, _ in first }
        return (admit + claim + release).compactMap { planned in
            guard case .sysctl(let operation) = planned.operation, let wanted = operation.written,
                let value = values[wanted.path], value != wanted.value
            else { return nil }
            var parts = wanted.path.split(separator: "/")
            // A link that is not there cannot be told anything: it will be made with the defaults.
            if case .setOwn(_, from: nil) = operation, parts.count > 3 { parts[3] = "default" }
            let assignment = "\(Sysctl.dotted(parts.joined(separator: "/")))=\(wanted.value)"
            return ForeignObject(
                kind: "sysctl",
                description:
                    "\(Sysctl.dotted(wanted.path)) = \(value) (\(wanted.value) is wanted, and /proc/sys is read-only here)",
                relation: .fixesSysctl,
                remedy: "Set it where it can be written: `docker run --sysctl \(assignment)` for a container, "
                    + "`sysctl -w \(assignment)` on the host where it has the host's network; or mount /proc/sys writable."
            )
        }
    }
}

extension ForwardingSwitch {
    /// Those that were set otherwise than the kernel does, before the first claim: once the switch is as it was then, and
    /// where nobody else has set them since.
    fileprivate func companions(
        of original: SysctlMemory.Original?, at value: String, _ restore: String?, _ live: [String: String]
    ) -> [Sysctl] {
        guard let original, restore ?? value == original.value else { return [] }
        return original.companions.filter { live[$0.key] == self.value(of: $0.key, at: value) }
            .sorted { $0.key < $1.key }.map { Sysctl($0.key, $0.value) }
    }
}
