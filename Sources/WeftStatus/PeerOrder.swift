// The order in which people look for peers.

/// Peers by name, and those without one after them by key.
package struct PeerOrder: Comparable, Sendable {
    package var name: String?
    /// In base64.
    package var key: String

    package init(name: String?, key: String) {
        self.name = name
        self.key = key
    }

    package static func < (left: Self, right: Self) -> Bool {
        switch (left.name, right.name) {
        case (let one?, let other?): one == other ? left.key < right.key : one < other
        case (_?, nil): true
        case (nil, _?): false
        case (nil, nil): left.key < right.key
        }
    }
}
