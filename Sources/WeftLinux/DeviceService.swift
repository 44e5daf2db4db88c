// The service that starts user-space devices in units of their own: how it is asked.

internal import Netlink
internal import WeftKeys
internal import WeftPlan

/// A connection to the service. Each has a process of its own at its other end, which becomes the program that is asked for
/// (`DeviceStarter`): so the program belongs to a unit of the service manager's, and outlives whoever asked.
package struct DeviceService: ~Copyable {
    private let socket: UserspaceSocket
    private let path: String

    /// Where systemd listens for it: see Deploy/weft-device.socket.
    package static let defaultPath = "/run/weft/device.sock"

    /// Nil where nobody listens, or where that is not for us: then programs are started without it.
    init?(path: String) {
        do throws(UserspaceSocketError) {
            socket = try UserspaceSocket.connect(to: [path], patience: .seconds(10))
        } catch {
            return nil
        }
        self.path = path
    }

    /// Has the program of a device started; false where the service is in another network namespace.
    func start(_ interface: String, _ token: String, _ operation: String) throws(DataplaneError) -> Bool {
        let request = DeviceRequest(interface: interface, token: token, namespace: NetworkNamespace.number)
        switch try ask(request, operation) {
        case .started: return true
        case .elsewhere: return false
        case .refused(let reason): throw failure(reason, operation)
        }
    }

    private func ask(_ request: DeviceRequest, _ operation: String) throws(DataplaneError) -> DeviceAnswer {
        let buffer = SecretBuffer(capacity: 4096)
        buffer.append(request.line)
        do throws(UserspaceSocketError) {
            try socket.send(buffer)
            while buffer.free > 0, try socket.receive(into: buffer) {}
        } catch {
            if error != .closed { throw failure("\(error)", operation) }
        }
        var text = buffer.withBytes { bytes in
            unsafe bytes.withUnsafeBytes { unsafe String(decoding: $0, as: UTF8.self) }
        }
        if text.hasSuffix("\n") { text.removeLast() }
        guard let answer = DeviceAnswer(line: text) else {
            throw failure("it ended without an answer", operation)
        }
        return answer
    }

    private func failure(_ reason: String, _ operation: String) -> DataplaneError {
        DataplaneError(
            .other, "the service behind \(path) did not start it (\(reason)): journalctl -u 'weft-device@*' tells more",
            operation: operation)
    }
}
