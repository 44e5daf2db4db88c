// Operations on the mesh's own link: the kernel's, or one of a program in its place.

import WeftModel
import WeftPlan

extension KernelDataplane {
    mutating func performLink(_ operation: Operation, _ mesh: MeshIdentity) -> Outcome {
        guard case .link(let operation) = operation else { return .skipped("another kind") }
        do throws(DataplaneError) {
            switch operation {
            case .create(let link):
                return try create(link, mesh)
            case .setMTU(_, _, let mtu):
                try links.setMTU(ownLink(of: mesh).link, mtu)
            case .setUp:
                try raise(mesh)
            case .setAlias:
                try links.setAlias(ownLink(of: mesh).link, mesh)
            case .remove:
                return try remove(mesh)
            case .removeHalfMade(let name):
                return try removeHalfMade(name, mesh)
            }
            return .done
        } catch {
            return .failed(error)
        }
    }

    /// Why no program can take the kernel's place.
    func lack(ofDeviceFor mesh: MeshIdentity) -> ForeignObject? {
        do throws(DataplaneError) {
            try parts.userspace.requireProgram()
            return nil
        } catch {
            guard error.code == .noWireGuard else { return nil }
            return ForeignObject(
                kind: "device", description: "\(mesh.interface) cannot be made: \(error.message)",
                relation: .lacksDevice)
        }
    }

    /// Makes the link so that a crash at any point leaves either nothing, or what the next run knows for ours.
    private mutating func create(_ wanted: Link, _ mesh: MeshIdentity) throws(DataplaneError) -> Outcome {
        switch try links.owner(of: mesh, parts.userspace) {
        case .nobody: break
        case .ours: return .already
        case .other(let link):
            let obstacle = ForeignObject(blocking: link, for: mesh)
            throw DataplaneError(
                .obstructed, "\(obstacle.description). \(obstacle.remedy)", operation: "create link \(mesh.interface)")
        }
        guard try links.createReserved(mesh, mtu: wanted.mtu) else { return try createUserspace(wanted, mesh) }
        guard let link = try links.find(mesh.reservedName) else {
            throw DataplaneError(
                .gone, "the interface was removed as soon as it was made; look for another program that manages links",
                operation: "create link \(mesh.interface)")
        }
        do throws(DataplaneError) {
            try links.christen(index: link.index, mesh)
        } catch {
            // Also where only the alias failed: a link of our name without our mark would be nobody's.
            _ = try? links.delete(link)
            throw error
        }
        return .done
    }

    private mutating func createUserspace(_ wanted: Link, _ mesh: MeshIdentity) throws(DataplaneError) -> Outcome {
        try parts.userspace.start(interface: mesh.interface)
        do throws(DataplaneError) {
            guard let link = try links.find(mesh.interface) else {
                throw DataplaneError(
                    .gone, "the user-space device ended as soon as it was started; look at its log, and try again",
                    operation: "create link \(mesh.interface)")
            }
            try links.mark(index: link.index, mtu: wanted.mtu, mesh)
        } catch {
            if let link = try? links.find(mesh.interface), link.kind == LiveLink.userspaceKind {
                _ = try? links.delete(link)
            }
            try? parts.userspace.stop(interface: mesh.interface)
            throw error
        }
        return .done
    }

    private mutating func raise(_ mesh: MeshIdentity) throws(DataplaneError) {
        let (link, kind) = try ownLink(of: mesh)
        do throws(DataplaneError) {
            try links.setUp(link)
        } catch {
            // The port is known to the device alone.
            let port = error.code == .portInUse ? try? readDevice(link, kind).device.listenPort : nil
            throw naming(error, ownerOf: port ?? nil)
        }
    }

    /// Peers first: without them, removing the link waits for nothing, else 12 ms for each peer.
    private mutating func remove(_ mesh: MeshIdentity) throws(DataplaneError) -> Outcome {
        let link: LiveLink
        let kind: DeviceKind
        do throws(DataplaneError) {
            (link, kind) = try ownLink(of: mesh)
        } catch {
            if error.code == .gone { return .already }
            throw error
        }
        // A device that cannot be spoken to any more must be removable all the same.
        if var control = try? control(link, kind) { try? control.removeAllPeers() }
        let wasThere = try links.delete(link)
        if kind == .userspace { try parts.userspace.stop(interface: link.name) }
        return wasThere ? .done : .already
    }

    private mutating func removeHalfMade(_ name: String, _ mesh: MeshIdentity) throws(DataplaneError) -> Outcome {
        guard name == mesh.reservedName, let link = try links.find(name), link.name == name else { return .already }
        return try links.delete(link) ? .done : .already
    }
}
