// What an agent tells of one mesh under its care.

internal import WeftAgent
internal import WeftPlan
internal import WeftRender
internal import WeftStatus

extension AgentDocument.Mesh {
    init(_ controller: MeshController<AgentHost>, topology: String) {
        let figures = controller.figures
        let remaining = controller.remaining?.operations.map(\.operation) ?? []
        self.init(
            topology: topology, stage: controller.stage.rawValue,
            revision: controller.force.map {
                AgentDocument.Revision(id: $0.revision.id, origin: $0.revision.origin.rawValue)
            },
            problem: controller.problem.map { AgentDocument.Problem(summary: $0.summary, details: $0.details) },
            failure: controller.failure,
            memory: controller.memoryProblems.isEmpty ? nil : controller.memoryProblems.joined(separator: "; "),
            onTrial: controller.onTrial, drift: controller.settings.drift.rawValue,
            remaining: remaining.prefix(20).map { controller.host.phrase($0) },
            obstacles: controller.obstacles.isEmpty ? nil : controller.obstacles.prefix(20).map(\.sentence),
            figures: AgentDocument.Figures(
                passes: figures.passes, drifts: figures.drifts, repairs: figures.repairs, applies: figures.applies,
                changes: figures.changes),
            status: controller.force.flatMap { force in
                controller.observation.map { observation in
                    var status = StatusDocument(
                        observation, of: force.mesh, wasInForce: controller.host.machine.wasInForce(force.mesh),
                        desired: force.desired,
                        names: controller.host.labels.peers)
                    status.trial = controller.host.trial(of: force.mesh).flatMap {
                        StatusDocument.Trial($0, at: controller.host.now(), folder: nil)
                    }
                    status.problem = controller.problem?.summary
                    return status
                }
            })
    }
}
