//! Records with something in every field, drawn from a seed: what a store must give back as it was.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use lifecycle_core::attach::{AttachKind, AttachPoint, Mac, NsAccess, NsRef};
use lifecycle_core::id::{JobId, LabId, LinkId, NodeId};
use lifecycle_core::machine::{HostState, JobState, LabState, LinkIntent, LinkState, NodeIntent, NodeState};
use lifecycle_core::model::{
    AuditAction, AuditResult, AuditRow, Event, EventBody, HostRecord, JobAction, JobRecord, JobView, LabRecord,
    LabView, LinkRecord, LinkView, NodeInstance, NodeRecord, NodeTimes, NodeView, Parked, ParkedEnd, ReadyState, Span,
    SubjectKind, Trigger,
};
use lifecycle_core::name::{HostName, IfName, LabName, NodeName, PluginName};
use lifecycle_core::plugin::network::{EndIdentity, LinkIdentity, SwitchPort};
use lifecycle_core::plugin::provider::{Capacity, ExitRecord, InstanceRef, ManagementAddresses};
use lifecycle_core::policy::blocked::Blocked;
use lifecycle_core::policy::enforcement::{Budget, EnforcementPolicy};
use lifecycle_core::policy::link::{EndOwner, LinkEnd, LinkKey, OperReason, OperState};
use lifecycle_core::time::{BootId, BootInstant, Deadline, Timestamp};
use lifecycle_core::topology::{
    Bind, Endpoint, LinkAttrs, LinkSpec, ManagementNetwork, NodeSpec, StagePhase, Topology,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Texts that careless storing spoils.
const TEXTS: [&str; 8] = [
    "",
    "plain",
    "it's \"quoted\" \\ and % _ ?1 :a $b",
    "line\nand\ttab\r\n",
    "ünïcödé 漢字 🜁 \u{202e}",
    "NUL \0 inside",
    "{\"json\": [1, null]} -- ; DROP TABLE audit",
    " outer blanks ",
];

/// Draws records. Names and identifiers are never drawn twice.
#[derive(Clone)]
pub(super) struct Records {
    rng: ChaCha8Rng,
    seed: u64,
    drawn: u64,
}

impl Records {
    pub(super) fn seeded(seed: u64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), seed, drawn: 0 }
    }

    /// A number from 0 to `most`.
    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        self.rng.next_u64() % (most + 1)
    }

    /// True once in `n` times.
    pub(super) fn chance(&mut self, n: u64) -> bool {
        self.up_to(n - 1) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let last = (from.len() as u64).checked_sub(1)?;
        Some(from[self.up_to(last) as usize])
    }

    fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        self.pick(from).expect("something to choose from")
    }

    /// A number that no other draw of any seed below 2^20 returned.
    fn fresh(&mut self) -> u64 {
        self.drawn += 2;
        (self.seed << 40) | self.drawn
    }

    fn maybe<T>(&mut self, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (!self.chance(3)).then(|| draw(self))
    }

    fn flag(&mut self) -> bool {
        self.chance(2)
    }

    fn text(&mut self) -> String {
        let text = self.one_of(&TEXTS);
        if self.chance(10) { text.repeat(40) } else { text.to_owned() }
    }

    /// Numbers that do not fit everywhere: small ones, and the largest.
    fn number(&mut self) -> u64 {
        match self.up_to(3) {
            0 => 0,
            1 => u64::MAX,
            _ => self.rng.next_u64() >> self.up_to(60),
        }
    }

    fn small(&mut self) -> u32 {
        self.rng.next_u32()
    }

    fn float(&mut self) -> f64 {
        f64::from(self.small()) / 3.0 * if self.flag() { 1e-9 } else { 1e7 }
    }

    fn time(&mut self) -> Timestamp {
        let second = self.up_to(8_000_000_000) as i64 - 4_000_000_000;
        Timestamp::new(second, self.up_to(999_999_999) as i32).expect("a time within reach")
    }

    fn boot(&mut self) -> BootInstant {
        BootInstant { boot: BootId(u128::from(self.number()) << 64 | u128::from(self.number())), millis: self.number() }
    }

    fn deadline(&mut self) -> Deadline {
        Deadline { from: self.boot(), wait_millis: self.number() }
    }

    fn mac(&mut self) -> Mac {
        let bytes = self.rng.next_u64().to_be_bytes();
        Mac([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]])
    }

    fn interface(&mut self) -> IfName {
        IfName::new(format!("e{:x}", self.fresh() & 0xfff_ffff_ffff)).expect("an interface's name")
    }

    fn host_name(&mut self) -> HostName {
        HostName::new(self.one_of(&["h1", "h2", "Host.three_3-x"])).expect("a host's name")
    }

    fn plugin(&mut self) -> PluginName {
        PluginName::new(self.one_of(&["netns", "veth", "docker"])).expect("a plugin's name")
    }

    fn budget(&mut self) -> Budget {
        Budget {
            attempts: self.small(),
            first_error: self.maybe(Self::text),
            last_error: self.maybe(Self::text),
            next_attempt: self.maybe(Self::deadline),
            given_up_at: self.maybe(Self::time),
        }
    }

    fn extra(&mut self) -> BTreeMap<String, serde_json::Value> {
        let value = serde_json::json!({ "number": self.number(), "text": self.text(), "list": [null, true, -1] });
        BTreeMap::from([(self.text(), value)])
    }

    fn blocked(&mut self) -> Blocked {
        let host = self.host_name();
        match self.up_to(3) {
            0 => Blocked::HostOffline { host },
            1 => Blocked::NoHost { tried: vec![(host, self.text()), (self.host_name(), self.text())] },
            2 => Blocked::ImageMissing { image: self.text(), host },
            _ => Blocked::Unsupported { what: self.text() },
        }
    }

    fn exit(&mut self) -> ExitRecord {
        ExitRecord {
            code: self.maybe(|r| r.small() as i32),
            signal: self.maybe(|r| r.small() as i32),
            at: self.maybe(Self::time),
        }
    }

    fn management(&mut self) -> ManagementAddresses {
        ManagementAddresses {
            ipv4: self.maybe(|r| r.small().into()),
            ipv6: self.maybe(|r| (u128::from(r.number()) << 64 | u128::from(r.number())).into()),
        }
    }

    pub(super) fn lab(&mut self) -> LabRecord {
        let number = self.fresh();
        let lab = LabRecord {
            id: LabId::from_u64(number),
            topology: Arc::new(Topology::new(LabName::new(format!("lab-{number}")).expect("a lab's name"), "/")),
            deleting: false,
            generation: 0,
            created_at: self.time(),
            updated_at: self.time(),
        };
        self.lab_after(&lab)
    }

    pub(super) fn lab_after(&mut self, lab: &LabRecord) -> LabRecord {
        let mut topology = Topology::new(lab.topology.name.clone(), PathBuf::from(format!("/labs/{}", self.text())));
        topology.prefix = self.maybe(Self::text);
        topology.management = self.maybe(|r| ManagementNetwork {
            name: r.text(),
            bridge: r.maybe(Self::interface),
            ipv4: "172.20.20.0/24".parse().ok(),
            ipv6: "3fff:172:20:20::/64".parse().ok(),
            ipv4_range: None,
            ipv6_range: None,
            ipv4_gateway: r.maybe(|r| std::net::Ipv4Addr::from(r.small()).into()),
            ipv6_gateway: None,
            mtu: r.maybe(Self::small),
            extra: r.extra(),
        });
        topology.settings.extra = self.extra();
        for number in 0..self.up_to(2) {
            let mut node = NodeSpec::new(NodeName::new(format!("n{number}")).expect("a node's name"), "linux");
            node.cmd = self.maybe(|r| vec![r.text(), r.text()]);
            node.env = BTreeMap::from([(self.text(), self.text())]);
            node.binds =
                vec![Bind { source: "a".into(), target: "/b c".into(), read_only: self.flag(), options: vec![] }];
            node.resources.cpu = self.maybe(Self::float);
            node.resources.memory = self.maybe(Self::number);
            node.extra = self.extra();
            topology.nodes.push(node);
        }
        LabRecord {
            topology: Arc::new(topology),
            deleting: self.flag(),
            generation: lab.generation + 1,
            updated_at: self.time(),
            ..lab.clone()
        }
    }

    pub(super) fn node(&mut self, lab: LabId) -> NodeRecord {
        let number = self.fresh();
        let node = NodeRecord {
            id: NodeId::from_u64(number),
            lab,
            name: NodeName::new(format!("n-{number}")).expect("a node's name"),
            desired: NodeIntent::Running,
            actual: NodeState::Undeployed,
            state_since: self.time(),
            provider: self.plugin(),
            host: None,
            instance: None,
            incarnation: 0,
            budget: Budget::default(),
            blocked: None,
            stale_since: None,
            ready: ReadyState::default(),
            configured: false,
            healthy_commands: None,
            exit: None,
            job: None,
            deadline: None,
            running_since: None,
            recreate: false,
            deleting: false,
            times: NodeTimes {
                created_at: self.time(),
                updated_at: self.time(),
                starting_started_at: None,
                stopping_started_at: None,
                boot_started_at: None,
            },
            generation: 0,
        };
        self.node_after(&node)
    }

    pub(super) fn node_after(&mut self, node: &NodeRecord) -> NodeRecord {
        let id = node.id;
        NodeRecord {
            id,
            lab: node.lab,
            name: node.name.clone(),
            desired: self.one_of(<NodeIntent as strum::VariantArray>::VARIANTS),
            actual: self.one_of(<NodeState as strum::VariantArray>::VARIANTS),
            state_since: self.time(),
            provider: self.plugin(),
            host: self.maybe(Self::host_name),
            instance: self.maybe(|r| NodeInstance {
                reference: InstanceRef { node: id, incarnation: r.number(), identifier: r.text() },
                management: r.management(),
            }),
            incarnation: self.number(),
            budget: self.budget(),
            blocked: self.maybe(Self::blocked),
            stale_since: self.maybe(Self::time),
            ready: ReadyState {
                ready: self.flag(),
                progress: self.maybe(|r| r.small() as u8),
                reason: self.maybe(Self::text),
                warning: self.maybe(Self::text),
            },
            configured: self.flag(),
            healthy_commands: self.maybe(|r| r.one_of(<StagePhase as strum::VariantArray>::VARIANTS)),
            exit: self.maybe(Self::exit),
            job: self.maybe(|r| JobId::from_u64(r.fresh())),
            deadline: self.maybe(Self::deadline),
            running_since: self.maybe(Self::boot),
            recreate: self.flag(),
            deleting: self.flag(),
            times: NodeTimes {
                created_at: node.times.created_at,
                updated_at: self.time(),
                starting_started_at: self.maybe(Self::time),
                stopping_started_at: self.maybe(Self::time),
                boot_started_at: self.maybe(Self::time),
            },
            generation: node.generation + 1,
        }
    }

    /// A link between two nodes, or sometimes between one and its host or nothing.
    pub(super) fn link(&mut self, lab: LabId, a: NodeId, b: NodeId) -> LinkRecord {
        let (near, far) = (self.interface(), self.interface());
        let name = |node: NodeId| NodeName::new(format!("n-{}", node.as_u64())).expect("a node's name");
        let (owner, endpoint, other) = match self.up_to(5) {
            0 => (EndOwner::Host, Endpoint::Host { interface: far.clone() }, None),
            1 => (EndOwner::Shared, Endpoint::Dummy, None),
            _ => (EndOwner::Node(b), Endpoint::node(name(b), far.clone()), Some(b)),
        };
        let key = LinkKey::new(LinkEnd::node(a, near.clone()), LinkEnd { owner, interface: far });
        let link = LinkRecord {
            id: LinkId::from_u64(self.fresh()),
            lab,
            key: key.expect("two ends"),
            spec: LinkSpec::new(Endpoint::node(name(a), near), endpoint),
            nodes: [Some(a), other],
            desired: LinkIntent::Up,
            actual: LinkState::Unknown,
            state_since: self.time(),
            backend: self.plugin(),
            host: None,
            identity: None,
            span: None,
            path_mtu: None,
            incarnation: 0,
            budget: Budget::default(),
            verified_at: None,
            applied: None,
            carrier: [Some(false); 2],
            next_backend: None,
            parked: None,
            rebuild: false,
            oper: [OperState::new(None); 2],
            deadline: None,
            deleting: false,
            created_at: self.time(),
            updated_at: self.time(),
            generation: 0,
        };
        self.link_after(&link)
    }

    pub(super) fn link_after(&mut self, link: &LinkRecord) -> LinkRecord {
        LinkRecord {
            id: link.id,
            lab: link.lab,
            key: link.key.clone(),
            spec: LinkSpec { attrs: self.attrs(), extra: self.extra(), ..link.spec.clone() },
            nodes: link.nodes,
            desired: self.one_of(<LinkIntent as strum::VariantArray>::VARIANTS),
            actual: self.one_of(<LinkState as strum::VariantArray>::VARIANTS),
            state_since: self.time(),
            backend: self.plugin(),
            host: self.maybe(Self::host_name),
            identity: self.maybe(|r| r.identity(link)),
            span: self.maybe(|r| r.span(link)),
            parked: self.maybe(Self::parked),
            path_mtu: self.maybe(Self::small),
            incarnation: self.number(),
            budget: self.budget(),
            verified_at: self.maybe(Self::time),
            applied: self.maybe(Self::attrs),
            carrier: [self.maybe(Self::flag), self.maybe(Self::flag)],
            next_backend: self.maybe(Self::plugin),
            rebuild: self.flag(),
            oper: [(); 2].map(|()| OperState { up: self.flag(), reason: self.reason(), epoch: self.number() }),
            deadline: self.maybe(Self::deadline),
            deleting: self.flag(),
            created_at: link.created_at,
            updated_at: self.time(),
            generation: link.generation + 1,
        }
    }

    fn span(&mut self, link: &LinkRecord) -> Span {
        Span { host: self.host_name(), vni: self.small(), identity: self.maybe(|r| r.identity(link)) }
    }

    fn reason(&mut self) -> Option<OperReason> {
        self.maybe(|r| r.one_of(<OperReason as strum::VariantArray>::VARIANTS))
    }

    fn attrs(&mut self) -> LinkAttrs {
        LinkAttrs {
            mtu: self.small(),
            rate: self.maybe(Self::number),
            delay: self.maybe(Self::small),
            jitter: self.maybe(Self::small),
            loss: self.maybe(Self::float),
            ..LinkAttrs::default()
        }
    }

    fn identity(&mut self, link: &LinkRecord) -> LinkIdentity {
        LinkIdentity {
            backend: self.plugin(),
            link: link.id,
            incarnation: self.number(),
            boot: self.boot().boot,
            a: self.end(),
            b: self.maybe(Self::end),
            detail: BTreeMap::from([(self.text(), self.text())]),
        }
    }

    fn parked(&mut self) -> Parked {
        let end = |r: &mut Self| ParkedEnd { end: r.end(), attrs: r.attrs() };
        Parked { incarnation: self.number(), ends: [self.maybe(end), self.maybe(end)] }
    }

    fn end(&mut self) -> EndIdentity {
        let access = NsAccess::Broker { socket: "/run/broker".into(), name: self.text() };
        let place = AttachKind::Namespace(NsRef { access, cookie: self.number(), boot: self.boot().boot });
        let place = if self.flag() { place } else { AttachKind::HostNet };
        let point = AttachPoint {
            node: self.maybe(|r| NodeId::from_u64(r.number())),
            incarnation: self.number(),
            ifname: self.interface(),
            mac: self.mac(),
            mtu: self.small(),
            place,
        };
        let (namespace, ifindex, mac) = (self.number(), self.small(), self.mac());
        EndIdentity { point, namespace, ifindex, mac, plugged: self.maybe(Self::plugged) }
    }

    fn plugged(&mut self) -> SwitchPort {
        SwitchPort { bridge: self.text(), port: self.text(), vlan: self.maybe(|r| r.small() as u16) }
    }

    pub(super) fn job(&mut self, lab: LabId, nodes: &[NodeId]) -> JobRecord {
        let action = match self.up_to(2) {
            0 => JobAction::Node { node: nodes[0] },
            1 => JobAction::Bulk { nodes: nodes.to_vec() },
            _ => JobAction::Host { host: self.host_name(), nodes: nodes.to_vec() },
        };
        let job = JobRecord {
            id: JobId::from_u64(self.fresh()),
            lab,
            action,
            intent: NodeIntent::Running,
            state: JobState::Pending,
            owner: self.text(),
            epoch: self.up_to(9),
            done: 0,
            failed: 0,
            log: Vec::new(),
            created_at: self.time(),
            finished_at: None,
            generation: 0,
        };
        self.job_after(&job)
    }

    pub(super) fn job_after(&mut self, job: &JobRecord) -> JobRecord {
        JobRecord {
            intent: self.one_of(<NodeIntent as strum::VariantArray>::VARIANTS),
            state: self.one_of(<JobState as strum::VariantArray>::VARIANTS),
            done: self.small(),
            failed: self.small(),
            log: (0..self.up_to(3)).map(|_| self.text()).collect(),
            finished_at: self.maybe(Self::time),
            generation: job.generation + 1,
            ..job.clone()
        }
    }

    pub(super) fn host(&mut self) -> HostRecord {
        let host = HostRecord {
            name: HostName::new(format!("host-{}", self.fresh())).expect("a host's name"),
            state: HostState::Unknown,
            state_since: self.time(),
            capacity: None,
            generation: 0,
        };
        self.host_after(&host)
    }

    pub(super) fn host_after(&mut self, host: &HostRecord) -> HostRecord {
        HostRecord {
            name: host.name.clone(),
            state: self.one_of(<HostState as strum::VariantArray>::VARIANTS),
            state_since: self.time(),
            capacity: self.maybe(|r| Capacity { memory: r.number(), cpu: r.float() }),
            generation: host.generation + 1,
        }
    }

    pub(super) fn audit_row(&mut self, seq: u64) -> AuditRow {
        use {AuditAction as A, AuditResult as R, SubjectKind as S, Trigger as T};
        AuditRow {
            seq,
            at: self.time(),
            subject: self.one_of(&[S::Lab, S::Node, S::Link, S::Job, S::Host, S::Object]),
            id: format!("id-{}", self.up_to(30)),
            name: self.text(),
            lab: self.maybe(|r| LabId::from_u64(r.up_to(5))),
            action: self.one_of(&[
                A::Created,
                A::StateChanged,
                A::DesiredChanged,
                A::Placed,
                A::Collected,
                A::Deleted,
                A::Refused,
            ]),
            from: self.maybe(Self::text),
            to: self.maybe(Self::text),
            trigger: self.one_of(&[
                T::UserAction,
                T::Enforcement,
                T::Sync,
                T::AgentResponse,
                T::NodeReport,
                T::Placement,
                T::Policy,
                T::Drift,
            ]),
            result: self.one_of(&[R::Success, R::Rejected, R::Failed]),
            decided_by: self.text(),
            reason: self.maybe(Self::text),
            error: self.maybe(Self::text),
            attempt: self.maybe(Self::small),
            job: self.maybe(|r| JobId::from_u64(r.number())),
            metadata: if self.flag() { serde_json::Value::Null } else { serde_json::json!(self.extra()) },
        }
    }

    pub(super) fn event(&mut self, seq: u64) -> Event {
        // An entry of the feed need not be about a row that exists.
        let lab = self.lab();
        let (a, b) = (self.node(lab.id), self.node(lab.id));
        let body = match self.up_to(7) {
            0 => EventBody::Lab(Box::new(LabView::new(&lab, LabState::Running, self.small()))),
            1 => EventBody::LabGone { id: lab.id },
            2 => {
                EventBody::Node(Box::new(NodeView::new(&a, lab.topology.nodes.first(), &EnforcementPolicy::default())))
            }
            3 => EventBody::NodeGone { id: a.id },
            4 => EventBody::Link(Box::new(LinkView::new(&self.link(lab.id, a.id, b.id)))),
            5 => EventBody::LinkGone { id: LinkId::from_u64(self.number()) },
            6 => EventBody::Job(Box::new(JobView::new(&self.job(lab.id, &[a.id, b.id])))),
            _ => EventBody::JobGone { id: JobId::from_u64(self.number()) },
        };
        Event { seq, at: self.time(), lab: self.maybe(|_| lab.id), body }
    }
}
