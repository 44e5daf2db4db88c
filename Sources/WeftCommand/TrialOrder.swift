// What a person decides about a change on trial, as whoever watches over it is told.

internal import WeftAgent
internal import WeftModel

/// `confirm` or `revert`, of the only change on trial, or of the one on an interface.
struct TrialOrder {
    enum Verb: String { case confirm, revert }

    var verb: Verb
    var interface: String?

    init(_ verb: Verb, interface: String?) {
        self.verb = verb
        self.interface = interface
    }

    /// - Returns: nil where the request is another one.
    init?(_ request: String) {
        let words = request.split(separator: " ", maxSplits: 1)
        guard let verb = words.first.flatMap({ Verb(rawValue: String($0)) }) else { return nil }
        self.init(verb, interface: words.count > 1 ? String(words[1]) : nil)
    }

    var request: String { verb.rawValue + (interface.map { " \($0)" } ?? "") }

    /// That there is nothing to decide.
    var refusal: String { "no change is on trial" + (interface.map { " on \($0)" } ?? "") }

    /// That it must be said which one.
    static func ambiguity(_ interfaces: [String]) -> String {
        "changes are on trial on \(interfaces.joined(separator: ", ")): name one with --interface"
    }

    /// Has it done by those who watch.
    ///
    /// - Returns: the answer to who gave the order.
    func carryOut<Host>(on controllers: [MeshController<Host>], by whom: String) -> String {
        let subjects = controllers.filter { controller in
            (interface == nil || controller.force?.mesh.interface == interface)
                && (controller.onTrial != nil || verb == .revert && controller.isMeasuring)
        }
        if subjects.count > 1 {
            return "error: \(Self.ambiguity(subjects.compactMap { $0.force?.mesh.interface }))\n"
        }
        let isDone =
            switch verb {
            case .confirm: subjects.first?.confirm(by: whom)
            case .revert: subjects.first?.revert(by: whom)
            }
        return isDone == true ? "ok\n" : "error: \(refusal)\n"
    }
}
