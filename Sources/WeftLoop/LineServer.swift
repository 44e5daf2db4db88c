// Answers local clients that ask with one line, over a unix socket.

import CLinux
import Glibc

/// A socket on which each client asks with one line, and gets an answer; or stays, and gets lines as they come.
///
/// No client keeps the loop or another client waiting, whatever it sends, and however slowly it reads: all that it may
/// have is bounded by `Limits`, and who goes past one is told so in a line that begins with `error: `, or dropped.
package final class LineServer {
    /// What clients may have.
    package struct Limits: Hashable, Sendable {
        /// Connections at a time.
        package var clients = 64
        /// Beside these, of root: whoever else may ask cannot keep him out.
        package var clientsOfRoot = 16
        /// Bytes of a request, with its line's end.
        package var request = 64 << 10
        /// For a whole request to come.
        package var requestTime = Duration.seconds(5)
        /// For a client that is owed something to take any of it.
        package var readingTime = Duration.seconds(10)
        /// Bytes that wait for one client, whatever others have.
        package var waiting = 1 << 20
        /// Bytes that wait for all clients: a client may have more than `waiting` only where this leaves room.
        package var waitingInAll = 64 << 20

        package init() {}
    }

    /// How many connections one look takes, so that a flood keeps nobody else waiting.
    private static let acceptsAtOnce = 16

    let limits: Limits
    /// Of all clients, in bytes.
    var waiting = 0
    private(set) weak var loop: EventLoop?
    private(set) var handler: ((Client, String) -> Void)?
    private var socket: SocketFile?
    private let place: (path: String, mode: UInt32, group: String?)
    private var clients: [ObjectIdentifier: Client] = [:]

    /// Listens on `path`, whose folder must be there. What a dead process has left there is replaced.
    ///
    /// - Parameters:
    ///   - mode: of the socket: who may write to it may ask.
    ///   - group: the name of the group that it is given to; nil: it stays with ours.
    /// - Throws: EADDRINUSE naming the process that listens there, EEXIST where something else is there, ESRCH for an
    ///   unknown group, and what the file system refuses.
    package init(
        path: String, mode: UInt32 = 0o660, group: String? = nil, limits: Limits = Limits()
    ) throws(LoopError) {
        self.limits = limits
        place = (path, mode, group)
        socket = try SocketFile(path, mode: mode, group: group)
    }

    /// How many clients are connected.
    package var clientCount: Int { clients.count }

    /// Serves clients in `loop`: `handler` gets each client with its line, without the line's end.
    package func attach(to loop: EventLoop, handler: @escaping (Client, String) -> Void) throws(LoopError) {
        guard let listener else { return }
        try loop.watch(listener) { [unowned self] _ in accept() }
        (self.loop, self.handler) = (loop, handler)
    }

    /// Listens again where somebody has removed the socket, or moved another into its place that is dead.
    ///
    /// - Returns: whether it had to.
    package func standAgain() throws(LoopError) -> Bool {
        guard let old = socket, !old.isStanding else { return false }
        let new = try SocketFile(place.path, mode: place.mode, group: place.group)
        if let loop {
            loop.forget(old.file.number)
            try loop.watch(new.file.number) { [unowned self] _ in accept() }
        }
        socket = new
        return true
    }

    /// Ends all connections, and removes the socket. What clients have not taken is lost.
    package func close() {
        if let listener { loop?.forget(listener) }
        for client in clients.values { client.end() }
        socket = nil
    }

    deinit { close() }

    private var listener: Int32? { socket?.file.number }

    func remove(_ client: Client) { clients[ObjectIdentifier(client)] = nil }

    private func accept() {
        for _ in 0..<Self.acceptsAtOnce {
            guard let listener, let loop else { return }
            let flags = Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
            let connection = accept4(listener, nil, nil, flags)
            guard connection >= 0 else {
                switch errno {
                case EINTR, ECONNABORTED: continue
                case EAGAIN: return
                default: return pause(listener, loop)
                }
            }
            let isRoot = PeerCredentials(of: connection)?.user == 0
            guard clients.count < limits.clients + (isRoot ? limits.clientsOfRoot : 0) else {
                let text = Self.errorLine("\(clients.count) clients are connected; try again later")
                _ = send(connection, text, text.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
                Glibc.close(connection)
                continue
            }
            let client = Client(connection, self, loop)
            if client.start() { clients[ObjectIdentifier(client)] = client }
        }
    }

    /// No descriptors are left: the connections wait for a second.
    private func pause(_ listener: Int32, _ loop: EventLoop) {
        loop.change(listener, [])
        loop.schedule(after: .seconds(1)) { [weak self] in
            if let self, let listener = self.listener { self.loop?.change(listener, .read) }
        }
    }

    /// What a client is told when it is not answered.
    package static func errorLine(_ text: String) -> [UInt8] { Array("error: \(text)\n".utf8) }
}
