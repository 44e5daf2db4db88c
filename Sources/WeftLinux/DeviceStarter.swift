// The other end of the service that starts user-space devices: a process that reads one request and becomes the program.

internal import CLinux
internal import Glibc
internal import Netlink
package import WeftPlan

/// What a service manager starts for each connection to the device service's socket.
package struct DeviceStarter {
    private let connection: Int32
    private let environment: [String: String]

    /// As much as a request can be long.
    private static let limit = 128
    /// How long the request may take to come.
    private static let patience = 10

    /// - Parameters:
    ///   - connection: the connected socket.
    ///   - environment: the service's own. Nothing of it, and no program's name, comes from who asks.
    package init(connection: Int32, environment: [String: String]) {
        self.connection = connection
        self.environment = environment
    }

    /// Reads the request, and becomes the program that serves the device. Returns where nothing was asked.
    ///
    /// - Throws: why that was refused, which the one who asks has been told.
    package func run() throws(DataplaneError) {
        do throws(DataplaneError) {
            guard let line = try readLine() else { return }
            let request: DeviceRequest
            do throws(DeviceRequestProblem) { request = try DeviceRequest(line: line) } catch {
                throw refusal("the request cannot be read: \(error.message)")
            }
            guard request.namespace == NetworkNamespace.number else { return answer(.elsewhere) }
            try start(request)
        } catch {
            answer(.refused(error.message))
            throw error
        }
    }

    private func start(_ request: DeviceRequest) throws(DataplaneError) {
        let operation = "start a program for \(request.interface)"
        guard unsafe if_nametoindex(request.interface) == 0 else {
            throw refusal("there is an interface \(request.interface) already")
        }
        let program = try UserspacePrograms.chooseProgram(environment, operation)
        let variables = UserspacePrograms.variables(token: request.token, path: environment["PATH"])
        answer(.started)
        let null = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard null >= 0, dup2(null, connection) >= 0 else { throw refusal("/dev/null: \(Errno(errno))") }
        let arguments = [program, "--foreground", request.interface]
        let failure = unsafe withCStrings(arguments) { arguments in
            unsafe withCStrings(variables.map { "\($0.key)=\($0.value)" }) { variables in
                unsafe execve(program, arguments, variables)
                return Errno(errno)
            }
        }
        throw refusal("\(program) cannot be started: \(failure)")
    }

    /// Only root and the user that this runs as may ask, whatever the socket's mode is.
    private func checkUser() throws(DataplaneError) {
        var credentials: (process: pid_t, user: uid_t, group: gid_t) = (0, 0, 0)
        var size = socklen_t(MemoryLayout.size(ofValue: credentials))
        guard unsafe getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0 else {
            throw refusal("this is started by weft-device.socket, for each who connects to it: \(Errno(errno))")
        }
        guard credentials.user == 0 || credentials.user == geteuid() else {
            throw refusal("user \(credentials.user) may not ask for devices")
        }
    }

    /// The request without its end; nil where the other end has gone without one.
    private func readLine() throws(DataplaneError) -> String? {
        try checkUser()
        var wait = timeval(tv_sec: Self.patience, tv_usec: 0)
        unsafe setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &wait, socklen_t(MemoryLayout<timeval>.size))
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: Self.limit)
        while bytes.count < Self.limit {
            let count = retryingEINTR { unsafe recv(connection, &chunk, Self.limit - bytes.count, 0) }
            if count == 0, bytes.isEmpty { return nil }
            guard count > 0 else { throw refusal("the request did not come to its end") }
            bytes += chunk.prefix(count)
            if let end = bytes.firstIndex(of: UInt8(ascii: "\n")) {
                guard end == bytes.count - 1 else { throw refusal("the request is more than a line") }
                return String(decoding: bytes.dropLast(), as: UTF8.self)
            }
        }
        throw refusal("the request is longer than \(Self.limit) bytes")
    }

    /// The last word on the connection: others may hold it open, and shall not keep who asked waiting.
    private func answer(_ answer: DeviceAnswer) {
        let bytes = Array(answer.line.utf8)
        _ = retryingEINTR { unsafe send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }
        shutdown(connection, Int32(SHUT_RDWR))
    }

    private func refusal(_ message: String) -> DataplaneError {
        DataplaneError(.notPermitted, message, operation: "start a user-space device")
    }
}
