// What came of a plan: a line for each operation while it is applied, and a conclusion at the end.

import WeftModel
package import WeftPlan

/// The progress and the end of applying a plan, as text.
///
///     done     + peer ams TrMvSoP4…
///     done     + 500 routes
///     failed   ~ listen port 51820: UDP port 51820 belongs to another socket; … (kernel: Address already in use)
///     skipped  + peer bob HIgo9xNz…: the device could not be configured
///     undone   + interface wg0: the device could not be configured
package struct PlanOutcomeText {
    package var plan: Plan
    package var labels: PlanLabels
    package var options: TextOptions

    /// Runs of alike outcomes are folded from this many on.
    private static var foldFrom: Int { 9 }

    package init(_ plan: Plan, labels: PlanLabels, options: TextOptions = TextOptions()) {
        self.plan = plan
        self.labels = labels
        self.options = options
    }

    /// The lines of the operations that a step has decided, each with its end.
    ///
    /// - Parameters:
    ///   - range: indices into the plan's operations.
    ///   - outcomes: of all operations decided so far; covers `range`.
    package func text(of range: Range<Int>, outcomes: [Outcome]) -> String {
        var result = ""
        var start = range.lowerBound
        while start < range.upperBound {
            let first = plan.operations[start].operation
            var end = start + 1
            while end < range.upperBound, outcomes[end].isAlike(outcomes[start]),
                plan.operations[end].operation.kind == first.kind, Sign(plan.operations[end].operation) == Sign(first)
            {
                end += 1
            }
            if options.full || end - start < Self.foldFrom {
                for index in start..<end { result += line(plan.operations[index].operation, outcomes[index]) }
            } else {
                let what = counted(end - start, first.kind.noun, plural: first.kind.plural)
                result += line(what, first, outcomes[start])
            }
            start = end
        }
        return result
    }

    private func line(_ operation: Operation, _ outcome: Outcome) -> String {
        line(operation.phrase(labels), operation, outcome)
    }

    private func line(_ what: String, _ operation: Operation, _ outcome: Outcome) -> String {
        let word = options.painted(outcome.word.padded(to: 7), outcome.paint)
        let sign = Sign(operation)
        return "\(word)  \(options.painted(sign.rawValue, sign.paint)) \(what)\(outcome.explanation)\n"
    }

    // MARK: The end

    /// The conclusion, each line with its end.
    ///
    /// - Parameters:
    ///   - outcomes: of all the plan's operations.
    ///   - remaining: what a diff after applying still finds; nil where the host could not be read again.
    ///   - verificationError: why it could not.
    package func conclusion(outcomes: [Outcome], remaining: Plan?, verificationError: DataplaneError? = nil) -> String {
        let interface = plan.mesh.interface.visible
        var lines: [String] = []
        let takenBack = outcomes.indices.filter { if case .takenBack = outcomes[$0] { true } else { false } }
        let failures = outcomes.compactMap { if case .failed(let error) = $0 { error } else { nil } }
        let skipped = outcomes.count { if case .skipped = $0 { true } else { false } }
        if failures.isEmpty, skipped == 0 {
            let summary = PlanSummary(plan)
            let counts =
                "\(summary.add.grouped) added, \(summary.change.grouped) changed, \(summary.remove.grouped) removed"
            lines.append(outcomes.isEmpty ? "Nothing was done." : "Applied: \(counts).")
        } else {
            let done = outcomes.count - failures.count - skipped - takenBack.count
            let undone = takenBack.isEmpty ? "" : ", \(takenBack.count.grouped) undone with the interface"
            lines.append(
                "Applied in part: \(done.grouped) done, \(failures.count.grouped) failed, \(skipped.grouped) skipped"
                    + "\(undone).")
        }
        if let remaining {
            lines.append(remainder(remaining, interface: interface, hasFailures: !failures.isEmpty || skipped > 0))
        } else if let verificationError {
            lines.append("What is there now could not be read: \(verificationError.description.visible)")
        }
        if !failures.isEmpty {
            lines.append(
                failures.contains(where: \.isRetryable)
                    ? "Run it again to go on from what is there now."
                    : "It will fail again until the cause is mended; what is done stays done.")
        }
        return undone(takenBack, outcomes) + lines.map { $0 + "\n" }.joined()
    }

    /// What was shown as done before it was taken back.
    private func undone(_ indices: [Int], _ outcomes: [Outcome]) -> String {
        RangeSet(indices, within: outcomes).ranges.map { text(of: $0, outcomes: outcomes) }.joined()
    }

    private func remainder(_ remaining: Plan, interface: String, hasFailures: Bool) -> String {
        if remaining.isEmpty, remaining.obstacles.isEmpty {
            return plan.takesDown ? "\(interface) is gone." : "\(interface) is as the topology wants it."
        }
        let obstacles = remaining.obstacles.count
        if remaining.isEmpty { return "In the way: \(counted(obstacles, "obstacle")), see the plan." }
        let rest = "\(PlanSummary(remaining).phrase)"
        return hasFailures
            ? "Still to do: \(rest)."
            : "\(interface) is not as the topology wants it although every operation succeeded: \(rest). "
                + "Another program may be changing it; `weft plan` shows what differs."
    }
}

extension Outcome {
    fileprivate var word: String {
        switch self {
        case .done: "done"
        case .already: "already"
        case .failed: "failed"
        case .skipped: "skipped"
        case .takenBack: "undone"
        }
    }

    fileprivate var paint: Paint {
        switch self {
        case .done: .add
        case .already: .faint
        case .failed: .remove
        case .skipped, .takenBack: .change
        }
    }

    /// What follows the object: the error with its remedy, or the reason.
    fileprivate var explanation: String {
        switch self {
        case .done, .already: ""
        case .failed(let error):
            ": \(error.message.visible)" + (error.kernelText.isEmpty ? "" : " (kernel: \(error.kernelText.visible))")
        case .skipped(let reason), .takenBack(let reason): ": \(reason.visible)"
        }
    }

    /// Whether one line can tell of both.
    fileprivate func isAlike(_ other: Outcome) -> Bool {
        switch (self, other) {
        case (.done, .done), (.already, .already): true
        case (.failed, .failed), (.skipped, .skipped), (.takenBack, .takenBack): explanation == other.explanation
        default: false
        }
    }
}

extension Operation.Kind {
    fileprivate var noun: String {
        switch self {
        case .link: "interface"
        case .device: "device setting"
        case .address: "address"
        case .peer: "peer"
        case .route: "route"
        case .rule: "rule"
        case .firewall: "firewall table"
        case .resolver: "name server setting"
        case .sysctl: "sysctl"
        }
    }

    fileprivate var plural: String { self == .address ? "addresses" : noun + "s" }
}

extension Operation {
    /// The object, in a few words, with what changes where that is short.
    package func phrase(_ labels: PlanLabels) -> String {
        switch self {
        case .link(.create(let link)): "interface \(link.name.visible)"
        case .link(.setAlias(let name, let old, let new)):
            "\(name.visible) alias \(old.isEmpty ? "none" : old.visible) → \(new.visible)"
        case .link(.setMTU(let name, let old, let new)): "\(name.visible) MTU \(old) → \(new)"
        case .link(.setUp(let name)): "\(name.visible) up"
        case .link(.remove(let name)): "interface \(name.visible)"
        case .link(.removeHalfMade(let name)): "\(name.visible), left behind by an interrupted run"
        case .device(let device): device.phrases.joined(separator: ", ")
        case .address(let address): "address \(address.phrase)"
        case .peer(let peer): "peer \(labels.title(of: peer.publicKey))"
        case .route(.replace(let old, let new, _)): "route \(new.phrase(replacing: old))"
        case .route(let route): "route \(route.route.phrase)"
        case .rule(let rule): "rule \(rule.rule.phrase)"
        case .firewall(let firewall): "firewall table inet \(firewall.table.visible)"
        case .resolver(let resolver): resolver.phrase
        case .sysctl(let sysctl): sysctl.phrase
        }
    }
}
