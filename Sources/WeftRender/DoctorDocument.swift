// What `weft doctor` found, as a document and as text.

/// The findings of one examination. Field by field in DoctorFormat.md.
package struct DoctorDocument: Codable, Hashable, Sendable {
    /// Always `weft.doctor`.
    package var format = "weft.doctor"
    /// 1. Raised when a field changes its meaning or goes; new fields do not raise it.
    package var version = 1
    package var node: String?
    package var mesh: String?
    package var interface: String?
    /// In the order in which they were looked at.
    package var findings: [Finding]

    package init(node: String? = nil, mesh: String? = nil, interface: String? = nil, findings: [Finding] = []) {
        self.node = node
        self.mesh = mesh
        self.interface = interface
        self.findings = findings
    }

    /// What was looked at, and how it is.
    package struct Finding: Codable, Hashable, Sendable {
        package enum Level: String, Codable, Hashable, Sendable, CaseIterable {
            /// It is as it should be.
            case ok
            /// It may be meant so, or matters only to some.
            case warning
            /// It keeps the mesh from working.
            case error
            /// It could not be looked at: `message` says why.
            case unknown
        }

        /// A stable name: `wireguard`, `plan`, `handshake`.
        package var check: String
        package var level: Level
        package var message: String
        /// What to do about it; empty where nothing needs doing.
        package var remedy: String

        package init(_ check: String, _ level: Level, _ message: String, remedy: String = "") {
            self.check = check
            self.level = level
            self.message = message
            self.remedy = remedy
        }
    }

    /// Whether something keeps the mesh from working.
    package var hasErrors: Bool { findings.contains { $0.level == .error } }
}

/// A doctor's document as text: a line for each finding, and what to do below it.
package struct DoctorText {
    package var document: DoctorDocument
    package var options: TextOptions

    package init(_ document: DoctorDocument, options: TextOptions = TextOptions()) {
        self.document = document
        self.options = options
    }

    /// The whole text, each line with its end.
    package var text: String {
        var page = Page(options)
        if let mesh = document.mesh, let interface = document.interface {
            let host = document.node.map { "\($0.visible) in " } ?? ""
            page.plain("\(host)mesh \(mesh.visible), interface \(interface.visible)", .heading)
        }
        for finding in document.findings {
            let word = finding.level.rawValue.padded(to: 8)
            page.plain("  \(options.painted(word, finding.level.paint)) \(finding.message.visible)")
            if !finding.remedy.isEmpty { page.plain("           → \(finding.remedy.visible)") }
        }
        page.blank()
        page.plain(conclusion, .heading)
        return page.text
    }

    private var conclusion: String {
        func count(_ level: DoctorDocument.Finding.Level) -> Int {
            document.findings.filter { $0.level == level }.count
        }
        let parts = [
            (count(.error), "error"), (count(.warning), "warning"),
        ].filter { $0.0 > 0 }.map { counted($0.0, $0.1) }
        let unknown = count(.unknown) == 0 ? "" : " \(counted(count(.unknown), "thing")) could not be looked at."
        return (parts.isEmpty ? "Nothing is wrong." : "\(enumerated(parts)).") + unknown
    }
}

extension DoctorDocument.Finding.Level {
    fileprivate var paint: Paint {
        switch self {
        case .ok: .add
        case .warning: .change
        case .error: .remove
        case .unknown: .faint
        }
    }
}
