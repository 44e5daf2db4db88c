// Name servers of the mesh's link.

package import WeftModel

package enum ResolverOperation: Hashable, Sendable {
    /// `old` is what the link has now; nil: nothing.
    case set(ResolverSetting, old: ResolverSetting?)
    case clear(ResolverSetting)

    package var action: Operation.Action {
        switch self {
        case .set(_, let old): old == nil ? .add : .change
        case .clear: .remove
        }
    }
}

/// Nil where nothing changes.
func planResolver(desired: ResolverSetting?, live: ResolverSetting?) -> PlannedOperation? {
    switch (desired, live) {
    case (nil, nil): nil
    case (nil, let live?): PlannedOperation(.resolver(.clear(live)))
    case (let desired?, let live): desired == live ? nil : PlannedOperation(.resolver(.set(desired, old: live)))
    }
}
