// A trial over which nobody watches: who began it was killed, or is an agent that has ended.

internal import WeftLinux
internal import WeftModel
internal import WeftPlan

extension Machine {
    /// The trial on an interface over which nobody watches; nil where there is none.
    func unwatchedTrial(on interface: String) -> Failure? {
        guard let record = trial(on: interface), !record.isUndone, !isHeld(interface) else { return nil }
        return failure(record)
    }

    /// Refuses where the agent that put a change on trial may still go on with it. The interface's lock is held.
    func refuseWhileAwaited(_ mesh: MeshIdentity) throws {
        guard let record = trial(of: mesh), record.isAwaited(at: now()) else { return }
        var failure = failure(record)
        failure.message += ": nothing was changed"
        throw failure
    }

    private func failure(_ record: TrialRecord) -> Failure {
        record.isAwaited(at: now())
            ? Failure(
                "topology \(record.id) is on trial until \(record.deadline), and the agent that watched over it has "
                    + "ended",
                remedy: "start the agent, which goes on with it and has it confirmed; `weft revert` takes it back "
                    + "now, and after that time so does the next apply")
            : Failure(
                "topology \(record.id) was put on trial, and nobody watches over its trial any more",
                remedy: "`weft revert` takes it back, and so does the next apply")
    }
}
