// Diagnostics as JSON: a versioned document of plain values, which whoever has an encoder writes out.

package import WeftDiagnostics

/// `{"format": "weft.check", "version": 1, "diagnostics": […]}`. Within a version fields are only added; lines and columns
/// count from 1, columns in Unicode scalars, ends excluded. No line of source is in it, and no value that may be a secret.
package struct DiagnosticReport: Codable, Hashable, Sendable {
    /// Always `weft.check`.
    package var format: String
    /// 1.
    package var version: Int
    package var diagnostics: [Problem]

    /// One diagnostic.
    package struct Problem: Codable, Hashable, Sendable {
        /// Stable and dotted: `topology.duplicate-key`.
        package var id: String
        /// `error`, `warning` or `note`.
        package var severity: Severity
        package var message: String
        /// Absent where the problem is in no file.
        package var file: String?
        package var line: UInt32?
        package var column: UInt32?
        package var endLine: UInt32?
        package var endColumn: UInt32?
        package var notes: [Remark]
        package var fixIts: [Replacement]
    }

    /// A note of a diagnostic.
    package struct Remark: Codable, Hashable, Sendable {
        package var message: String
        package var file: String?
        package var line: UInt32?
        package var column: UInt32?
        package var endLine: UInt32?
        package var endColumn: UInt32?
    }

    /// Text that mends the problem when it replaces what stands at the place. Of several, each is one way.
    package struct Replacement: Codable, Hashable, Sendable {
        package var message: String
        package var replacement: String
        package var file: String
        package var line: UInt32
        package var column: UInt32
        package var endLine: UInt32
        package var endColumn: UInt32
    }

    package init(_ diagnostics: [Diagnostic], in files: SourceFiles) {
        format = "weft.check"
        version = 1
        self.diagnostics = diagnostics.map { diagnostic in
            let place = diagnostic.place
            return Problem(
                id: diagnostic.id, severity: diagnostic.severity, message: diagnostic.message,
                file: place.map { files[$0.file].name }, line: place?.start.line, column: place?.start.column,
                endLine: place?.end.line, endColumn: place?.end.column,
                notes: diagnostic.notes.map { note in
                    Remark(
                        message: note.message, file: note.place.map { files[$0.file].name },
                        line: note.place?.start.line, column: note.place?.start.column,
                        endLine: note.place?.end.line, endColumn: note.place?.end.column)
                },
                fixIts: diagnostic.fixIts.map { fixIt in
                    Replacement(
                        message: fixIt.message, replacement: fixIt.replacement, file: files[fixIt.range.file].name,
                        line: fixIt.range.start.line, column: fixIt.range.start.column,
                        endLine: fixIt.range.end.line, endColumn: fixIt.range.end.column)
                })
        }
    }
}
