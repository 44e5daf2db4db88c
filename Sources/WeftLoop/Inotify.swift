// The kernel's notices about folders; see inotify(7).

import Glibc

/// One inotify instance.
final class Inotify {
    /// What happened in a folder, or to it.
    struct Event {
        /// Of the folder; -1 where the kernel's queue was full.
        var watch: Int32
        /// IN_*
        var mask: UInt32
        /// Of what it happened to; empty for the folder itself.
        var name: String

        func has(_ flags: Int32) -> Bool { mask & UInt32(bitPattern: flags) != 0 }
    }

    /// What happens to names in a folder, and to the folder.
    static let names =
        IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
    /// Also what happens to the contents of its files.
    static let contents = names | IN_MODIFY | IN_CLOSE_WRITE

    /// How much is read at once: some hundred events.
    private static let bufferSize = 16 << 10
    /// How often at most in one call, so that a storm keeps nobody else waiting.
    private static let readsAtOnce = 16

    let descriptor: Int32
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bufferSize, alignment: 8)

    /// - Throws: EMFILE where the user has as many instances as he may have.
    init() throws(LoopError) {
        descriptor = inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK))
        guard descriptor >= 0 else {
            buffer.deallocate()
            throw LoopError("watch files", remedy: Self.remedy(errno))
        }
    }

    deinit {
        close(descriptor)
        buffer.deallocate()
    }

    /// What to do where a limit of inotify is reached.
    static func remedy(_ number: Int32) -> String {
        switch number {
        case ENOSPC: "raise the sysctl fs.inotify.max_user_watches"
        case EMFILE: "raise the sysctl fs.inotify.max_user_instances"
        default: ""
        }
    }

    /// Watches a folder; more is added to what it is watched for.
    ///
    /// - Returns: nil with the reason in `errno`.
    func add(_ path: String, _ events: Int32) -> Int32? {
        let flags = UInt32(bitPattern: events | IN_ONLYDIR | IN_DONT_FOLLOW | IN_MASK_ADD)
        let watch = inotify_add_watch(descriptor, path, flags)
        return watch >= 0 ? watch : nil
    }

    func remove(_ watch: Int32) { inotify_rm_watch(descriptor, watch) }

    /// Shows the events that wait to `body`, in order; not all of them where there are very many.
    func read(_ body: (Event) -> Void) {
        for _ in 0..<Self.readsAtOnce {
            let count = retryingEINTR { Glibc.read(descriptor, buffer.baseAddress, buffer.count) }
            guard count > 0 else { return }
            var position = 0
            let header = MemoryLayout<inotify_event>.size
            while position + header <= count {
                let event = buffer.loadUnaligned(fromByteOffset: position, as: inotify_event.self)
                let name = buffer[(position + header)..<(position + header + Int(event.len))].prefix { $0 != 0 }
                body(Event(watch: event.wd, mask: event.mask, name: String(decoding: name, as: UTF8.self)))
                position += header + Int(event.len)
            }
        }
    }
}
