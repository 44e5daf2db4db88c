// What a command or an agent looks up about connections that must not be cut, and how it says what it found.

internal import Glibc
internal import WeftDiagnostics
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftRender

extension Machine {
    /// The SSH session that this command runs in; nil where there is none any more.
    var session: TCPConnection? {
        let variable = getenv("SSH_CONNECTION").map { String(cString: $0) }
        guard let connection = Outside().session(environment: variable),
            (try? TCPSockets())?.progress(of: connection) != nil
        else { return nil }
        return connection
    }

    /// Everybody's SSH sessions on this host.
    var sessions: [TCPConnection] { (try? TCPSockets())?.connections(to: Outside().sessionPorts) ?? [] }

    /// Where the repository that a topology lies in comes from.
    func gitRemotes(of path: String) -> [SocketAddress] {
        Outside().gitRemote(of: path)?.addresses() ?? []
    }

    /// What must not be cut off, with how it is reached without the mesh.
    ///
    /// - Parameter mark: of the tunnel's own packets as they are now; 0: none.
    func guarded(
        _ sessions: [TCPConnection], git: [SocketAddress], _ desired: HostState, of mesh: MeshIdentity, mark: UInt32
    ) -> [Guarded] {
        var all = sessions.map { Guarded(.session, $0.remote, local: $0.local) }
        all += git.map { Guarded(.git, $0) }
        // Where the mesh brings name servers, the others are replaced.
        if desired.resolver == nil {
            all += Outside().nameServers.map { Guarded(.resolver, SocketAddress($0, port: 53)) }
        }
        guard !all.isEmpty, let ways = try? WaysBeside() else { return [] }
        return all.map { one in
            var one = one
            one.beside = ways.way(to: one.remote.address, past: mesh.interface, mark: mark)
            return one
        }
    }

    /// Says on standard error what came of this topology, where it was on trial before.
    func tellWhatCame(of loaded: LoadedTopology, _ path: String, on mesh: MeshIdentity) {
        guard let record = trial(of: mesh) else { return }
        if let trial = unwatchedTrial(on: mesh.interface) {
            Terminal.standard.write("warning: \(trial.message): \(trial.remedy)", to: .error)
        } else if record.isRejected, record.id == loaded.files.revision(below: path) {
            Terminal.standard.write(
                "warning: this topology (\(record.id)) was tried before and \(TrialRecord.takenBack(record.reason.visible))",
                to: .error)
        }
    }

    /// What the mesh, as it is wanted, keeps this host from: name servers, and where the topology is fetched from.
    func cutOff(by desired: DesiredState, topology path: String, live: HostState) -> [Cut] {
        let mesh = desired.identity
        let guarded = guarded(
            [], git: gitRemotes(of: path), desired.state, of: mesh, mark: live.device?.fwMark ?? 0)
        return Cut.all(guarded, from: HostState(), to: desired.state, of: mesh, names: desired.peerNames)
    }

    /// What a plan would cut off that a command knows of.
    ///
    /// - Parameter path: the topology's; nil: none is applied.
    func cuts(
        by plan: Plan, to desired: DesiredState?, from live: HostState, topology path: String?,
        names: [PublicKey: String]
    ) -> [Cut] {
        if plan.isEmpty { return [] }
        let wanted = desired?.state ?? HostState()
        let guarded = guarded(
            session.map { [$0] } ?? [], git: path.map(gitRemotes) ?? [], wanted, of: plan.mesh,
            mark: live.device?.fwMark ?? 0)
        return Cut.all(guarded, from: live, to: wanted, of: plan.mesh, names: names)
    }
}

extension Cut {
    /// As a warning of the plan.
    var diagnostic: Diagnostic {
        Diagnostic(
            "host.cuts-\(guarded.kind.rawValue)", .warning, "this would cut \(guarded.words): \(then)",
            notes: [Diagnostic.Note("today \(today) carries it"), Diagnostic.Note(remedy)])
    }
}
