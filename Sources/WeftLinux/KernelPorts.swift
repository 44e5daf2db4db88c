// Who has the UDP port that a mesh's device would bind.

import Glibc
import WeftModel
package import WeftPlan

extension KernelDataplane {
    package mutating func holder(ofPort port: UInt16) -> ForeignObject? {
        if UDPPort(port).isFree { return nil }
        let owner = owner(of: port)
        return ForeignObject(
            kind: "port", description: "UDP \(port) of \(owner.name)", relation: .holdsPort, remedy: "\(owner.remedy).")
    }

    func portInUse(_ port: UInt16, _ interface: String) -> DataplaneError {
        DataplaneError(
            .portInUse, "UDP port \(port) is used by another program: end it, or choose another `listenPort`",
            errno: EADDRINUSE, operation: "configure \(interface)")
    }

    mutating func nameOwner(of port: UInt16?, in outcome: Outcome) -> Outcome {
        guard case .failed(let error) = outcome, error.code == .portInUse else { return outcome }
        return .failed(naming(error, ownerOf: port))
    }

    mutating func naming(_ error: DataplaneError, ownerOf port: UInt16?) -> DataplaneError {
        guard error.code == .portInUse, let port else { return error }
        var error = error
        let owner = owner(of: port)
        error.message = "UDP port \(port) belongs to \(owner.name): \(owner.remedy)"
        return error
    }

    /// Who has a port that is taken, and what to do about it.
    private mutating func owner(of port: UInt16) -> (name: String, remedy: String) {
        for mesh in (try? ownMeshes(route)) ?? [] {
            guard case .ours(let link, let kind)? = try? links.owner(of: mesh, parts.userspace), link.isUp,
                let device = try? readDevice(link, kind).device, device.listenPort == port
            else { continue }
            return (mesh.phrase, "give one of the two another `listenPort`")
        }
        let owner = PortOwner(folder: parts.proc).describe(port) ?? "something that /proc does not show"
        return (owner, "end that, or choose another `listenPort`")
    }
}
