// What the status document counts.

/// What a controller has done since its start.
package struct Figures: Hashable, Sendable {
    package var passes = 0
    /// Passes that found something changed from outside.
    package var drifts = 0
    /// Plans that were applied because of it.
    package var repairs = 0
    /// Plans that were applied because something else was wanted.
    package var applies = 0
    /// Operations that were done.
    package var changes = 0

    package init() {}
}
