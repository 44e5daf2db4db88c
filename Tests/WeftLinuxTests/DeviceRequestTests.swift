// What may be asked of the service that starts user-space devices: a name and a mark, and nothing that leads further.

import Testing

@testable import WeftLinux

private let mark = "0123456789abcdef0123456789abcdef"

@Suite struct DeviceRequestTests {
    @Test(arguments: ["wg0", "a", "wg-eu_1=x+y.z", "123456789012345"])
    func namesComeBackAsTheyWere(name: String) throws {
        let request = DeviceRequest(interface: name, token: mark, namespace: .max)
        #expect(request.line.hasSuffix("\n"))
        #expect(try DeviceRequest(line: String(request.line.dropLast())) == request)
    }

    @Test(arguments: [
        "", "start", "start wg0", "start wg0 \(mark)", "stop wg0 \(mark) 1", "start wg0 \(mark) 1 2",
        "start  wg0 \(mark) 1", " start wg0 \(mark) 1", "start wg0 \(mark) 1 ",
        // Names that a program, a path or the kernel would take for something else.
        "start -f \(mark) 1", "start --version \(mark) 1", "start . \(mark) 1", "start .. \(mark) 1",
        "start a/b \(mark) 1", "start ../a \(mark) 1", "start lo \(mark) 1", "start all \(mark) 1",
        "start wg%d \(mark) 1", "start weft~0 \(mark) 1", "start 1234567890123456 \(mark) 1", "start wg0\0 \(mark) 1",
        "start wg0\t \(mark) 1", "start wgä \(mark) 1", "start a:b \(mark) 1",
        // Marks that are none: they become a variable of the program's.
        "start wg0 \(mark)0 1", "start wg0 0123 1", "start wg0 0123456789ABCDEF0123456789abcdef 1",
        "start wg0 LD_PRELOAD=/tmp/evil.so.12345678 1",
        "start wg0 \(mark) -1", "start wg0 \(mark) 0x1", "start wg0 \(mark) 18446744073709551616", "start wg0 \(mark) ",
    ])
    func allElseIsRefused(line: String) {
        #expect(throws: DeviceRequestProblem.self) { try DeviceRequest(line: line) }
    }

    @Test func answersComeBackAsTheyWere() {
        for answer in [DeviceAnswer.started, .elsewhere, .refused("there is an interface wg0 already")] {
            #expect(DeviceAnswer(line: String(answer.line.dropLast())) == answer)
        }
        #expect(DeviceAnswer(line: "") == nil)
        #expect(DeviceAnswer(line: "started ") == nil)
    }
}
