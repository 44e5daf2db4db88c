// Error numbers become sentences: (what was asked, errno) → a code and what to do about it.

import Glibc
import Netlink
import WeftModel
import WeftPlan

/// A request to the kernel, as far as its failure must be explained.
struct Request {
    enum Kind: Hashable, CaseIterable {
        case openSocket, findFamily
        case readLink, createLink, nameLink, raiseLink, resizeLink, removeLink
        case readAddresses, addAddress, removeAddress
        case readRoutes, addRoute, replaceRoute, removeRoute
        case readRules, addRule, removeRule
        case readDevice, setDevice, setPeers
        case readSysctl, writeSysctl
        case readTable, writeTable, addTable, removeTable, changeTable, addChain, addTableRule, addSet, addCounter
    }

    let kind: Kind
    /// As a person would type it: `add route 10.0.0.0/8 dev wg0`.
    let text: String

    init(_ kind: Kind, _ text: String) {
        self.kind = kind
        self.text = text
    }
}

extension DataplaneError {
    /// A failed netlink request.
    init(_ error: NetlinkError, _ request: Request) {
        switch error {
        case .refused(let errno, let text):
            self.init(errno, request, kernelText: text)
        case .system(let errno):
            self.init(errno, request)
        case .lost:
            self.init(
                .inconsistent, "the kernel's answer was lost, so it is not known whether this was done; try again",
                operation: request.text)
        case .interrupted:
            self.init(
                .inconsistent,
                "something changes this part of the kernel's configuration so fast that it could not be read whole; "
                    + "try again, and look for another program that manages the same interfaces",
                operation: request.text)
        case .malformed(let what):
            self.init(
                .unsupported,
                "the kernel's answer could not be understood (\(what)); please report this with `uname -r`",
                operation: request.text)
        case .tooLong:
            self.init(.invalid, "this does not fit into one message to the kernel", operation: request.text)
        }
    }

    /// A failed system call, or a refused request.
    init(_ errno: Errno, _ request: Request, kernelText: String = "") {
        let (code, sentence) = sentence(for: errno.rawValue, request.kind)
        self.init(
            code, "\(errno.description): \(sentence)", errno: errno.rawValue, kernelText: kernelText,
            operation: request.text)
    }
}

private func sentence(for errno: Int32, _ kind: Request.Kind) -> (DataplaneError.Code, String) {
    specificSentence(for: errno, kind) ?? generalSentence(for: errno)
}

/// What an error number means for one request only.
private func specificSentence(for errno: Int32, _ kind: Request.Kind) -> (DataplaneError.Code, String)? {
    if let sentence = firewallSentence(for: errno, kind) { return sentence }
    return switch (kind, errno) {
    case (.openSocket, EAFNOSUPPORT), (.openSocket, EPROTONOSUPPORT):
        (.unsupported, "this kernel, or the sandbox around this process, offers no netlink sockets")
    case (.openSocket, EMFILE), (.openSocket, ENFILE):
        (.noMemory, "too many open files; raise the limit or end what holds them")
    case (.findFamily, ENOENT), (.createLink, EOPNOTSUPP), (.createLink, ENODEV), (.createLink, EAFNOSUPPORT):
        (.noWireGuard, "this kernel has no WireGuard: load the module `wireguard`, or install wireguard-go")
    case (.createLink, EEXIST):
        (.obstructed, "a link of that name exists already")
    case (.nameLink, EEXIST):
        (.obstructed, "another interface has that name already: rename it, or give the mesh another `interface`")
    case (.nameLink, EBUSY):
        (.other, "the interface was brought up by something else before it had its name; try again")
    case (.createLink, EINVAL), (.nameLink, EINVAL), (.createLink, ERANGE), (.nameLink, ERANGE):
        (.invalid, "the kernel does not take this name for an interface")
    case (.raiseLink, EADDRINUSE), (.setDevice, EADDRINUSE):
        (.portInUse, "another program listens on the UDP port: end it, or choose another `listenPort`")
    case (.resizeLink, EINVAL), (.resizeLink, ERANGE):
        (.invalid, "the interface does not take this MTU; choose one from 1280 to 65455")
    case (.addAddress, EACCES), (.addRoute, EACCES):
        (.unsupported, "IPv6 is switched off here: set net.ipv6.conf.all.disable_ipv6 to 0, or use IPv4 only")
    case (.addAddress, EEXIST):
        (.obstructed, "the interface has this address from somebody else: remove it there")
    case (.addAddress, EADDRNOTAVAIL):
        (.invalid, "the kernel does not take this address for an interface")
    case (.addRoute, EEXIST), (.replaceRoute, EEXIST):
        (.obstructed, "a route of somebody else stands there: remove it, or set another `table`")
    case (.addRoute, ENETDOWN), (.replaceRoute, ENETDOWN):
        (.gone, "the interface is down; try again")
    case (.addRoute, EINVAL), (.replaceRoute, EINVAL):
        (
            .invalid,
            "the kernel does not take this route; its source must be an address of this host that is not tentative"
        )
    case (.addRoute, ENOENT), (.replaceRoute, ENOENT), (.replaceRoute, ESRCH):
        (.gone, "the route to replace has gone in the meantime; try again")
    case (.addRule, EEXIST):
        (.obstructed, "a rule of somebody else stands there: remove it, or set another `fwMark` or `table`")
    case (.addRule, EOPNOTSUPP), (.addRule, EAFNOSUPPORT):
        (.unsupported, "this kernel has no policy routing for this family, which `useExit` needs")
    case (.removeRule, EPERM):
        (.notPermitted, "the rule is permanent, or this process lacks CAP_NET_ADMIN: remove it by hand")
    case (.setDevice, EINVAL), (.setPeers, EINVAL):
        (.invalid, "WireGuard does not take this value")
    case (.setPeers, ENOSPC), (.setPeers, EMSGSIZE):
        (.invalid, "WireGuard takes no more peers or allowed IPs on this interface")
    case (.readDevice, EOPNOTSUPP), (.setDevice, EOPNOTSUPP), (.setPeers, EOPNOTSUPP):
        (.obstructed, "the interface is no WireGuard interface")
    case (.readSysctl, ENOENT), (.writeSysctl, ENOENT):
        (.unsupported, "this kernel has no such setting")
    case (.writeSysctl, EROFS), (.writeSysctl, EACCES):
        (
            .notPermitted,
            "/proc/sys is read-only here: set this where the container is started (docker run --sysctl NAME=VALUE), or run "
                + "weft outside of it"
        )
    case (.writeSysctl, EINVAL):
        (.invalid, "the kernel does not take this value")
    case (.readSysctl, let errno) where errno != EPERM, (.writeSysctl, let errno) where errno != EPERM:
        (.file, "the setting could not be read or written; look at the mounts of /proc")
    default:
        nil
    }
}

/// What an error number means for a request about a table of nf_tables.
private func firewallSentence(for errno: Int32, _ kind: Request.Kind) -> (DataplaneError.Code, String)? {
    switch (kind, errno) {
    case (.writeTable, EINVAL), (.writeTable, EOPNOTSUPP), (.writeTable, EPROTONOSUPPORT), (.writeTable, EAFNOSUPPORT),
        (.addTable, EOPNOTSUPP), (.addTable, EAFNOSUPPORT):
        (
            .unsupported,
            "this kernel has no nf_tables: load the module `nf_tables`, or use a kernel with CONFIG_NF_TABLES and "
                + "CONFIG_NF_TABLES_INET"
        )
    // Within a transaction; where the rights are missing, that is said of the whole.
    case (.addTable, EPERM), (.removeTable, EPERM), (.changeTable, EPERM), (.addChain, EPERM), (.addTableRule, EPERM),
        (.addSet, EPERM), (.addCounter, EPERM):
        (.obstructed, "the table belongs to a program that runs (`flags owner`): end that")
    case (.addTable, EEXIST):
        (.inconsistent, "the table was made in the meantime; try again")
    case (.addChain, ENOENT), (.addChain, EOPNOTSUPP):
        (
            .unsupported,
            "this kernel lacks this type of chain: load the module `nft_chain_nat`, or use a kernel with CONFIG_NFT_NAT"
        )
    case (.addTableRule, ENOENT), (.addTableRule, EOPNOTSUPP):
        (
            .unsupported,
            "this kernel lacks one of these expressions: load the modules `nft_ct`, `nft_fib_inet`, `nft_masq` and "
                + "`nft_reject_inet`, or use a kernel that has them"
        )
    case (.addSet, ENOENT), (.addSet, EOPNOTSUPP):
        (.unsupported, "this kernel lacks sets of ranges: it needs nf_tables of Linux 5.6 or later")
    case (.addCounter, ENOENT), (.addCounter, EOPNOTSUPP):
        (.unsupported, "this kernel lacks named counters: load the module `nft_counter`")
    case (.changeTable, EBUSY):
        (.inconsistent, "something that was added in the meantime uses this; try again")
    case (.changeTable, EEXIST), (.changeTable, ENOTEMPTY):
        (.inconsistent, "a range that was added in the meantime overlaps one of these; try again")
    default:
        nil
    }
}

/// What an error number means whatever was asked.
private func generalSentence(for errno: Int32) -> (DataplaneError.Code, String) {
    switch errno {
    case EPERM, EACCES:
        (.notPermitted, "run this as root, or with CAP_NET_ADMIN in this network namespace")
    case ENODEV, ENXIO, ESRCH, ENOENT, EADDRNOTAVAIL:
        (.gone, "what this concerns has gone in the meantime; try again")
    case EEXIST, EBUSY:
        (.obstructed, "something of that name is there already")
    case ENOMEM, ENOBUFS:
        (.noMemory, "the kernel is out of memory for this; try again when there is more")
    case EADDRINUSE:
        (.portInUse, "another program listens on the UDP port: end it, or choose another `listenPort`")
    case EINVAL, ERANGE, EMSGSIZE, E2BIG, EAFNOSUPPORT:
        (.invalid, "the kernel does not take this value")
    case EOPNOTSUPP, EPROTONOSUPPORT, ENOSYS:
        (.unsupported, "this kernel cannot do this")
    default:
        (.other, "the kernel refused this; try again, and report it if it stays so")
    }
}
