// swift-tools-version: 6.2
import PackageDescription

/// What every target is compiled with: Swift 6 mode, the upcoming features, and no warnings.
let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
]

/// For the targets that touch bytes: every unsafe use is written out.
let byteSettings: [SwiftSetting] =
    settings + [
        .enableExperimentalFeature("Lifetimes"),
        .strictMemorySafety(),
    ]

let package = Package(
    name: "weft",
    products: [
        .executable(name: "weft", targets: ["weft"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0")
    ],
    targets: [
        .systemLibrary(name: "CLinux"),
        .systemLibrary(name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
        .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
        .target(name: "Netlink", dependencies: ["CLinux"], swiftSettings: byteSettings),
        .target(
            name: "WeftAgent",
            dependencies: ["WeftDiagnostics", "WeftModel", "WeftPlan", "WeftReconcile", "WeftStatus", "WeftTopology"],
            swiftSettings: settings),
        .target(name: "WeftDiagnostics", swiftSettings: settings),
        .target(name: "WeftFiles", dependencies: ["CLinux", "WeftDiagnostics"], swiftSettings: settings),
        .target(name: "WeftKeys", dependencies: ["CLinux", "CSodium", "WeftModel"], swiftSettings: byteSettings),
        .target(
            name: "WeftLinux",
            dependencies: ["CLinux", "Netlink", "WeftDiagnostics", "WeftKeys", "WeftModel", "WeftPlan"],
            swiftSettings: byteSettings),
        .target(name: "WeftLoop", dependencies: ["CLinux"], swiftSettings: settings),
        .target(name: "WeftModel", swiftSettings: settings),
        .target(name: "WeftPlan", dependencies: ["WeftModel"], swiftSettings: settings),
        .target(name: "WeftReconcile", dependencies: ["WeftModel", "WeftPlan"], swiftSettings: settings),
        .target(
            name: "WeftRender",
            dependencies: ["WeftDiagnostics", "WeftModel", "WeftPlan", "WeftStatus"],
            swiftSettings: settings),
        .target(name: "WeftStatus", dependencies: ["WeftModel"], swiftSettings: settings),
        .target(
            name: "WeftTopology",
            dependencies: ["WeftDiagnostics", "WeftModel", "YAML"],
            swiftSettings: settings),
        .target(name: "YAML", dependencies: ["CYAML", "WeftDiagnostics"], swiftSettings: byteSettings),
        .target(
            name: "WeftCommand",
            dependencies: [
                "CLinux",
                "Netlink",
                "WeftAgent",
                "WeftDiagnostics",
                "WeftFiles",
                "WeftKeys",
                "WeftLinux",
                "WeftLoop",
                "WeftModel",
                "WeftPlan",
                "WeftReconcile",
                "WeftRender",
                "WeftStatus",
                "WeftTopology",
                "YAML",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "weft",
            dependencies: ["WeftCommand", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            swiftSettings: settings),
        .executableTarget(
            name: "weft-bench",
            dependencies: ["CLinux", "Netlink", "WeftKeys", "WeftLinux", "WeftModel", "WeftPlan", "WeftReconcile"],
            path: "Tests/Benchmarks/weft-bench",
            swiftSettings: settings),
        .executableTarget(
            name: "topology-bench",
            dependencies: ["WeftFiles", "WeftModel", "WeftTopology"],
            path: "Tests/Benchmarks/topology-bench",
            swiftSettings: settings),
        .testTarget(name: "NetlinkTests", dependencies: ["CLinux", "Netlink"], swiftSettings: settings),
        .executableTarget(
            name: "weft-killpoint",
            dependencies: ["Netlink", "WeftCommand", "WeftFaults"],
            path: "Tests/Support/weft-killpoint",
            swiftSettings: settings),
        .target(
            name: "WeftFaults",
            dependencies: ["CLinux", "Netlink"],
            path: "Tests/Support/WeftFaults",
            swiftSettings: settings),
        .testTarget(
            name: "WeftAgentTests",
            dependencies: ["WeftAgent", "WeftModel", "WeftPlan", "WeftTestSupport", "WeftTopology"],
            swiftSettings: settings),
        .testTarget(
            name: "WeftCommandTests",
            dependencies: ["weft", "WeftAgent", "WeftCommand", "WeftLoop", "WeftModel", "WeftPlan", "WeftRender"],
            swiftSettings: settings),
        .testTarget(
            name: "ExamplesTests",
            dependencies: [
                "WeftDiagnostics", "WeftFiles", "WeftModel", "WeftPlan", "WeftRender", "WeftTopology",
            ],
            swiftSettings: settings),
        .testTarget(name: "HouseTests", swiftSettings: settings),
        .testTarget(name: "WeftKeysTests", dependencies: ["CLinux", "WeftKeys", "WeftModel"], swiftSettings: settings),
        .testTarget(
            name: "WeftLinuxTests",
            dependencies: [
                "CLinux", "Netlink", "WeftDiagnostics", "WeftFaults", "WeftKeys", "WeftLinux", "WeftLoop", "WeftModel",
                "WeftPlan",
                "WeftReconcile", "WeftTestSupport",
            ],
            swiftSettings: settings),
        .testTarget(name: "WeftFilesTests", dependencies: ["WeftDiagnostics", "WeftFiles"], swiftSettings: settings),
        .testTarget(name: "WeftLoopTests", dependencies: ["CLinux", "WeftLoop"], swiftSettings: settings),
        .testTarget(name: "WeftModelTests", dependencies: ["WeftModel"], swiftSettings: settings),
        .testTarget(
            name: "WeftReconcileTests",
            dependencies: ["WeftModel", "WeftPlan", "WeftReconcile", "WeftTestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "WeftRenderTests",
            dependencies: [
                "WeftDiagnostics", "WeftModel", "WeftPlan", "WeftRender", "WeftStatus", "WeftTestSupport",
            ],
            exclude: ["Goldens"],
            swiftSettings: settings),
        .testTarget(name: "WeftStatusTests", dependencies: ["WeftModel", "WeftStatus"], swiftSettings: settings),
        .target(
            name: "WeftTestSupport",
            dependencies: ["WeftModel", "WeftPlan"],
            path: "Tests/Support/WeftTestSupport",
            swiftSettings: settings),
        .testTarget(
            name: "WeftTopologyTests",
            dependencies: [
                "WeftDiagnostics", "WeftModel", "WeftPlan", "WeftRender", "WeftTestSupport", "WeftTopology", "YAML",
            ],
            exclude: ["Fixtures"],
            swiftSettings: settings),
        .testTarget(name: "YAMLTests", dependencies: ["WeftDiagnostics", "YAML"], swiftSettings: settings),
    ]
)
