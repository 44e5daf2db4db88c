// What this kernel can do, where it cannot be asked.

import Glibc

/// Features that show in no answer of the kernel's.
package struct KernelFeatures: Hashable, Sendable {
    /// Addresses carry the protocol that made them (IFA_PROTO, Linux 5.18). Older kernels ignore the attribute.
    package var hasAddressProtocol: Bool

    package init(hasAddressProtocol: Bool) {
        self.hasAddressProtocol = hasAddressProtocol
    }

    /// - Parameter release: as `uname -r` prints it: `6.1.0-47-amd64`.
    package init(release: String) {
        let numbers = release.split { !$0.isASCII || !$0.isNumber }.prefix(2).compactMap { Int($0) }
        let version = (numbers.first ?? 0, numbers.count > 1 ? numbers[1] : 0)
        hasAddressProtocol = version >= (5, 18)
    }

    /// Of the running kernel.
    package static var current: KernelFeatures {
        var name = utsname()
        guard unsafe uname(&name) == 0 else { return KernelFeatures(hasAddressProtocol: true) }
        let release = unsafe withUnsafeBytes(of: name.release) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        return KernelFeatures(release: release)
    }
}
