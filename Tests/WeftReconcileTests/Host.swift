// A host on the model kernel, as these suites use it.

import WeftModel
import WeftPlan
import WeftReconcile
import WeftTestSupport

let mesh = MeshIdentity(mesh: "corp", interface: "wg0")

func key(_ number: UInt64) -> PublicKey { PublicKey(bigEndianWords: number << 40, 7, 7, 7) }

/// A host with its reconciler and its memory, as `weft apply` uses them.
struct Host {
    var reconciler: Reconciler<ModelKernel>
    var memory = MeshMemory()

    init(_ kernel: ModelKernel = ModelKernel()) { reconciler = Reconciler(kernel) }

    var kernel: ModelKernel {
        get { reconciler.dataplane }
        set { reconciler.dataplane = newValue }
    }

    mutating func plan(_ desired: DesiredState?, _ identity: MeshIdentity = mesh) throws -> Plan {
        try reconciler.plan(identity, desired: desired, memory: memory).plan
    }

    @discardableResult
    mutating func apply(_ desired: DesiredState?, _ identity: MeshIdentity = mesh) throws -> PassReport {
        let (plan, observation) = try reconciler.plan(identity, desired: desired, memory: memory)
        let report = reconciler.apply(plan, desired: desired, memory: memory, observation: observation)
        // A killed process remembers nothing.
        if !self.kernel.isKilled { memory = report.memory }
        return report
    }
}
