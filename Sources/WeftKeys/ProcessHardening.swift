// Keeps this process's memory to itself.

internal import CLinux
internal import Glibc

/// What a process that will hold keys does first.
package enum ProcessHardening {
    /// No core dump, and no other process of this user may read this one's memory: see prctl(2), PR_SET_DUMPABLE.
    /// Programs started later are dumpable again, and leave no core either. A crash ends the process at once: Swift's own
    /// crash reports would start a program that reads this memory and prints from it, and where standard output is a pipe
    /// they may wait for ever.
    ///
    /// - Returns: false where the kernel refused; guarded memory stays out of dumps even then.
    @discardableResult
    package static func apply() -> Bool {
        for signal in [SIGQUIT, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP] {
            _ = Glibc.signal(signal, SIG_DFL)
        }
        var none = rlimit(rlim_cur: 0, rlim_max: 0)
        let limited = unsafe setrlimit(__rlimit_resource_t(UInt32(RLIMIT_CORE.rawValue)), &none) == 0
        return weft_set_not_dumpable() == 0 && limited
    }
}
