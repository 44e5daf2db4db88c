// Tells when a topology may have changed.

/// A watch on a folder of topology files, or on one file, by whatever path and links it is reached.
package final class FolderWatch {
    /// What has happened since the last look.
    package struct Change: Hashable, Sendable {
        /// Something happened that may have changed the topology.
        package var isDirty = false
        /// Somebody is in the middle of it: what is there now is not to be acted on.
        package var isBeingWritten = false

        package init(isDirty: Bool = false, isBeingWritten: Bool = false) {
            self.isDirty = isDirty
            self.isBeingWritten = isBeingWritten
        }
    }

    /// Readable when something has happened.
    package let descriptor: Int32
    /// Why changes are not told any more, in the words of a person; nil while they are. The topology is then to be polled.
    package private(set) var blindness: String?

    /// Whether changes are not told (any more).
    package var isBlind: Bool { blindness != nil }

    /// Whatever is at `path`, also nothing, is watched when this returns.
    package init(_ path: String) throws(LoopError) {
        throw LoopError("watch \(path)", errno: 38)
    }

    /// Takes what has happened. After one that is dirty, `rearm` and only then read the topology.
    package func drain() -> Change { Change() }

    /// Finds out again what there is to watch.
    package func rearm() {}
}
