// Every error number at every request is a sentence that helps, under the right code.

import Glibc
import Netlink
import Testing
import WeftPlan

@testable import WeftLinux

struct ErrnoSentencesTests {
    private func error(_ kind: Request.Kind, _ errno: Int32) -> DataplaneError {
        DataplaneError(.refused(Errno(errno), text: "the kernel's words"), Request(kind, "do it"))
    }

    @Test(arguments: Request.Kind.allCases)
    func allSayWhatTheyKnow(_ kind: Request.Kind) {
        for errno: Int32 in 1...133 {
            let error = error(kind, errno)
            #expect(error.errno == errno)
            #expect(error.operation == "do it")
            #expect(error.kernelText == "the kernel's words")
            #expect(error.message.hasPrefix("\(Errno(errno).description): "))
            #expect(error.message.count > Errno(errno).description.count + 20)
        }
    }

    @Test(arguments: [
        (Request.Kind.createLink, EOPNOTSUPP, DataplaneError.Code.noWireGuard), (.findFamily, ENOENT, .noWireGuard),
        (.raiseLink, EADDRINUSE, .portInUse), (.setDevice, EADDRINUSE, .portInUse), (.nameLink, EEXIST, .obstructed),
        (.addRoute, EEXIST, .obstructed), (.addAddress, EEXIST, .obstructed), (.addAddress, EACCES, .unsupported),
        (.setPeers, EPERM, .notPermitted), (.readDevice, ENODEV, .gone), (.addRoute, ENODEV, .gone),
        (.addRoute, ENETDOWN, .gone), (.setPeers, ENOMEM, .noMemory), (.resizeLink, EINVAL, .invalid),
        (.writeSysctl, EROFS, .notPermitted), (.readSysctl, EIO, .file), (.openSocket, EMFILE, .noMemory),
    ])
    func haveTheirCodes(_ kind: Request.Kind, _ errno: Int32, _ code: DataplaneError.Code) {
        #expect(error(kind, errno).code == code)
    }

    @Test func whatIsNotKnownIsTriedAgain() {
        let request = Request(.setPeers, "add peer")
        for failure in [NetlinkError.lost, .interrupted] {
            let error = DataplaneError(failure, request)
            #expect(error.code == .inconsistent)
            #expect(error.isRetryable)
        }
        #expect(DataplaneError(.tooLong, request).isRetryable == false)
        #expect(DataplaneError(.malformed("x"), request).message.contains("(x)"))
    }

    @Test(arguments: [
        ("6.1.0-47-amd64", true), ("5.18.0", true), ("5.17.15", false), ("4.19-rc1", false), ("6", true), ("", false),
        ("10.0.1+deb", true),
    ])
    func kernelsAreKnownByTheirRelease(_ release: String, _ hasProtocol: Bool) {
        #expect(KernelFeatures(release: release).hasAddressProtocol == hasProtocol)
    }
}
