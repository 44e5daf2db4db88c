// What can go wrong between a request and its answer.

/// A failed exchange with the kernel.
package enum NetlinkError: Error, Hashable, Sendable {
    /// The kernel refused the request. `text` is its own explanation (NLMSGERR_ATTR_MSG), empty where it gave none.
    case refused(Errno, text: String)
    /// The system call itself failed.
    case system(Errno)
    /// The answer was dropped or cut off: whether the request was carried out is not known.
    case lost
    /// A dump was interrupted by changes every time it was tried.
    case interrupted
    /// The answer is not what the protocol says; the text names the message.
    case malformed(String)
    /// The request is larger than a message can be; nothing was sent.
    case tooLong

    /// The error number, where there is one.
    package var errno: Errno? {
        switch self {
        case .refused(let errno, _), .system(let errno): errno
        case .lost, .interrupted, .malformed, .tooLong: nil
        }
    }
}
