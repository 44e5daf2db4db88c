// What a mesh leaves behind when it goes, because nobody can say whose it is, or because it was kept for a person.

internal import WeftLinux
internal import WeftModel
internal import WeftPlan

extension Machine {
    /// Says which settings of the host stay as they are because the record of what the mesh changed is lost.
    ///
    /// - Parameter sysctls: what is remembered of them.
    func tellOfForgottenSettings(of mesh: MeshIdentity, _ sysctls: SysctlMemory) {
        guard sysctls.claims[mesh.interface] == nil, !remembers(mesh), let all = try? HostSetting.inForce() else {
            return
        }
        let claimed = sysctls.claims.values.reduce(into: Set<String>()) { $0.formUnion($1) }
        let open = all.filter { !claimed.contains($0.sysctl.path) }
        if open.isEmpty { return }
        func list(_ separator: String, _ assignments: [(String, String)]) -> String {
            assignments.map { "\(Sysctl.dotted($0))\(separator)\($1)" }.joined(separator: separator == "=" ? " " : ", ")
        }
        Terminal.standard.write(
            "warning: the record of what weft changed for \(mesh.interface) is lost: these settings may be of its making, and "
                + "stay: \(list(" = ", open.map { ($0.sysctl.path, $0.sysctl.value) }))", to: .error)
        Terminal.standard.write(
            "note: where nothing else needs them: `sysctl -w \(list("=", open.map { ($0.sysctl.path, $0.usual) }))`",
            to: .error)
    }

    /// Names the files that were kept for a person to look at.
    func tellWhatIsLeft(of mesh: MeshIdentity) {
        for path in keptAside(of: mesh) {
            let what =
                path.hasSuffix(".kept")
                ? "a topology that was kept, and that no record names any more" : "a record that could not be used"
            Terminal.standard.write(
                "note: \(path) is left: \(what). Remove it when you have no use for it either",
                to: .error)
        }
    }
}
