// Names the network namespace that this process is in, and the boot that it is in.

internal import CLinux
internal import Glibc

/// What a host's memory is keyed by.
package enum NetworkNamespace {
    /// `host` for the namespace of process 1, otherwise `netns-` and a number that no other namespace of this boot has.
    package static func currentName() -> String {
        // Not by ns/net: only root may look at that of process 1. Each namespace has its own files below net.
        if let own = identity("/proc/thread-self/net/dev"), let first = identity("/proc/1/net/dev"), own == first {
            return "host"
        }
        if let cookie = cookie() { return "netns-\(cookie)" }
        // Before Linux 5.14. Numbers of inodes are used again, so this is the second choice.
        return "netns-inode-\(number)"
    }

    /// The number that `ls -l /proc/self/ns/net` shows. Those of namespaces that are gone are used again.
    static var number: UInt64 { UInt64(identity("/proc/thread-self/ns/net")?.inode ?? 0) }

    /// A number that no other namespace of this boot has; nil before Linux 5.14.
    private static func cookie() -> UInt64? {
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { close(descriptor) }
        var cookie: UInt64 = 0
        var size = socklen_t(MemoryLayout<UInt64>.size)
        guard unsafe getsockopt(descriptor, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0 else { return nil }
        return cookie
    }

    /// For how long what is remembered of the kernel stays true: this boot. Process 1 of a container is another one after
    /// each restart, in a new namespace of the same name, so for `host` the namespace's number belongs to it.
    package static func era(of name: String) -> String {
        guard name == "host", let cookie = cookie() else { return bootID() }
        return "\(bootID())+\(cookie)"
    }

    /// In characters.
    static let bootIDLength = 36

    /// Another value after each boot: see random(4).
    package static func bootID() -> String { readKernelText("/proc/sys/kernel/random/boot_id") ?? "" }

    private struct Identity: Equatable {
        var device: dev_t
        var inode: ino_t
    }

    private static func identity(_ path: String) -> Identity? {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { return nil }
        return Identity(device: status.st_dev, inode: status.st_ino)
    }
}
