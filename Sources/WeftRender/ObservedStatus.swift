// The status document from what the dataplane observed.

package import WeftModel
package import WeftPlan
package import WeftStatus

extension StatusDocument {
    /// Makes the document.
    ///
    /// - Parameters:
    ///   - wasInForce: whether the mesh is known to have been applied here, to its end.
    ///   - desired: what the topology wants; nil where it could not be read.
    ///   - names: of nodes, also of those that are no peers here any more; nil: those of the peers that are wanted.
    ///   - now: nil: the time of the observation.
    package init(
        _ observation: Observation, of mesh: MeshIdentity, wasInForce: Bool = false, desired: DesiredState?,
        names: [PublicKey: String]? = nil, now: UnixTime? = nil
    ) {
        let firewallDiffers = desired?.state.firewall.flatMap { wanted in
            observation.state.firewall.map { wanted.differs(from: $0) }
        }
        self.init(
            mesh: mesh, live: observation.state, isHalfMade: observation.halfMadeLink != nil, wasInForce: wasInForce,
            deviceKind: observation.deviceKind,
            statistics: observation.statistics, counts: observation.counts, firewallDiffers: firewallDiffers,
            foreign: observation.foreign.map { .init(kind: $0.kind, description: $0.description) },
            desired: desired, names: names, now: now ?? observation.time)
    }
}
