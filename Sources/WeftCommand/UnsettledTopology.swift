// What else there is than the topology in force: one on trial, one that was taken back, one that cannot be used.

internal import FoundationEssentials
internal import WeftLinux
internal import WeftModel
internal import WeftPlan
internal import WeftStatus

extension StatusDocument.Trial {
    /// - Parameter folder: the topology that the folder holds: of what failed, nothing is told once there is another one.
    /// - Returns: nil where the record is of neither kind.
    init?(_ record: TrialRecord, at now: UnixTime, folder: String?) {
        if !record.isRejected, !record.isUndone, now < record.deadline {
            self.init(topology: record.id, until: record.deadline.description)
        } else if record.isRejected, record.id == folder {
            self.init(topology: record.id, reason: record.reason)
        } else {
            return nil
        }
    }
}

extension Machine {
    /// How long an agent is waited for: what the kernel says is shown without it.
    private static let patience = Duration.seconds(2)

    /// What is wrong with meshes' topologies, by interface, as the agents that look after them say.
    var problemsOfAgents: [String: String] {
        var problems: [String: String] = [:]
        for socket in holders {
            guard let text = try? AgentClient(socket).status(patience: Self.patience),
                let document = try? JSONDecoder().decode(AgentDocument.self, from: Data(text.utf8))
            else { continue }
            for mesh in document.meshes {
                if let interface = mesh.status?.interface { problems[interface] = mesh.problem?.summary }
            }
        }
        return problems
    }
}
