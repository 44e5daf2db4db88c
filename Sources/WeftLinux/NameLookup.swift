// Host names of endpoints, looked up side by side and within a bound.

internal import CLinux
internal import Glibc
internal import Synchronization
package import WeftModel

/// What the resolver said.
package struct NameAnswers: Sendable {
    /// In the resolver's own order (RFC 6724), by name.
    package var addresses: [String: [IPAddress]] = [:]
    /// Why a name has no answer, by name.
    package var failures: [String: String] = [:]

    package init() {}
}

/// Looks names up with getaddrinfo(3), a few at a time.
///
/// - Parameter timeout: what is not answered by then is a failure; its thread ends by itself later.
package func lookUp(names: [String], timeout: Duration = .seconds(5), workers: Int = 16) -> NameAnswers {
    if names.isEmpty { return NameAnswers() }
    let job = LookupJob(names)
    for _ in 0..<min(workers, names.count) { job.startWorker() }
    return job.wait(timeout)
}

/// Names to look up and answers so far, shared by the threads that work on them.
private final class LookupJob: Sendable {
    private struct State: Sendable {
        var waiting: ArraySlice<String>
        var missing: Int
        var answers = NameAnswers()
    }

    private let state: Mutex<State>
    private let names: [String]
    /// A pipe; its end becomes readable when every name has been decided.
    private let done: (reader: Int32, writer: Int32)

    init(_ names: [String]) {
        self.names = names
        state = Mutex(State(waiting: names[...], missing: names.count))
        var ends: [Int32] = [-1, -1]
        _ = unsafe pipe(&ends)
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        done = (ends[0], ends[1])
    }

    deinit {
        close(done.reader)
        close(done.writer)
    }

    func startWorker() {
        // The thread holds the job until it ends.
        let context = unsafe Unmanaged.passRetained(self).toOpaque()
        var thread = pthread_t()
        let code = unsafe pthread_create(
            &thread, nil,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<LookupJob>.fromOpaque(context).takeRetainedValue().work()
                return nil
            }, context)
        if code == 0 {
            pthread_detach(thread)
        } else {
            unsafe Unmanaged<LookupJob>.fromOpaque(context).release()
            work()
        }
    }

    private func work() {
        while let name = state.withLock({ $0.waiting.popFirst() }) {
            let (addresses, failure) = resolve(name)
            let left = state.withLock { state -> Int in
                if let failure {
                    state.answers.failures[name] = failure
                } else {
                    state.answers.addresses[name] = addresses
                }
                state.missing -= 1
                return state.missing
            }
            if left == 0 {
                var byte: UInt8 = 1
                _ = unsafe write(done.writer, &byte, 1)
            }
        }
    }

    func wait(_ timeout: Duration) -> NameAnswers {
        let clock = ContinuousClock()
        let deadline = clock.now + timeout
        while true {
            let left = deadline - clock.now
            let milliseconds = max(
                0, left.components.seconds * 1000 + left.components.attoseconds / 1_000_000_000_000_000)
            var waiting = pollfd(fd: done.reader, events: Int16(POLLIN), revents: 0)
            let count = unsafe poll(&waiting, 1, Int32(milliseconds))
            if count > 0 || milliseconds == 0 { break }
        }
        return state.withLock { state in
            state.waiting = []
            var answers = state.answers
            for name in names where answers.addresses[name] == nil && answers.failures[name] == nil {
                answers.failures[name] = "the resolver did not answer in time"
            }
            return answers
        }
    }

    private func resolve(_ name: String) -> ([IPAddress], String?) {
        var hints = unsafe addrinfo()
        unsafe hints.ai_family = AF_UNSPEC
        unsafe hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = unsafe getaddrinfo(name, nil, &hints, &list)
        guard code == 0 else { return ([], unsafe String(cString: unsafe gai_strerror(code))) }
        defer { unsafe freeaddrinfo(list) }
        var addresses: [IPAddress] = []
        var entry = unsafe list
        while let current = unsafe entry {
            if let address = unsafe ipAddress(current.pointee.ai_addr), !addresses.contains(address) {
                addresses.append(address)
            }
            unsafe entry = current.pointee.ai_next
        }
        return addresses.isEmpty ? ([], "it has no address") : (addresses, nil)
    }
}

/// The address in a socket address; nil for families other than IPv4 and IPv6.
func ipAddress(_ pointer: UnsafePointer<sockaddr>?) -> IPAddress? {
    guard let pointer = unsafe pointer else { return nil }
    switch unsafe Int32(pointer.pointee.sa_family) {
    case AF_INET:
        let bits = unsafe pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
            unsafe UInt32(bigEndian: $0.pointee.sin_addr.s_addr)
        }
        return IPAddress(v4: bits)
    case AF_INET6:
        let words = unsafe pointer.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { address in
            unsafe withUnsafeBytes(of: address.pointee.sin6_addr) { bytes in
                unsafe (
                    UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
                    UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
                )
            }
        }
        return IPAddress(v6: words.0, words.1)
    default: return nil
    }
}
