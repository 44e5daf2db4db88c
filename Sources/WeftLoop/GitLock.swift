// Whether git is at work in a folder: it holds a lock on its index from the first file that it changes to the last.

import Glibc

enum GitLock {
    /// The lock's name in a repository.
    static let name = "index.lock"

    /// Where the index of the repository lies whose files lie in `folder`; nil where it is none. A second work tree,
    /// and a submodule, have a file that says it.
    static func repository(at folder: String) -> String? {
        let path = WatchWalk.join(folder, ".git")
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        if status.st_mode & S_IFMT == S_IFDIR { return path }
        guard status.st_mode & S_IFMT == S_IFREG, let text = firstBytes(of: path), text.hasPrefix("gitdir: ") else {
            return nil
        }
        let target = String(text.dropFirst("gitdir: ".count).prefix { !$0.isNewline })
        let repository = target.hasPrefix("/") ? target : WatchWalk.join(folder, target)
        return realpath(repository, nil).map { resolved in
            defer { free(resolved) }
            return String(cString: resolved)
        }
    }

    /// The lock that is held in one of these repositories; nil where none is.
    static func held(in repositories: Set<String>) -> String? {
        repositories.map { WatchWalk.join($0, name) }.first { lock in
            var status = stat()
            return lstat(lock, &status) == 0
        }
    }

    private static func firstBytes(of path: String) -> String? {
        guard let file = try? Descriptor(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), "read \(path)") else {
            return nil
        }
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX) + 16)
        let count = retryingEINTR { read(file.number, &bytes, bytes.count) }
        return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
    }
}
