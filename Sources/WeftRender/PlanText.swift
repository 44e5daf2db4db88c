// A plan for people: what comes, changes and goes, grouped by kind, and what that does to sessions.

import WeftModel
package import WeftPlan

/// A plan as text, in the manner of a Terraform plan. It tells what will be, not in which order it is done.
///
///     Plan for fra in mesh corp, interface wg0
///
///       peers
///     ~   ams  TrMvSoP4…  outage: 10.1.0.0/16 only
///     -     10.1.0.0/16
///
///     Plan: 0 to add, 1 to change, 0 to remove. Sessions: outage for ams (10.1.0.0/16 only).
package struct PlanText {
    package var plan: Plan
    package var labels: PlanLabels
    /// What compiling the topology warned of: whole texts, ready to print.
    package var warnings: [String]
    package var options: TextOptions

    package init(_ plan: Plan, labels: PlanLabels, warnings: [String] = [], options: TextOptions = TextOptions()) {
        self.plan = plan
        self.labels = labels
        self.warnings = warnings
        self.options = options
    }

    /// The whole text, each line with its end.
    package var text: String {
        var page = Page(options)
        if plan.isEmpty, plan.foreign.isEmpty, warnings.isEmpty {
            page.plain(conclusion)
            return page.text
        }
        page.plain(heading, .heading)
        interfaceSection(&page)
        addressSection(&page)
        peerSection(&page)
        routeSection(&page)
        tunnelSections(&page)
        firewallSection(&page)
        sysctlSection(&page)
        foreignSections(&page)
        for warning in warnings {
            page.blank()
            for line in warning.split(separator: "\n", omittingEmptySubsequences: false) { page.plain(String(line)) }
        }
        page.blank()
        page.plain(conclusion, .heading)
        return page.text
    }

    private var heading: String {
        let host = labels.node.map { "\($0.visible) in " } ?? ""
        return "Plan for \(host)mesh \(plan.mesh.mesh.visible), interface \(plan.mesh.interface.visible)"
    }

    /// The last line.
    private var conclusion: String {
        let interface = plan.mesh.interface.visible
        let count = plan.obstacles.count
        let obstacles = "\(counted(count, "obstacle")) \(count == 1 ? "is" : "are") in the way"
        if plan.isStuck { return "Nothing can be done while \(obstacles)." }
        let held = count == 0 ? "" : " \(obstacles): see above."
        if plan.isEmpty, plan.takesDown, plan.obstacles.contains(where: { $0.relation == .blocksLink }) {
            return "Nothing to remove: \(interface) is not weft's, and is left as it is."
        }
        if plan.isEmpty, plan.takesDown { return "Nothing to remove: \(interface) is not there.\(held)" }
        if plan.isEmpty { return "No changes. \(interface) is as the topology wants it." }
        return "Plan: \(PlanSummary(plan).phrase). Sessions: \(plan.sessionsPhrase(labels)).\(held)"
    }

    // MARK: Sections

    private func interfaceSection(_ page: inout Page) {
        let operations = plan.operations.filter { $0.operation.kind == .link || $0.operation.kind == .device }
        if operations.isEmpty { return }
        page.section("interface")
        let creates = plan.createsLink
        for planned in operations {
            switch planned.operation {
            case .link(.create(let link)):
                let raised = operations.contains { if case .link(.setUp) = $0.operation { true } else { false } }
                page.item(
                    .add, "\(link.name.visible)  MTU \(link.mtu), alias \(link.alias.visible)\(raised ? ", up" : "")")
            case .link(.setUp(let name)):
                if !creates { page.item(.change, "\(name.visible) down → up\(page.effect(of: planned))") }
            case .link(.setMTU(let name, let old, let new)):
                page.item(.change, "\(name.visible) MTU \(old) → \(new)\(page.effect(of: planned))")
            case .link(.setAlias(let name, let old, let new)):
                page.item(
                    .change,
                    "\(name.visible) alias \(old.isEmpty ? "none" : old.visible) → \(new.visible)\(page.effect(of: planned))"
                )
            case .link(.remove(let name)):
                page.item(
                    .remove, "\(name.visible) with its peers, addresses and routes\(page.effect(of: planned))")
            case .link(.removeHalfMade(let name)):
                page.item(.remove, "\(name.visible), left behind by an interrupted run")
            case .device(let device):
                // A private key comes first, and is what an effect other than hitless is due to.
                for (index, phrase) in device.phrases.enumerated() {
                    if creates {
                        page.item(.add, depth: 2, phrase)
                    } else if index == 0 || planned.effect == .hitless {
                        page.item(.change, phrase + page.effect(of: planned))
                    } else {
                        page.item(.change, phrase)
                    }
                }
            default: break
            }
        }
    }

    private func addressSection(_ page: inout Page) {
        let operations = plan.operations.filter { $0.operation.kind == .address }
        if operations.isEmpty { return }
        page.section("addresses")
        for planned in operations {
            guard case .address(let address) = planned.operation else { continue }
            let effect = planned.effect == .hitless ? "" : page.effect(of: planned)
            page.item(Sign(address.action), address.phrase + effect)
        }
    }

    private func sysctlSection(_ page: inout Page) {
        let operations = plan.operations.filter { $0.operation.kind == .sysctl }
        if operations.isEmpty { return }
        page.section("sysctls of the host")
        for planned in operations {
            guard case .sysctl(let sysctl) = planned.operation else { continue }
            let effect = planned.effect == .hitless ? "" : page.effect(of: planned)
            page.item(Sign(planned.operation), sysctl.phrase + effect)
        }
    }

    private func foreignSections(_ page: inout Page) {
        let obstacles = plan.obstacles
        if !obstacles.isEmpty {
            page.section(plan.isHeld ? "in the way" : "in the way, and not this mesh's")
            for object in obstacles {
                page.item(.obstacle, "\(object.kind.visible) \(object.description.visible)")
                if !object.remedy.isEmpty { page.item(.none, depth: 2, object.remedy.visible) }
            }
        }
        let hindrances = plan.hindrances
        if !hindrances.isEmpty {
            page.section("not this mesh's, and against it")
            for object in hindrances {
                page.item(.obstacle, "\(object.kind.visible) \(object.description.visible)")
                if !object.remedy.isEmpty { page.item(.none, depth: 2, object.remedy.visible) }
            }
        }
        bystanders(plan.goesWithLink, .remove, "not weft's, and goes with \(plan.mesh.interface.visible)", &page)
        bystanders(plan.leftAlone, .none, "not weft's, and left alone", &page)
    }

    private func bystanders(_ objects: [ForeignObject], _ sign: Sign, _ title: String, _ page: inout Page) {
        if objects.isEmpty { return }
        page.section(title)
        let limit = 10
        let shown = options.full || objects.count <= limit + 1 ? objects[...] : objects.prefix(limit)
        for object in shown {
            page.item(sign, "\(object.kind.visible) \(object.description.visible)")
            if !object.remedy.isEmpty { page.item(.none, depth: 2, object.remedy.visible) }
        }
        if shown.count < objects.count { page.more(sign, counted(objects.count - shown.count, "more object")) }
    }
}
