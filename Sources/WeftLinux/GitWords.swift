// What git says when it fails, as one line for a person.

enum GitWords {
    /// What is wrong, of all that git and what it has started have written: on one line, without advice that is of no use
    /// here and without a user or a password of a URL; then what to do, where that is known.
    ///
    /// - Parameter folder: where the follower keeps its things.
    static func summary(of output: String, folder: String) -> String {
        var lines: [String] = []
        for line in output.split(whereSeparator: \.isNewline) {
            let text = withoutCredentials(line.split(whereSeparator: \.isWhitespace).joined(separator: " "))
            if text.isEmpty || lines.contains(text) || idle.contains(where: text.hasPrefix) { continue }
            lines.append(text)
        }
        // What goes wrong first is the cause, what comes last is what came of it.
        if lines.count > 6 { lines = lines.prefix(4) + ["…"] + lines.suffix(1) }
        let words = lines.map { $0.hasSuffix(".") ? String($0.dropLast()) : $0 }.joined(separator: "; ")
        let remedy = remedies.first { words.contains($0.sign) }?.remedy
        let short = words.count > 600 ? "\(words.prefix(600))…" : words
        return short + (remedy.map { ": \($0.replacing("FOLDER", with: folder))" } ?? "")
    }

    /// Lines that say nothing of what is wrong here.
    private static let idle = [
        "Please make sure you have the correct access rights", "and the repository exists.", "hint:",
        "To add an exception for this directory, call:", "git config --global --add safe.directory",
    ]

    /// What tells a failure, and what is to be done about it.
    private static let remedies: [(sign: String, remedy: String)] = [
        ("No space left on device", "free some space where FOLDER is"),
        ("Disk quota exceeded", "free some space where FOLDER is"),
        ("Read-only file system", "name a folder that can be written with --state-dir"),
        (
            "dubious ownership",
            "it belongs to another user; where that is meant, `git config --global --add safe.directory PATH` as the agent's "
                + "user allows it"
        ),
        (
            "Host key verification failed",
            "write the host's key, once compared, into the file known_hosts of the agent's user"
        ),
        (
            "Permission denied (",
            "let the remote accept a key of the agent's user, or name another one in GIT_SSH_COMMAND"
        ),
        ("couldn't find remote ref", "name a branch or a tag that is there with --ref"),
        ("could not read Username", "give the agent's user a credential helper of git's"),
        ("Authentication failed", "look at what git's credential helper has for it"),
        ("does not appear to be a git repository", "compare it with what --git says"),
        ("not found", "compare it with what --git says"),
    ]

    /// The text with nothing between `://` and an `@` of the same authority.
    static func withoutCredentials(_ text: String) -> String {
        var result = ""
        var rest = text[...]
        while let scheme = rest.firstRange(of: "://") {
            result += rest[..<scheme.upperBound]
            rest = rest[scheme.upperBound...]
            let authority = rest.prefix { !"/?# '\"".contains($0) }
            if let at = authority.lastIndex(of: "@") { rest = rest[rest.index(after: at)...] }
        }
        return result + rest
    }

    /// Whether a URL names a secret, or what may be one: for ssh a password, for all others whatever stands before the host.
    static func hasCredentials(_ url: String) -> Bool {
        guard let scheme = url.firstRange(of: "://") else { return false }
        let authority = url[scheme.upperBound...].prefix { !"/?#".contains($0) }
        guard let at = authority.lastIndex(of: "@") else { return false }
        let isShell = ["ssh", "git+ssh", "ssh+git"].contains(url[..<scheme.lowerBound].lowercased())
        return !isShell || authority[..<at].contains(":")
    }
}
