// The tables of a kill switch on the way to another mark.

import WeftModel

/// A kill switch while the mark of the tunnel's own packets changes: at each moment it lets pass those that the device has,
/// also where weft is killed in between.
struct KillSwitchPlan {
    /// What is wanted before the device gets its mark.
    var first: Firewall?
    /// The host in between; nil where the first table is the last.
    var between: HostState?
    /// The device's packets have no mark so far: they get it before there is a switch.
    var comesToALiveDevice = false

    init(_ wanted: HostState, _ live: HostState) {
        first = wanted.firewall
        guard let firewall = wanted.firewall, firewall.hasKillSwitch, let old = live.device?.fwMark,
            let mark = wanted.device?.fwMark, mark != 0, mark != old
        else { return }
        comesToALiveDevice = old == 0
        if old == 0 { return }
        // The mark was changed by another program: the table refuses its packets already, and the device is what is wrong.
        if let live = live.firewall, !firewall.differs(from: live) { return }
        let both = firewall.passing(old, besides: mark)
        if both == firewall { return }
        first = both
        between = live
        between?.firewall = both
    }
}
